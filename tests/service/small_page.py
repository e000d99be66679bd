"""Review on a page of its own, in plain WSGI: what a front end has to write when it holds no rule of precept."""

import secrets
from html import escape
from urllib.parse import parse_qs

from constitution import loading
from constitution.errors import UserError
from service.actions import ratify, review
from service.queries import history
from service.queries.lineage import trace


def app(store, run=""):
    """`REMOTE_USER` is who is signed in."""

    def page(environ, start_response):
        who, path = environ["REMOTE_USER"], environ["PATH_INFO"]
        try:
            if environ["REQUEST_METHOD"] == "POST":
                form = parse_qs(environ["wsgi.input"].read().decode(), keep_blank_values=True)
                _act(store, run, who, path, {name: values[0] for name, values in form.items()})
                start_response("303 See Other", [("Location", "/")])
                return [b""]
            status, body = "200 OK", {"/": _pair, "/history": _history}[path](store, run, who)
        except UserError as error:
            status, body = "409 Conflict", f"<p>{escape(str(error))}</p>"
        start_response(status, [("Content-Type", "text/html; charset=utf-8")])
        return [body.encode()]

    return page


def _act(store, run, who, path, form):
    if path == "/answer":
        review.answer(store, who, form["token"], form["key"], form["choice"], form.get("reason", ""))
    elif path == "/undo":
        review.undo(store, run, who, form["key"])
    elif path == "/ratify":
        ratify.ratify(store, loading.parse(form["text"]), store.ratified(), who, form["message"])
    elif path == "/promote":
        store.promote(store.checkpoint(form["checkpoint"]), who, form["why"], form["key"])


def _pair(store, run, who):
    item, key = review.next_item(store, run, who), secrets.token_hex(8)
    if item is None:
        return "<p>nothing is left</p>"
    hidden = f"<input name=token value={escape(item.token)}><input name=key value={key}>"
    texts = "".join(f"<p>{escape(text)}</p>" for text in (*(m.content for m in item.dialogue), item.a, item.b))
    return f"<h1>{item.place} of {item.answered + item.left}</h1>{texts}<form action=/answer>{hidden}</form>"


def _history(store, run, who):
    rows = [f"{a.reviewer} answered {a.choice} {a.reason}" for a in review.answers(store, run, who)]
    rows += [f"{e.amendment.who} ratified {e.amendment.number}: {e.amendment.message}" for e in history.log(store)]
    rows += [f"{line.amendment.who} wrote {line.text}" for line in history.blame(store)]
    made = trace(store, "promoted").nodes
    rows += [f"{node.fact('by')} {node.kind} {node.fact('why')}" for node in made if node.fact("by")]
    return "".join(f"<li>{escape(row)}" for row in rows)

"""The constitution as JSON: what is in force, one's draft, proposals and amendments; the shapes are the service's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from constitution.loading import MAX_BYTES
from flows import announcing
from service.actions import drafts
from service.actions import restore as restoring
from service.actions.drafts import Done
from service.queries import checked, drafting, history, in_force, preview
from storage.proposals import Proposal
from web.answering import AsciiJSON
from web.pages.constitution import looking
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter(prefix="/api/v1/constitution", default_response_class=AsciiJSON, tags=["constitution"])
Reader = Annotated[User, Depends(needs(Right.review))]
Editor = Annotated[User, Depends(needs(Right.edit))]
Approver = Annotated[User, Depends(needs(Right.approve))]
Json = dict[str, Any]
MOST = 2 * MAX_BYTES  # of what is read at all; what is larger than a constitution is told of by line


class Text(BaseModel):
    text: str = Field(max_length=MOST)


class Kept(Text):
    seen: str | None = Field(None, description="The digest of the draft that this text was made from; null: over any.")


class Why(BaseModel):
    why: str = Field("", max_length=20_000)


class Shown(Why):
    digest: str = Field(description="Of the text that was shown, and is meant.")


class Proposing(Shown):
    key: str = Field(min_length=1, max_length=200, description="Of this submission: the same again is one proposal.")


class Restoring(Why):
    amendment: str = Field(description="A number, or the first digits of a version.")
    seen: str = Field(description="The event of the amendment that was shown as in force.")


@router.get("")
def read(user: Reader, at: Wired, revision: str = "ratified") -> Json:
    return in_force.in_force(looking(at), revision).as_dict()


@router.get("/labels")
def labels(user: Reader, at: Wired, revision: str = "ratified", run: str = "") -> Json:
    return in_force.decides(looking(at), revision, run).as_dict()


@router.get("/blame")
def blame(user: Reader, at: Wired, revision: str = "ratified") -> list[Json]:
    return [line.as_dict() for line in history.blame(at.store, revision)]


@router.get("/log")
def log(user: Reader, at: Wired) -> list[Json]:
    return [entry.as_dict() for entry in history.log(at.store)]


@router.get("/differences")
def differences(user: Reader, at: Wired, old: str, new: str = "ratified") -> Json:
    return history.apart(at.store, old, new)[2].as_dict()


@router.post("/check")
def check(user: Reader, at: Wired, said: Text) -> Json:
    """The mistakes of a text, by line. Nothing is kept."""
    return checked.check(said.text, "the draft", at.settings).as_dict()


@router.get("/draft")
def draft(user: Editor, at: Wired) -> Json:
    return drafting.drafting(at.store, at.settings, user.name).as_dict()


@router.put("/draft")
def keep(user: Editor, at: Wired, said: Kept) -> Json:
    """Keep one's draft, mistakes and all, and say which they are."""
    drafts.keep(at.store, user.name, said.text, seen=said.seen)
    return drafting.drafting(at.store, at.settings, user.name).as_dict()


@router.delete("/draft")
def discard(user: Editor, at: Wired) -> Json:
    drafts.discard(at.store, user.name)
    return drafting.drafting(at.store, at.settings, user.name).as_dict()


@router.post("/draft/merge")
def merge(user: Editor, at: Wired) -> Json:
    drafts.merge(at.store, user.name)
    return drafting.drafting(at.store, at.settings, user.name).as_dict()


@router.get("/draft/preview")
def previewed(user: Editor, at: Wired, run: str = "") -> Json:
    mine = drafts.standing(at.store, user.name)
    base = drafts.amendment_of(at.store, mine.base)
    return preview.preview(looking(at), drafts.read(mine.text), user.name, base=base or "", run=run).as_dict()


@router.get("/proposals")
def proposals(user: Reader, at: Wired) -> list[Json]:
    return [_proposal(p) for p in at.store.proposed_amendments()]


@router.post("/proposals")
def propose(user: Editor, at: Wired, said: Proposing) -> Json:
    return _proposal(drafts.propose(at.store, user.name, said.digest, said.why, said.key))


@router.get("/proposals/{id}")
def proposal(user: Reader, at: Wired, id: str) -> Json:
    return _proposal(drafts.find(at.store, id))


@router.post("/proposals/{id}/ratify")
def accept(user: Approver, at: Wired, id: str, said: Shown) -> Json:
    return _announced(at, drafts.accept(at.store, user.name, id, said.digest, said.why, _file(at)))


@router.post("/proposals/{id}/decline")
def decline(user: Approver, at: Wired, id: str, said: Why) -> Json:
    return _proposal(drafts.decline(at.store, user.name, id, said.why))


@router.post("/proposals/{id}/withdraw")
def withdraw(user: Editor, at: Wired, id: str) -> Json:
    return _proposal(drafts.withdraw(at.store, user.name, id))


@router.post("/ratify")
def ratify(user: Approver, at: Wired, said: Shown) -> Json:
    return _announced(at, drafts.ratify_draft(at.store, user.name, said.digest, said.why, _file(at)))


@router.post("/restore")
def restore(user: Approver, at: Wired, said: Restoring) -> Json:
    done = Done(*restoring.put_back(at.store, said.amendment, _file(at), user.name, said.why, said.seen))
    return _announced(at, done)


def _file(at: Wired) -> Path:
    return Path(at.settings.constitution)


def _announced(at: Wired, done: Done) -> Json:
    told = announcing.ratified(done.amendment, at.settings.store.get_secret_value())
    return {**done.as_dict(), "server_told": told}


def _proposal(found: Proposal) -> Json:
    decided = found.decided
    return {
        "id": found.id, "who": found.who, "at": found.event.at, "why": found.message, "text": found.text,
        "version": found.event.payload["version"], "digest": found.digest, "made_from": found.base,
        "state": found.state,
        "decided": {"who": decided.who, "at": decided.at, **decided.payload} if decided else None,
    }  # fmt: skip

// The editor of the constitution's text: keeps the draft as one types, and shows each mistake under its line.
// Without scripts the page does the same by its button "Check".
const form = document.querySelector("form[data-draft]");
const area = form?.querySelector("textarea");
const gutter = form?.querySelector("[data-gutter]");
const bubble = form?.querySelector("[data-bubble]");
const list = document.querySelector("[data-problems]");
const state = document.querySelector("[data-state]");
const WAIT = 450; // milliseconds without a key before the text is sent

let timer = 0;
let sending = false;
let again = false;
let stopped = false; // another window has another text: nothing is kept until a person decides
let problems = [];

const said = (tag, text, cls = "") => {
  const node = document.createElement(tag);
  node.textContent = text; // never HTML
  if (cls) node.className = cls;
  return node;
};

const lines = () => area.value.split("\n");

const number = () => {
  const wrong = new Set(problems.map((p) => p.line));
  const count = lines().length;
  area.rows = Math.max(count + 1, 12);
  gutter.replaceChildren(
    ...Array.from({ length: count }, (_, at) => said("span", String(at + 1), wrong.has(at + 1) ? "wrong" : "")),
  );
};

const caret = () => area.value.slice(0, area.selectionStart).split("\n").length;

// Under the line where the caret is, if something is wrong with it; else under the first that is wrong.
const under = () => {
  const here = problems.find((p) => p.line === caret()) ?? problems.find((p) => p.line > 0);
  bubble.hidden = !here;
  if (!here) return;
  bubble.replaceChildren(said("b", `Line ${here.line}: ${here.message}`), said("span", ` ${here.hint}`));
  const style = getComputedStyle(area);
  bubble.style.top = `${parseFloat(style.paddingTop) + here.line * parseFloat(style.lineHeight)}px`;
};

const go = (line, column) => {
  const before = lines().slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  const at = before + Math.max(0, column - 1);
  area.focus();
  area.setSelectionRange(at, at);
  const top = area.getBoundingClientRect().top + scrollY + line * parseFloat(getComputedStyle(area).lineHeight);
  scrollTo({ top: Math.max(0, top - innerHeight / 2) });
  under();
};

const show = (found) => {
  problems = found.problems;
  const rows = [
    ...found.problems.map((p) => ["bad", p]),
    ...(found.notices ?? []).map((p) => ["warn", p]),
  ].map(([kind, p]) => {
    const row = document.createElement("li");
    const button = said("button", p.line ? `Line ${p.line}` : "The file", `badge ${kind}`);
    button.type = "button";
    button.addEventListener("click", () => go(p.line || 1, p.column || 1));
    row.append(button, said("span", ` ${p.message} `), said("span", p.hint, "quiet"));
    return row;
  });
  list.replaceChildren(...rows);
  const count = found.problems.length;
  list.previousElementSibling.textContent =
    count ? `${count} ${count === 1 ? "mistake" : "mistakes"}` : "No mistake";
  number();
  under();
};

const keep = async () => {
  if (stopped) return;
  if (sending) {
    again = true;
    return;
  }
  sending = true;
  state.textContent = "Keeping…";
  try {
    const answer = await fetch(form.dataset.keep, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ text: area.value, seen: form.elements.seen.value }),
    });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) {
      form.elements.seen.value = found.digest ?? "";
      state.textContent = found.digest
        ? `Kept at ${(found.changed_at ?? "").slice(11, 16)} UTC`
        : "As it is in force: there is no draft";
      show(found);
      if (found.ok) document.body.dispatchEvent(new Event("draft-kept"));
    } else {
      stopped = answer.status === 409 || answer.status === 422;
      state.textContent = found.error ?? found.detail ?? `Not kept: the server answered ${answer.status}`;
      state.classList.add("bad");
    }
  } catch {
    state.textContent = "Not kept: the server does not answer. It is tried again.";
    timer = setTimeout(keep, 5000);
  } finally {
    sending = false;
    if (again) {
      again = false;
      keep();
    }
  }
};

if (form && area && gutter && bubble && list && state) {
  area.addEventListener("input", () => {
    number();
    bubble.hidden = true;
    state.textContent = "Changed";
    clearTimeout(timer);
    timer = setTimeout(keep, WAIT);
  });
  for (const name of ["keyup", "click"]) area.addEventListener(name, under);
  area.addEventListener("keydown", (event) => {
    // Tab leaves the field, as everywhere; Ctrl+S keeps the draft now.
    if ((event.ctrlKey || event.metaKey) && event.key === "s") {
      event.preventDefault();
      clearTimeout(timer);
      keep();
    }
  });
  addEventListener("beforeunload", (event) => {
    if (state.textContent === "Changed" || sending) event.preventDefault();
  });
  form.addEventListener("submit", () => {
    clearTimeout(timer);
    state.textContent = "";
  });
  problems = JSON.parse(list.dataset.problems || "[]");
  number();
  under();
}

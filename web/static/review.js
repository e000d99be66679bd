// The review page with scripts: forms are sent without leaving the page, and what could not be sent is kept and sent
// again under the same key, so that no answer is lost and none is kept twice. The page works without this file.

const desk = document.getElementById("review");
const away = document.getElementById("away");
const STORED = `precept.review.${desk.dataset.user}`;
const HEADERS = { "HX-Request": "true" };
const KEEP_EVERY = 4 * 60 * 1000;
let sending = false;

const token = () => desk.querySelector("#answer [name=token]")?.value;

function put(html) {
  desk.innerHTML = html; // made by our own server, where every text is escaped
  const question = desk.querySelector(".review-question, .empty h1");
  if (question) question.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function tell(text, kind) {
  const note = document.createElement("p");
  note.className = `notice ${kind}`;
  note.textContent = text;
  desk.querySelector(".review-told")?.replaceChildren(note);
}

function wait(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

function busy(is) {
  sending = is;
  desk.toggleAttribute("aria-busy", is);
}

// Ask until the server answers; `what` is said meanwhile.
async function patiently(ask) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    try {
      const reply = await ask();
      if (reply.status < 500) {
        const was = !away.hidden;
        away.hidden = true;
        return [reply, was];
      }
    } catch {
      // no connection: as a server that fails
    }
    away.hidden = false;
    await wait(pause);
  }
}

// After a sign-in that has run out the server leads to another page.
function elsewhere(reply) {
  if (reply.status !== 401 && !(reply.redirected && !new URL(reply.url).pathname.startsWith("/review"))) return false;
  location.assign(location.href);
  return true;
}

async function send(action, body) {
  if (sending) return;
  busy(true);
  try {
    localStorage.setItem(STORED, JSON.stringify({ action, body }));
  } catch {
    // too long to be kept in the browser: it is sent all the same
  }
  try {
    const [reply, wasAway] = await patiently(() =>
      fetch(action, { method: "POST", headers: { ...HEADERS, "Content-Type": "application/x-www-form-urlencoded" }, body }),
    );
    if (elsewhere(reply)) return; // what was not kept stays stored, and is sent after the sign-in
    localStorage.removeItem(STORED);
    const html = await reply.text();
    if (html.includes("review-head")) put(html);
    else await fresh();
    if (wasAway && reply.ok) tell("The server is back, and your answer is kept.", "good");
  } finally {
    busy(false);
  }
}

async function fresh() {
  const [reply] = await patiently(() => fetch(location.href, { headers: HEADERS }));
  if (!elsewhere(reply)) put(await reply.text());
}

desk.addEventListener("submit", (event) => {
  event.preventDefault();
  const data = new FormData(event.target, event.submitter);
  send(event.target.getAttribute("action"), new URLSearchParams(data).toString());
});

desk.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-differences]");
  if (link) {
    event.preventDefault();
    const place = desk.querySelector("#differences");
    if (place.childElementCount) return place.replaceChildren();
    const [reply] = await patiently(() => fetch(link.href, { headers: HEADERS }));
    place.innerHTML = reply.ok ? await reply.text() : "";
    return place.scrollIntoView({ block: "nearest" });
  }
  const again = event.target.closest("input[type=radio]");
  if (again && again === chosen) again.checked = false; // a second press takes the choice of a principle back
  if (again) chosen = again.checked ? again : null;
});
let chosen = null;

// A reason or a rewrite: its key opens it and goes there; Escape comes back to the keys.
desk.addEventListener(
  "toggle",
  (event) => {
    if (event.target.open) event.target.querySelector("textarea")?.focus();
  },
  true,
);
desk.addEventListener("keydown", (event) => {
  if (event.target.tagName === "TEXTAREA" && event.key === "Escape") {
    event.target.blur();
    event.stopPropagation();
  }
});

// The pair is held while the page is open, and given back when it is closed.
setInterval(() => {
  if (document.visibilityState === "visible" && token() && !sending)
    fetch("/review/keep", { method: "POST", headers: HEADERS, body: new URLSearchParams({ token: token() }) })
      .then((reply) => reply.status === 422 && fresh())
      .catch(() => {});
}, KEEP_EVERY);
// Two tabs of one person show one pair under one hold: the last of them that is closed gives it back.
const tabs = new BroadcastChannel(STORED);
const me = crypto.randomUUID?.() ?? String(Math.random());
const others = new Set();
tabs.onmessage = ({ data }) => {
  if (data.kind === "bye") others.delete(data.from);
  else others.add(data.from);
  if (data.kind === "hello") tabs.postMessage({ kind: "here", from: me });
};
tabs.postMessage({ kind: "hello", from: me });
addEventListener("pagehide", () => {
  tabs.postMessage({ kind: "bye", from: me });
  if (token() && !sending && !others.size) navigator.sendBeacon("/review/release", new URLSearchParams({ token: token() }));
});
addEventListener("pageshow", (event) => event.persisted && fresh());

// What a page that was closed could not send.
try {
  const left = JSON.parse(localStorage.getItem(STORED));
  if (left && left.action.startsWith("/review/")) send(left.action, left.body);
} catch {
  localStorage.removeItem(STORED);
}

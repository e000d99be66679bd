// Keys of every page: g and a letter goes somewhere, ? lists the keys, a letter presses what says data-key="letter".
// Nothing is caught while somebody types, nor with Ctrl, Alt or Meta.
const WRITTEN = "textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=button], [type=submit])";
const typing = (element) => element.closest(WRITTEN) !== null;
let going = 0;

function list() {
  const dialog = document.getElementById("keys");
  const all = dialog.querySelector("dl");
  all.replaceChildren();
  const add = (key, what) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const kbd = document.createElement("kbd");
    const told = document.createElement("dd");
    kbd.textContent = key;
    told.textContent = what;
    term.append(kbd);
    row.append(term, told);
    all.append(row);
  };
  for (const one of document.querySelectorAll("[data-key]"))
    add(one.dataset.key.toUpperCase(), one.dataset.what || one.getAttribute("aria-label") || one.textContent.trim());
  for (const one of document.querySelectorAll("[data-go]")) add(`g ${one.dataset.go}`, one.textContent.trim());
  add("?", "these keys");
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if (Date.now() - going < 1500) {
    going = 0;
    const link = document.querySelector(`[data-go="${CSS.escape(key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
    return;
  }
  if (event.key === "?") {
    event.preventDefault();
    list();
    return;
  }
  const pressed = [...document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find((one) => !one.disabled);
  if (pressed) {
    event.preventDefault();
    if (pressed.matches(WRITTEN)) pressed.focus();
    else pressed.click();
  } else if (key === "g") going = Date.now();
});

// A command or a link that is to be sent somewhere: a button beside it copies it.
for (const code of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  code.after(button);
}

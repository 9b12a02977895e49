// The review page: keys that move, and pairs that are uncovered one at a time. No key ever votes.
"use strict";

const keys = document.getElementById("keys");
const shown = document.getElementById("pair-shown");

function rows() {
  const here = document.activeElement?.closest("section");
  const inside = here ? [...here.querySelectorAll("[data-row]")] : [];
  return inside.length ? inside : [...document.querySelectorAll("[data-row]")];
}

function move(step) {
  const all = rows();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function goTo(id) {
  const section = document.getElementById(id);
  section?.scrollIntoView();
  section?.querySelector("[data-row], input:not([type=hidden]):not(:disabled), button")?.focus();
}

const actions = {
  j: () => move(1),
  k: () => move(-1),
  g: () => goTo("gates"),
  p: () => goTo("pairs"),
  v: () => goTo("vote"),
  "?": () => keys?.showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=radio]), textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) { return; }
  event.preventDefault();
  actions[event.key]();
});

async function uncover(event) {
  event.preventDefault();
  const form = event.currentTarget;
  for (const other of document.querySelectorAll("[data-pair] .cover")) { other.removeAttribute("aria-current"); }
  shown.replaceChildren(Object.assign(document.createElement("p"), { className: "loading", textContent: "Uncovering" }));
  try {
    const answer = await fetch(form.action, {
      method: "POST", body: new FormData(form), credentials: "same-origin", headers: { Accept: "text/html" },
    });
    if (answer.redirected) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const pair = page.getElementById("pair");
    shown.replaceChildren(pair ?? page.getElementById("main"));
    form.querySelector(".cover").setAttribute("aria-current", "true");
    shown.scrollIntoView({ block: "nearest" });
  } catch {
    shown.replaceChildren(Object.assign(document.createElement("p"), { className: "error", textContent: "The service did not answer. Try again." }));
  }
}

for (const form of document.querySelectorAll("[data-pair]")) { form.addEventListener("submit", uncover); }

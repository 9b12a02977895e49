// Load the page again every few seconds and swap its content, until the server stops asking for it.
"use strict";
const main = document.getElementById("main");
async function refresh() {
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) { location.reload(); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...fresh.getElementById("main").childNodes);
    if (!fresh.getElementById("main").dataset.live) { return; }
  } catch {
    // The service restarts: look again.
  }
  setTimeout(refresh, 1000 * Number(main.dataset.live));
}
setTimeout(refresh, 1000 * Number(main.dataset.live));

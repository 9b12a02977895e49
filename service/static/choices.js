// Show only the part of a form that belongs to the chosen radio button: data-when holds its value.
"use strict";
function follow() {
  for (const part of document.querySelectorAll("[data-when]")) {
    const chosen = [...document.querySelectorAll("input[type=radio]:checked")].map((one) => one.value);
    part.hidden = !chosen.includes(part.dataset.when);
  }
}
document.addEventListener("change", follow);
follow();

// The training form: only the chosen generator's settings, and what would be left of the budget.
"use strict";
const form = document.getElementById("training");
const after = document.getElementById("after");
function follow() {
  const chosen = form.elements.generator.value;
  for (const part of form.querySelectorAll("[data-generator]")) {
    part.hidden = part.disabled = part.dataset.generator !== chosen;
  }
  const wanted = Number(form.elements.epsilon.value);
  const left = Number(after.dataset.left);
  const rest = Number((left - wanted).toPrecision(4));
  after.textContent = !wanted ? "" : rest < 0
    ? `This run would take ${wanted}, more than the ${Number(left.toPrecision(4))} that is left.`
    : `After this run, ${rest} would be left.`;
  after.classList.toggle("warn", rest < 0);
}
form.addEventListener("input", follow);
follow();

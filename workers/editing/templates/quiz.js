"use strict";
// One case after the other: an answer, whether it was right, and the score so far. Keys 1-9 answer, Enter goes on.
const byId = (id) => document.getElementById(id);
let at = 0;
let right = 0;
let answered = false;
let distance = 0;

function show() {
  const item = QUIZ.cases[at];
  answered = false;
  byId("picture").src = item.file;
  byId("said").textContent = "";
  byId("next").hidden = true;
  byId("progress").textContent = `Case ${at + 1} of ${QUIZ.cases.length}. ${right} right so far.`;
  const choices = byId("choices");
  choices.replaceChildren();
  QUIZ.labels.forEach((label, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => answer(index));
    choices.append(button);
  });
}

function answer(index) {
  if (answered) return;
  answered = true;
  const item = QUIZ.cases[at];
  const isRight = index === item.right;
  right += isRight ? 1 : 0;
  distance += Math.abs(index - item.right);
  byId("said").textContent = isRight
    ? "Right."
    : `It was made as ${QUIZ.labels[item.right]}; you said ${QUIZ.labels[index]}.`;
  [...byId("choices").children].forEach((button, place) => {
    button.disabled = true;
    if (place === item.right) button.className = "right";
    else if (place === index) button.className = "wrong";
  });
  byId("next").hidden = false;
  byId("next").textContent = at + 1 < QUIZ.cases.length ? "Next case" : "Score";
  byId("next").focus();
}

function next() {
  at += 1;
  if (at < QUIZ.cases.length) {
    show();
    return;
  }
  document.querySelector("figure").hidden = true;
  byId("choices").replaceChildren();
  byId("next").hidden = true;
  const count = QUIZ.cases.length;
  byId("said").textContent =
    `${right} of ${count} right (${Math.round((100 * right) / count)} %). ` +
    `On average ${(distance / count).toFixed(2)} steps from the answer.`;
  byId("progress").textContent = "Load the page again to start over.";
}

byId("next").addEventListener("click", next);
document.addEventListener("keydown", (event) => {
  const index = Number(event.key) - 1;
  if (!answered && index >= 0 && index < QUIZ.labels.length) answer(index);
});
show();

// Without this script every example is shown and nothing can be copied by a button.
"use strict";

for (const button of document.querySelectorAll("[data-copies]")) {
  const source = document.getElementById(button.dataset.copies);
  if (!source || !navigator.clipboard) continue;
  button.hidden = false;
  const label = button.firstChild;
  const words = label.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      label.textContent = "Copied";
    } catch {
      label.textContent = "Not allowed";
    }
    setTimeout(() => { label.textContent = words; }, 2000);
  });
}

for (const box of document.querySelectorAll(".switch")) {
  const panels = [...box.querySelectorAll("[data-tab]")];
  const list = document.createElement("div");
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", box.dataset.label);
  const tabs = panels.map((panel, index) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = panel.dataset.tab;
    tab.id = `tab-${index}`;
    panel.id = `panel-${index}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    panel.querySelector("h3").hidden = true;
    list.append(tab);
    return tab;
  });
  const choose = (chosen, focus) => {
    tabs.forEach((tab, index) => {
      const here = index === chosen;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
      panels[index].hidden = !here;
    });
    if (focus) tabs[chosen].focus();
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(index, false));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        event.preventDefault();
        choose((index + step + tabs.length) % tabs.length, true);
      }
    });
  });
  box.prepend(list);
  choose(0, false);
}

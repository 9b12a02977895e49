// The viewer: window and level, inversion and zoom on a canvas; an answer from the keyboard.
// Without this script the plain picture and form do the same work.
"use strict";

(() => {
  const form = document.querySelector("[data-answer]");
  const status = document.querySelector("[data-status]");
  if (!form) return;
  const start = { level: 128, window: 256, zoom: 1, x: 0, y: 0, inverted: false };
  const look = { ...start };
  const sliders = {
    level: document.querySelector("[data-level]"),
    window: document.querySelector("[data-window]"),
    zoom: document.querySelector("[data-zoom]"),
  };
  const invertButton = document.querySelector("[data-invert]");
  const views = [...document.querySelectorAll("[data-viewer]")].map(makeView);

  function makeView(figure) {
    const view = { figure, picture: figure.querySelector("img"), canvas: null, source: null, shown: null };
    const ready = () => {
      const { naturalWidth: width, naturalHeight: height } = view.picture;
      if (!width) return;
      const source = document.createElement("canvas");
      source.width = width;
      source.height = height;
      const context = source.getContext("2d", { willReadFrequently: true });
      context.drawImage(view.picture, 0, 0);
      view.source = context.getImageData(0, 0, width, height);
      view.shown = source;
      view.canvas = document.createElement("canvas");
      view.canvas.setAttribute("aria-hidden", "true");
      figure.append(view.canvas);
      figure.classList.add("drawn");
      listen(view.canvas);
      tone(view);
      draw(view);
    };
    if (view.picture.complete) ready();
    else view.picture.addEventListener("load", ready);
    view.picture.addEventListener("error", () => say("The picture could not be loaded. Load the page again."));
    return view;
  }

  function tone(view) {
    if (!view.source) return;
    const table = new Uint8ClampedArray(256);
    const low = look.level - look.window / 2;
    for (let value = 0; value < 256; value += 1) {
      const grey = ((value - low) / look.window) * 255;
      table[value] = look.inverted ? 255 - Math.min(255, Math.max(0, grey)) : grey;
    }
    const context = view.shown.getContext("2d");
    const out = context.createImageData(view.shown.width, view.shown.height);
    for (let at = 0; at < view.source.data.length; at += 4) {
      const grey = table[view.source.data[at]];
      out.data[at] = out.data[at + 1] = out.data[at + 2] = grey;
      out.data[at + 3] = 255;
    }
    context.putImageData(out, 0, 0);
  }

  function draw(view) {
    if (!view.canvas) return;
    const box = view.figure.getBoundingClientRect();
    const dense = window.devicePixelRatio || 1;
    view.canvas.width = Math.max(1, Math.round(box.width * dense));
    view.canvas.height = Math.max(1, Math.round(box.height * dense));
    const context = view.canvas.getContext("2d");
    const fit = Math.min(view.canvas.width / view.shown.width, view.canvas.height / view.shown.height);
    const scale = fit * look.zoom;
    const width = view.shown.width * scale;
    const height = view.shown.height * scale;
    context.imageSmoothingQuality = "high";
    context.drawImage(
      view.shown,
      (view.canvas.width - width) / 2 + look.x * dense,
      (view.canvas.height - height) / 2 + look.y * dense,
      width,
      height,
    );
  }

  let waiting = false;
  let needsTone = false;
  function renew(tones = true) {
    needsTone = needsTone || tones;
    if (look.zoom === 1) look.x = look.y = 0;
    for (const name of Object.keys(sliders)) sliders[name].value = look[name];
    invertButton.setAttribute("aria-pressed", String(look.inverted));
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const view of views) {
        if (needsTone) tone(view);
        draw(view);
      }
      needsTone = false;
    });
  }

  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  function shift(level, width) {
    look.level = within(look.level + level, 0, 255);
    look.window = within(look.window + width, 2, 510);
    renew();
  }
  function zoom(factor) {
    look.zoom = within(look.zoom * factor, 1, 8);
    renew(false);
  }
  function invert() {
    look.inverted = !look.inverted;
    say(look.inverted ? "Inverted." : "Not inverted.");
    renew();
  }
  function reset() {
    Object.assign(look, start);
    say("Picture as it came.");
    renew();
  }
  function say(words) {
    status.textContent = words;
  }

  function listen(canvas) {
    const fingers = new Map();
    let apart = 0;
    canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, event);
      canvas.setPointerCapture(event.pointerId);
      apart = 0;
    });
    const leave = (event) => fingers.delete(event.pointerId);
    canvas.addEventListener("pointerup", leave);
    canvas.addEventListener("pointercancel", leave);
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.clientX;
      const dy = event.clientY - before.clientY;
      fingers.set(event.pointerId, event);
      if (fingers.size === 2) {
        const [one, other] = [...fingers.values()];
        const now = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        if (apart > 0) zoom(now / apart);
        apart = now;
      } else if (look.zoom > 1) {
        look.x += dx;
        look.y += dy;
        renew(false);
      } else {
        shift(dy / 2, dx);
      }
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
  }

  for (const [name, slider] of Object.entries(sliders)) {
    slider.addEventListener("input", () => {
      look[name] = Number(slider.value);
      renew(name !== "zoom");
    });
  }
  invertButton.addEventListener("click", invert);
  document.querySelector("[data-reset]").addEventListener("click", reset);
  window.addEventListener("resize", () => renew(false));

  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault(); // one answer, however often Enter is pressed
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });
  function goOn() {
    if (form.querySelector("input[name=value]:checked")) form.requestSubmit();
    else say("Choose an answer first.");
  }
  function choose(key) {
    const input = [...form.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    if (!input) return false;
    input.checked = true;
    say(`Chosen: ${input.closest("label").querySelector("span").textContent.trim()}. Enter goes on.`);
    return true;
  }

  const acts = {
    " ": invert,
    r: reset,
    "+": () => zoom(1.25),
    "=": () => zoom(1.25),
    "-": () => zoom(1 / 1.25),
    ArrowRight: goOn,
    Enter: goOn,
    ArrowLeft: () => say("There is no way back: earlier answers stay as they are."),
    b: () => document.querySelector("[data-break]").requestSubmit(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tag = event.target.tagName;
    const isChoice = event.target.matches("input[type=radio]");
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (["BUTTON", "A", "SUMMARY"].includes(tag) && [" ", "Enter"].includes(event.key)) return;
    if (isChoice && event.key.startsWith("Arrow")) return;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const step = event.key === "ArrowUp" ? 8 : -8;
      shift(event.shiftKey ? 0 : step, event.shiftKey ? step * 2 : 0);
      event.preventDefault();
    } else if (choose(event.key)) {
      event.preventDefault();
    } else if (acts[event.key]) {
      event.preventDefault();
      acts[event.key]();
    }
  });

  document.querySelector("[data-tools]").hidden = false;
  document.querySelector("[data-keys]").hidden = false;
})();

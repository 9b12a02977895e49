// Send a file in parts, each with its SHA-256; go on where it stopped after a broken line or a reload.
"use strict";
import { Sha256 } from "./sha256.js";

const HASH_BYTES = 4 * 1024 * 1024;
const LONGEST_WAIT_SECONDS = 30;
const form = document.getElementById("upload");
const find = (id) => document.getElementById(id);
const csrf = form.elements.csrf.value;
let places = form.dataset.places ? JSON.parse(form.dataset.places) : null;
let file = null;
let digests = [];
let isPaused = false;
let current = null; // the request under way

class Refused extends Error {}

function say(text) { find("status").textContent = text; }
function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}
function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < 3) { count /= 1024; unit += 1; }
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}
function duration(seconds) {
  if (seconds < 90) { return `${Math.max(1, Math.round(seconds))} s`; }
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
function remembered() {
  try { return JSON.parse(localStorage.getItem(`kaima-upload-${places.version}`)) || {}; } catch { return {}; }
}
function remember(what) {
  try { localStorage.setItem(`kaima-upload-${places.version}`, JSON.stringify(what)); } catch { /* a private window */ }
}

async function digestOf(blob) {
  const sha = new Sha256();
  for (let at = 0; at < blob.size; at += HASH_BYTES) {
    sha.update(new Uint8Array(await blob.slice(at, at + HASH_BYTES).arrayBuffer()));
  }
  return sha.hex();
}

async function digestOfFile(chosen) {
  const sha = new Sha256();
  for (let at = 0; at < chosen.size; at += HASH_BYTES) {
    sha.update(new Uint8Array(await chosen.slice(at, at + HASH_BYTES).arrayBuffer()));
    if (file !== chosen) { return; }
    find("digest").textContent = `computing, ${Math.floor((100 * at) / chosen.size)} %`;
    await new Promise((done) => setTimeout(done));
  }
  find("digest").textContent = sha.hex();
}

function choose(chosen) {
  complain("");
  if (!chosen) { return; }
  const suffix = (chosen.name.match(/\.[^.]+$/) || [""])[0].toLowerCase();
  const suffixes = find("file").dataset.suffixes.split(" ");
  if (!suffixes.includes(suffix)) {
    complain(`${chosen.name} was refused: it ends in ${suffix || "nothing"}; choose ${suffixes.join(" or ")}.`);
    return;
  }
  if (!chosen.size || chosen.size > Number(form.dataset.most)) {
    complain(`${chosen.name} was refused: it has ${bytes(chosen.size)}; allowed: 1 byte to ${bytes(Number(form.dataset.most))}.`);
    return;
  }
  if (places && chosen.size !== places.size) {
    complain(`${chosen.name} was refused: it has ${chosen.size} bytes, the file that was begun has ${places.size}. Choose that file, or give the upload up.`);
    return;
  }
  file = chosen;
  find("name").textContent = chosen.name;
  find("size").textContent = `${chosen.size.toLocaleString("en")} bytes (${bytes(chosen.size)})`;
  find("chosen").hidden = false;
  find("send").textContent = places ? "Go on" : "Send";
  digestOfFile(chosen).catch((error) => complain(`The file cannot be read: ${error.message}`));
}

async function ask(method, address, body) {
  const answer = await fetch(address, {
    method, body, credentials: "same-origin", headers: { Accept: "application/json" },
  });
  const told = await answer.json().catch(() => ({}));
  if (answer.redirected) { throw new Refused("You were signed out. Sign in again in another tab, then go on."); }
  if (answer.status === 429 || answer.status >= 500) { throw new Error(told.detail || answer.statusText); }
  if (!answer.ok) { throw new Refused(told.detail || `The service answered ${answer.status}.`); }
  return told;
}

function fields(more) { return new URLSearchParams({ csrf, ...more }); }

function sendPart(number, blob, sha256, progress) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    current = request;
    request.open("PUT", `${places.parts}/${number}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-Csrf-Token", csrf);
    request.setRequestHeader("X-Part-Sha256", sha256);
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status === 200) { done(); return; }
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* a page instead of an answer */ }
      const text = told.detail || `The service answered ${request.status}.`;
      fail(request.status === 429 || request.status >= 500 ? new Error(text) : new Refused(text));
    });
    request.addEventListener("error", () => fail(new Error("the line is broken")));
    request.addEventListener("abort", () => fail(new Error("paused")));
    request.send(blob);
  });
}

// Try for as long as it takes: only the service's own refusal ends an upload.
async function patiently(work) {
  for (let wait = 1; ; wait = Math.min(2 * wait, LONGEST_WAIT_SECONDS)) {
    try { return await work(); } catch (error) {
      if (error instanceof Refused || isPaused) { throw error; }
      for (let left = wait; left > 0 && !isPaused; left -= 1) {
        say(`Not sent: ${error.message}. Trying again in ${left} s; what has arrived stays.`);
        await new Promise((done) => setTimeout(done, 1000));
      }
      if (isPaused) { throw error; }
    }
  }
}

function part(number) {
  return file.slice((number - 1) * places.part_bytes, Math.min(number * places.part_bytes, file.size));
}

async function checkSame(arrived) {
  const known = remembered().digests || [];
  for (const number of arrived) {
    if (!known[number - 1]) { continue; }
    say(`Checking that it is the same file: part ${number} of ${places.part_count}`);
    if (await digestOf(part(number)) !== known[number - 1]) {
      throw new Refused("This file is not the one that was begun: a part that has arrived differs. Choose that file, or give the upload up.");
    }
  }
  digests = known;
}

async function start() {
  const suffix = file.name.match(/\.[^.]+$/)[0].toLowerCase();
  places = await patiently(() => ask("POST", form.action, fields({ suffix, size_bytes: file.size })));
  history.replaceState(null, "", places.page);
  remember({ name: file.name, digests: [] });
}

async function send() {
  if (!places) { await start(); }
  const arrived = new Set((await patiently(() => ask("GET", places.parts))).parts);
  await checkSame(arrived);
  const began = Date.now();
  let sent = 0;
  let before = [...arrived].reduce((sum, number) => sum + part(number).size, 0);
  for (let number = 1; number <= places.part_count; number += 1) {
    if (arrived.has(number)) { continue; }
    const blob = part(number);
    const sha256 = await digestOf(blob);
    const show = (loaded) => {
      const done = before + loaded;
      const pace = (sent + loaded) / ((Date.now() - began) / 1000 || 1);
      const left = pace ? `, ${duration((file.size - done) / pace)} left` : "";
      find("progress").value = done / file.size;
      say(`${bytes(done)} of ${bytes(file.size)}, part ${number} of ${places.part_count}, ${bytes(pace)}/s${left}`);
    };
    show(0);
    await patiently(() => sendPart(number, blob, sha256, show));
    before += blob.size;
    sent += blob.size;
    digests[number - 1] = sha256;
    remember({ name: file.name, digests });
  }
  say("All of it has arrived; putting it together.");
  const told = await patiently(() => ask("POST", places.complete, fields({})));
  try { localStorage.removeItem(`kaima-upload-${places.version}`); } catch { /* a private window */ }
  location.assign(told.location);
}

async function go() {
  isPaused = false;
  complain("");
  find("under-way").hidden = false;
  find("send").hidden = true;
  find("pause").hidden = false;
  find("file").disabled = true;
  try { await send(); } catch (error) {
    if (isPaused) { say("Paused. What has arrived stays."); } else { say(""); complain(error.message); }
    find("send").textContent = "Go on";
    find("send").hidden = false;
    find("pause").hidden = true;
    find("file").disabled = false;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); if (file) { go(); } });
find("pause").addEventListener("click", () => { isPaused = true; if (current) { current.abort(); } });
find("file").addEventListener("change", (event) => choose(event.target.files[0]));
find("drop").addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
find("drop").addEventListener("dragleave", () => find("drop").classList.remove("over"));
find("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  choose(event.dataTransfer.files[0]);
});
if (places) {
  const known = remembered().name;
  if (known) { find("file-about").textContent += ` It was called ${known}.`; }
}

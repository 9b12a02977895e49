// Make or use a passkey: the form holds what the server asks for, and sends back what the device answers.
"use strict";
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));

function asked(kind, options) {
  const challenge = bytes(options.challenge);
  if (kind === "get") { return { ...options, challenge, allowCredentials: known(options.allowCredentials) }; }
  const user = { ...options.user, id: bytes(options.user.id) };
  return { ...options, challenge, user, excludeCredentials: known(options.excludeCredentials) };
}

function answered(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) { response[name] = text(credential.response[name]); }
  }
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

async function send(event) {
  event.preventDefault();
  const form = event.currentTarget, kind = form.dataset.passkey, problem = form.querySelector("[role=alert]");
  problem.hidden = true;
  try {
    if (!window.PublicKeyCredential) { throw new Error("This browser knows no passkeys, or the address is not https."); }
    const publicKey = asked(kind, JSON.parse(form.dataset.options));
    const credential = await navigator.credentials[kind]({ publicKey });
    form.elements.credential.value = JSON.stringify(answered(credential));
    form.submit();
  } catch (error) {
    problem.textContent = error.name === "NotAllowedError" ? "The device did not confirm: it was cancelled or took too long. Try again."
      : error.name === "InvalidStateError" ? "This device holds a passkey of this account already." : error.message;
    problem.hidden = false;
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) { form.addEventListener("submit", send); }

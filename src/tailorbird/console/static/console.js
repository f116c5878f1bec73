// Two things a page cannot do by itself: sign with a key that stays in the browser, and look again at a run in progress.
"use strict";

const encoder = new TextEncoder();
const toBase64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const toHex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

// Keys kept until log-out: they can sign, and cannot be read out.
function withStore(mode, use) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("tailorbird", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const moving = opening.result.transaction("keys", mode);
      const asked = use(moving.objectStore("keys"));
      moving.oncomplete = () => { opening.result.close(); resolve(asked.result); };
      moving.onerror = () => reject(moving.error);
    };
  });
}
const keptKey = () => withStore("readonly", (store) => store.get("own")).catch(() => undefined);
const keepKey = (held) => withStore("readwrite", (store) => store.put(held, "own"));
const forgetKey = () => withStore("readwrite", (store) => store.clear()).catch(() => undefined);

async function readKey(file) {
  const text = await file.text();
  if (text.includes("ENCRYPTED PRIVATE KEY")) throw new Error("This key file is protected by a passphrase: use the command line with it.");
  const found = /-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----/.exec(text);
  if (!found) throw new Error("This is not a key file: choose one that ends in .key, as tailorbird init makes it.");
  try {
    const bytes = fromBase64(found[1].replace(/\s/g, ""));
    const readable = await crypto.subtle.exportKey("jwk", await crypto.subtle.importKey("pkcs8", bytes, "Ed25519", true, ["sign"]));
    const key = await crypto.subtle.importKey("pkcs8", bytes, "Ed25519", false, ["sign"]);
    return { key, publicKey: toBase64(fromBase64(readable.x.replace(/-/g, "+").replace(/_/g, "/"))) };
  } catch {
    throw new Error("This key cannot be used: it is not an Ed25519 key, or this browser is too old to sign with one.");
  }
}

// Signs `tailorbird/<purpose>/v1`, a line break, the digest, a line break; only when the digest is that of the text that is shown.
async function sign(text, digest, purpose, held) {
  const found = "sha256:" + toHex(await crypto.subtle.digest("SHA-256", encoder.encode(text)));
  if (found !== digest) throw new Error("What is shown is not what would be signed. Nothing was signed.");
  return toBase64(await crypto.subtle.sign("Ed25519", held.key, encoder.encode(`tailorbird/${purpose}/v1\n${digest}\n`)));
}

async function prepare(form) {
  const asked = new URLSearchParams({ tenant: form.elements.tenant.value.trim(), identity: form.elements.identity.value.trim() });
  const answer = await fetch(form.dataset.prepare, { method: "POST", body: asked });
  const told = await answer.json();
  if (!answer.ok) throw new Error(`${told.message}. ${told.hint}.`);
  if (JSON.parse(told.text).server !== location.origin) throw new Error("This login is for another server. Nothing was signed.");
  form.querySelector("[data-text]").textContent = told.text;
  form.querySelector("[data-shown]").hidden = false;
  return told.digest;
}

async function signAndSend(form) {
  if (!globalThis.crypto?.subtle) throw new Error("This browser signs only over https, or on this very machine.");
  const file = form.querySelector("[data-key]").files[0];
  const held = file ? await readKey(file) : await keptKey();
  if (!held) throw new Error("Choose your key file.");
  const digest = form.dataset.digest ?? (await prepare(form));
  const text = form.querySelector("[data-text]").textContent;
  form.elements.signature.value = await sign(text, digest, form.dataset.sign, held);
  form.elements.public_key.value = held.publicKey;
  form.elements.signed.value = text;
  if (form.querySelector("[data-keep]")?.checked) await keepKey(held);
  form.submit();
}

async function onSign(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const [problem, button] = [form.querySelector("[data-problem]"), form.querySelector("button")];
  problem.hidden = true;
  button.disabled = true;
  try {
    await signAndSend(form);
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
}

async function offerKeptKey(form) {
  const notice = form.querySelector("[data-kept]");
  if (!notice || !(await keptKey())) return;
  notice.hidden = false;
  form.querySelector("[data-key]").required = false;
}

// Puts the newest progress in place; when more than progress has changed, the page is read again.
async function lookAgain() {
  const shown = document.querySelector("[data-poll]");
  if (!shown) return;
  const answer = await fetch(shown.dataset.poll).catch(() => undefined);
  if (answer?.redirected) return location.reload();
  if (answer?.ok) {
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-stamp]");
    if (fresh.dataset.stamp !== shown.dataset.stamp) return location.reload();
    shown.replaceWith(fresh);
  }
  setTimeout(lookAgain, 2000);
}

for (const form of document.querySelectorAll("form[data-sign]")) {
  form.addEventListener("submit", onSign);
  if (form.hasAttribute("data-forget")) forgetKey();
  else offerKeptKey(form);
}
for (const form of document.querySelectorAll("form[data-forget]:not([data-sign])")) form.addEventListener("submit", () => { forgetKey(); });
setTimeout(lookAgain, 2000);

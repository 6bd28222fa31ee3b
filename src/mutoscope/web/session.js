// Who is signed in: a key kept in this browser. It comes from the sign-in card, or from the link that `mutoscope serve`
// prints: its token is taken off the address at once and exchanged for a key, which works one time.

import { signal } from "./html.js";
import { forget, recall, remember } from "./memory.js";

export const UNKNOWN = "This key is not known here, or was revoked.";

export const key = signal(recall("key", ""));

/** The open sign-in card, or null: { problem, mayCancel }. */
export const card = signal(null);

let waiting = null; // { promise, resolve } of those who can't go on without a key

/** Open the card until there is a key that works; `refused` is the one that did not, if one was sent. */
export function askForKey(refused) {
  if (refused && refused !== key.value) return Promise.resolve(); // a newer key is here already
  if (!waiting) {
    waiting = {};
    waiting.promise = new Promise((resolve) => (waiting.resolve = resolve));
  }
  card.value = { problem: refused ? UNKNOWN : (card.value?.problem ?? ""), mayCancel: false };
  return waiting.promise;
}

export const changeKey = () => (card.value = { problem: "", mayCancel: true });

export function closeCard() {
  card.value = null;
  waiting?.resolve();
  waiting = null;
}

/** Sign in with `typed`; resolves to a sentence when that can't be. */
export async function signIn(typed) {
  if (!typed) return "Paste a key first.";
  if (!/^[\x21-\x7e]+$/.test(typed)) return "This is not a key: it has spaces or letters that no key has.";
  try {
    const answer = await tryKey(typed);
    if (answer.status === 401) return UNKNOWN;
    if (!answer.ok) return "The server can’t check keys just now. Try again in a moment.";
  } catch {
    return "The server can’t be reached. Try again in a moment.";
  }
  const isChange = card.value?.mayCancel;
  keep(typed);
  if (isChange) {
    forget("runs", "strip", "preview"); // they are the other key's
    location.reload();
  }
  closeCard();
  return "";
}

export function signOut() {
  forget("key", "draft", "runs", "strip", "preview");
  location.reload();
}

/** Take a one-time token off the address, and exchange it for a key. */
export async function takeLink() {
  const token = /^#sign-in=([\w-]+)$/.exec(location.hash)?.[1];
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  try {
    if (key.value && (await tryKey(key.value)).ok) return; // another key would hide the takes that are this one's
    const answer = await fetch("/api/v3/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    const { data, message } = await answer.json();
    if (answer.ok) keep(data.key);
    else if (!key.value) card.value = { problem: message, mayCancel: false };
  } catch {
    if (!key.value)
      card.value = { problem: "The server can’t be reached. Open the link again in a moment.", mayCancel: false };
  }
}

const tryKey = (value) => fetch("/api/v3/models", { headers: { Authorization: `Bearer ${value}` } });

function keep(value) {
  key.value = value;
  remember("key", value);
}

/** How a key is shown: its first letters. */
export const masked = (value) => `${value.slice(0, 8)}${"•".repeat(12)}`;

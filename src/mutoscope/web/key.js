// The API key: from the address (#key=wsk_…), from this browser's memory, or pasted into the sign-in panel.

import { byId } from "./dom.js";
import { forget, recall, remember } from "./memory.js";

const UNKNOWN = "This key is not known here, or was revoked.";

let key = recall("key", "");
let asking = null; // while the panel is open: { promise, resolve }

export const currentKey = () => key;

/** Move a key from the address bar into memory. */
export function takeKeyFromAddress() {
  const match = /^#key=([^&]+)/.exec(location.hash);
  if (!match) return false;
  let found = match[1];
  try {
    found = decodeURIComponent(found);
  } catch {
    // not encoded after all
  }
  history.replaceState(null, "", location.pathname + location.search);
  keep(found.trim());
  return true;
}

/** Show the panel until a key is accepted; `refused` is the key that was not, if one was sent. */
export function askForKey(refused) {
  if (refused && refused !== key) return Promise.resolve(); // a newer key is here already
  open({ problem: refused ? UNKNOWN : "" });
  return asking.promise;
}

/** Wire the panel and the button that opens it. */
export function setUpSignIn() {
  byId("signin-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn();
  });
  byId("open-key").addEventListener("click", () => open({ mayCancel: true }));
  byId("signin-cancel").addEventListener("click", close);
  byId("signin").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("signin-cancel").hidden) close();
  });
  byId("signin-forget").addEventListener("click", () => {
    forget("key", "draft", "running", "takes");
    location.reload();
  });
  showHint();
}

async function signIn() {
  const field = byId("signin-key");
  const typed = field.value.trim();
  if (!typed) return complain("Paste a key first.");
  if (!/^[\x21-\x7e]+$/.test(typed)) return complain("This is not a key: it has spaces or letters that no key has.");
  byId("signin-go").disabled = true;
  try {
    const answer = await fetch("/api/v3/models", { headers: { Authorization: `Bearer ${typed}` } });
    if (answer.status === 401) return complain(UNKNOWN);
    if (!answer.ok) return complain("The server can’t check keys just now. Try again in a moment.");
    keep(typed);
    if (!byId("signin-cancel").hidden) {
      forget("running", "takes"); // they are the other key's
      location.reload();
    }
    return close();
  } catch {
    return complain("The server can’t be reached. Try again in a moment.");
  } finally {
    byId("signin-go").disabled = false;
  }
}

function open({ problem = "", mayCancel = false }) {
  if (!asking) {
    asking = {};
    asking.promise = new Promise((resolve) => (asking.resolve = resolve));
  }
  byId("signin").hidden = false;
  byId("signin-cancel").hidden = !mayCancel;
  byId("signin-forget").hidden = !(mayCancel && key);
  byId("signin-key").value = "";
  byId("signin-title").textContent = mayCancel ? "Use another key" : "Sign in with a key";
  setInert(true);
  complain(problem);
  byId("signin-key").focus();
}

function close() {
  byId("signin").hidden = true;
  setInert(false);
  const waiting = asking;
  asking = null;
  waiting?.resolve();
}

function complain(sentence) {
  byId("signin-problem").textContent = sentence;
  byId("signin-key").setAttribute("aria-invalid", String(Boolean(sentence)));
  if (sentence) byId("signin-key").select();
}

function keep(value) {
  key = value;
  remember("key", value);
  showHint();
}

function showHint() {
  byId("open-key").hidden = !key;
  byId("key-hint").textContent = `${key.slice(0, 8)}…`;
  byId("open-key").setAttribute("aria-label", `Key ${key.slice(0, 8)}…: change or forget it`);
}

function setInert(value) {
  byId("top").inert = value;
  byId("studio").inert = value;
}

// Whether the server answers, and the one calm line that says so when it does not.

import { byId } from "./dom.js";

const LONGEST_PAUSE = 5_000;

let isLost = false;
let clearing = 0;

/** The server did not answer. */
export function lost() {
  clearTimeout(clearing);
  isLost = true;
  show("lost", navigator.onLine ? "The server can’t be reached. Trying again…" : "You are offline. This page goes on by itself once you are back.");
}

/** The server answered. */
export function found() {
  if (!isLost) return;
  isLost = false;
  show("back", "Connected again.");
  clearing = setTimeout(() => show("", ""), 2_500);
}

/** Wait before the next try: half a second, then longer, or until the network is back. Rejects when aborted. */
export function pause(tries, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, Math.min(500 * 2 ** tries, LONGEST_PAUSE));
    addEventListener("online", done);
    signal?.addEventListener("abort", done);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    }
  });
}

function show(state, words) {
  const line = byId("connection");
  line.dataset.state = state;
  if (words) line.textContent = words; // the old words stay while the line slides away
}

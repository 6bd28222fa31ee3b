// Whether the server answers, and the one calm line that says so when it does not.

import { html, signal } from "./html.js";

const LONGEST_PAUSE = 5_000;

const line = signal({ state: "", words: "" });
let clearing = 0;

/** The server did not answer. */
export function lost() {
  clearTimeout(clearing);
  line.value = {
    state: "lost",
    words: navigator.onLine
      ? "The server can’t be reached. Trying again…"
      : "You are offline. This page goes on by itself once you are back.",
  };
}

/** The server answered. */
export function found() {
  if (line.value.state !== "lost") return;
  line.value = { state: "back", words: "Connected again." };
  clearing = setTimeout(() => (line.value = { state: "", words: "" }), 2_500);
}

/** Wait before the next try: half a second, then longer, or until the network is back. Rejects when aborted. */
export function pause(tries, signal, least = 500) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, Math.min(least * 2 ** tries, LONGEST_PAUSE));
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

export const ConnectionLine = () => html`
  <p class="connection" id="connection" role="status" data-state=${line.value.state}>${line.value.words}</p>
`;

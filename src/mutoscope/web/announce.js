// Words that come and go: a sentence for whoever listens instead of looking, and a note that passes by.

import { html, signal } from "./html.js";

const said = signal("");
const note = signal(null); // { words, isFault }
let clearing = 0;

/** Tell whoever listens. The same words twice in a row are said once. */
export const say = (words) => (said.value = words);

/** Show a sentence for some seconds; a fault stays longer. */
export function notify(words, { isFault = false } = {}) {
  clearTimeout(clearing);
  note.value = { words, isFault };
  clearing = setTimeout(() => (note.value = null), isFault ? 9_000 : 3_500);
}

/** Copy to the clipboard, and say so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    notify(`${what} copied.`);
  } catch {
    notify("This browser keeps the clipboard closed here: it opens on https and on localhost.", { isFault: true });
  }
}

export function Announcements() {
  return html`
    <p class="unseen" id="said" role="status">${said.value}</p>
    <div class="toasts" role="status" aria-live="polite">
      ${
        note.value &&
        html`
          <p class=${`toast ${note.value.isFault ? "is-fault" : ""}`}>${note.value.words}</p>
        `
      }
    </div>
  `;
}

// The prompt: what is written, with each mention of a reference in colour, and phrases that are one click away.

import { html, useRef, useState } from "../html.js";
import { Icon } from "../icons.js";
import { grouped } from "../words.js";
import { set, valueOf } from "./form.js";
import { references } from "./references.js";

const MENTION = /(@\d+)/;
const PHRASES = [
  "slow push in",
  "pull out",
  "pan left",
  "pan right",
  "tilt up",
  "crane down",
  "truck right",
  "orbit",
  "handheld",
  "static camera",
  "product shot",
  "at night",
  "warm light",
  "cold light",
  "snow",
  "rain",
  "dust",
  "shallow depth of field",
  "a sweep of light",
];

export function Prompt({ field, problem }) {
  const { name, title, most } = field;
  const text = String(valueOf(field) ?? "");
  const area = useRef(null);
  const paint = useRef(null);
  const [isWide, setWide] = useState(false);
  const count = text.trim().length;

  /** Put words where the cursor is, with the blanks and commas that they need. */
  function insert(words, joint) {
    const { selectionStart: from, selectionEnd: to } = area.current;
    const [before, after] = [text.slice(0, from), text.slice(to)];
    const lead = !before.trim() || /[\s]$/.test(before) ? "" : joint;
    const tail = !after || /^[\s,.;:!?]/.test(after) ? "" : " ";
    const written = before + lead + words + tail;
    set(name, written + after);
    requestAnimationFrame(() => {
      area.current.focus();
      area.current.setSelectionRange(written.length, written.length);
    });
  }

  return html`
    <div class="field">
      <div class="field-head">
        <label for=${name}>${title}</label>
        <span class=${`note ${count > most ? "is-too-long" : ""}`} id="prompt-count">
          ${grouped(count)} of ${grouped(most)}
        </span>
      </div>
      <div class="prompt">
        <div class="prompt-paint" aria-hidden="true" ref=${paint}>
          ${text.split(MENTION).map((part, index) =>
            index % 2
              ? html`
                  <mark class=${isThere(part) ? "" : "is-missing"}>${part}</mark>
                `
              : part,
          )}${"\n"}
        </div>
        <textarea
          id=${name}
          data-field=${name}
          ref=${area}
          rows="5"
          aria-describedby="prompt-count"
          aria-invalid=${String(Boolean(problem) || count > most)}
          placeholder="The astronaut turns to the window; slow push in, warm evening light"
          value=${text}
          onInput=${(event) => set(name, event.target.value)}
          onScroll=${(event) => (paint.current.scrollTop = event.target.scrollTop)}
        ></textarea>
      </div>
      <div
        class=${`chips ${isWide ? "is-wide" : ""}`}
        role="group"
        aria-label="Phrases for the prompt"
        onFocusIn=${({ target }) => target.scrollIntoView({ block: "nearest", inline: "nearest" })}
      >
        ${references.value.map(
          ({ id, name: picture, shown }, index) => html`
            <button
              class="chip is-mention"
              type="button"
              key=${id}
              title=${`Mention ${picture}`}
              aria-label=${`Mention picture ${index + 1}, ${picture}`}
              onClick=${() => insert(`@${index + 1}`, " ")}
            >
              ${
                shown &&
                html`
                  <img src=${shown} alt="" width="18" height="18" />
                `
              }@${index + 1}
            </button>
          `,
        )}
        ${PHRASES.map(
          (phrase) => html`
            <button class="chip" type="button" key=${phrase} onClick=${() => insert(phrase, ", ")}>${phrase}</button>
          `,
        )}
      </div>
      <button class="link small" type="button" aria-expanded=${String(isWide)} onClick=${() => setWide(!isWide)}>
        <${Icon} name="camera" />
        ${isWide ? "Fewer phrases" : "All camera and light phrases"}
      </button>
    </div>
  `;
}

const isThere = (mention) => Number(mention.slice(1)) >= 1 && Number(mention.slice(1)) <= references.value.length;

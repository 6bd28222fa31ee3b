// The references as tiles: added by drop, paste, disk, address or camera; put in order, replaced, removed; with what
// the service sees in each.

import { say } from "../announce.js";
import { html, signal, useEffect, useRef, useState } from "../html.js";
import { Icon } from "../icons.js";
import { bytes, capital } from "../words.js";
import { Camera } from "./camera.js";
import { Crop, Findings } from "./findings.js";
import { seen } from "./preflight.js";
import * as references from "./references.js";

const isCameraOpen = signal(false);
const dragged = signal("");

export const isDragging = () => dragged.value !== "";

export function Pictures({ field, problem }) {
  const chooser = useRef(null);
  const [instead, setInstead] = useState("");
  const [isTyping, setTyping] = useState(false);
  const list = references.references.value;
  const { most } = field;
  useEffect(() => {
    references.most.value = most;
  }, [most]);

  const choose = (id = "") => {
    setInstead(id);
    chooser.current.multiple = !id;
    chooser.current.click();
  };
  const take = (event) => {
    references.addFiles(event.target.files, instead);
    event.target.value = "";
  };
  const mayCamera = Boolean(navigator.mediaDevices?.getUserMedia);

  return html`
    <section class="field" aria-labelledby="pictures-label">
      <div class="field-head">
        <h2 id="pictures-label">${field.title}</h2>
        <span class="note">${list.length ? `${list.length} of ${most}` : `1 to ${most}`}</span>
      </div>
      ${
        list.length > 0 &&
        html`
          <ol class="tiles">
            ${list.map(
              (each, index) => html`
                <${Tile} key=${each.id} reference=${each} index=${index} count=${list.length} onReplace=${choose} />
              `,
            )}
          </ol>
        `
      }
      ${
        list.length < most &&
        html`
          <button
            class=${`add ${list.length ? "is-short" : ""}`}
            type="button"
            data-field=${field.name}
            aria-describedby=${problem ? "pictures-problem" : undefined}
            onClick=${() => choose()}
          >
            <${Icon} name=${list.length ? "plus" : "pictures"} />
            <span>${list.length ? "Add" : "Drop, paste or choose pictures"}</span>
          </button>
          <div class="row sources">
            <button
              class="link small"
              type="button"
              aria-expanded=${String(isTyping)}
              onClick=${() => setTyping(!isTyping)}
            >
              <${Icon} name="globe" />
              From a web address
            </button>
            ${
              mayCamera &&
              html`
                <button class="link small" type="button" onClick=${() => (isCameraOpen.value = true)}>
                  <${Icon} name="camera" />
                  From the camera
                </button>
              `
            }
          </div>
          ${
            isTyping &&
            html`
              <${Address} onDone=${() => setTyping(false)} />
            `
          }
        `
      }
      <input
        ref=${chooser}
        type="file"
        accept="image/*,.heic,.heif,.avif"
        multiple
        hidden
        onChange=${take}
        onCancel=${() => setInstead("")}
      />
      <p class="problem" id="pictures-problem" role="alert">${references.complaint.value}</p>
      <${Findings} />
      ${
        isCameraOpen.value &&
        html`
          <${Camera} onClose=${() => (isCameraOpen.value = false)} />
        `
      }
    </section>
  `;
}

function Address({ onDone }) {
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const add = () => {
    if (!references.addAddress(field.current.value)) return field.current.select();
    onDone();
    requestAnimationFrame(() => document.querySelector(".add")?.focus()); // to add another, or go on from there
  };
  const press = (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault(); // Enter here adds; it does not run
      add();
    } else if (event.key === "Escape") {
      onDone();
      document.querySelector(".add").focus();
    }
  };
  return html`
    <div class="row">
      <input
        ref=${field}
        type="url"
        inputmode="url"
        placeholder="https://"
        aria-label="A picture’s web address"
        autocomplete="off"
        spellcheck=${false}
        onKeyDown=${press}
      />
      <button class="plain" type="button" onClick=${add}>Add</button>
    </div>
  `;
}

const STATES = { sending: ", uploading", failed: ", not uploaded" };

function Tile({ reference, index, count, onReplace }) {
  const { id, name, shown, state, share, problem, width, height } = reference;
  const label = `picture ${index + 1}, ${name}`;
  const kind = seen(reference)?.kind ?? "";
  const measure = ({ target }) =>
    width || references.update(id, { width: target.naturalWidth, height: target.naturalHeight });
  const move = (to) => {
    references.move(id, to);
    say(`${name} is now picture ${to + 1} of ${count}.`);
  };
  const remove = (event) => {
    const tiles = event.currentTarget.closest("ol");
    references.remove(id);
    say(`${name} removed.`);
    requestAnimationFrame(() =>
      (tiles.querySelectorAll(".tile-remove")[Math.min(index, count - 2)] ?? document.querySelector(".add"))?.focus(),
    );
  };
  const start = (event) => {
    dragged.value = id;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/x-mutoscope-picture", name);
  };
  const over = (event) => {
    if (!dragged.value) return;
    event.preventDefault();
    if (dragged.value !== id) references.move(dragged.value, index);
  };
  return html`
    <li
      class=${`tile ${problem ? "is-faulty" : ""} ${dragged.value === id ? "is-dragged" : ""}`}
      data-state=${state}
      aria-label=${`${label}${STATES[state] ?? ""}`}
      draggable=${true}
      onDragStart=${start}
      onDragOver=${over}
      onDrop=${(event) => dragged.value && event.preventDefault()}
      onDragEnd=${() => (dragged.value = "")}
    >
      <div class="tile-picture">
        ${
          shown
            ? html`
                <img
                  src=${shown}
                  alt=""
                  draggable=${false}
                  decoding="async"
                  onLoad=${measure}
                  onError=${() => references.update(id, { shown: "" })}
                />
              `
            : html`
                <span class="tile-name">${name}</span>
              `
        }
        <${Crop} reference=${reference} />
        <span class="tile-number" aria-hidden="true">@${index + 1}</span>
        ${
          state === "sending" &&
          html`
            <progress max="1" value=${share} aria-label=${`Uploading ${name}`}></progress>
          `
        }
        ${
          state === "failed" &&
          html`
            <button
              class="tile-retry"
              type="button"
              aria-label=${`Send again: ${label}`}
              onClick=${() => references.send(reference)}
            >
              <${Icon} name="again" />
            </button>
          `
        }
        <button class="tile-remove" type="button" title="Remove" aria-label=${`Remove: ${label}`} onClick=${remove}>
          <${Icon} name="close" />
        </button>
        <div class="tile-tools">
          <button
            type="button"
            title="Move earlier"
            aria-label=${`Move earlier: ${label}`}
            disabled=${index === 0}
            onClick=${() => move(index - 1)}
          >
            <${Icon} name="left" />
          </button>
          <button type="button" title="Replace" aria-label=${`Replace: ${label}`} onClick=${() => onReplace(id)}>
            <${Icon} name="swap" />
          </button>
          <button
            type="button"
            title="Move later"
            aria-label=${`Move later: ${label}`}
            disabled=${index === count - 1}
            onClick=${() => move(index + 1)}
          >
            <${Icon} name="right" />
          </button>
        </div>
      </div>
      <p class="tile-facts">
        <span>${width ? `${width}×${height}` : reference.bytes ? bytes(reference.bytes) : ""}</span>
        <span class="tile-kind">${capital(kind)}</span>
      </p>
    </li>
  `;
}

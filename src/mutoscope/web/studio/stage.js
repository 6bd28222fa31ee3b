// The stage: what is composed, what is being made, what was made. One frame in the shot's shape, controls and words
// below.

import { notify } from "../announce.js";
import { Fragment, html, useEffect, useRef, useState } from "../html.js";
import { isOver } from "../watch.js";
import { ratioOf } from "../words.js";
import { Compared, Failed, Finished, Running, Sketched } from "./captions.js";
import { Examples } from "./examples.js";
import * as form from "./form.js";
import { Player } from "./player.js";
import { isBusy, isOn, preview } from "./preview.js";
import { references } from "./references.js";
import { get, learn, onStage, pairs } from "./takes.js";

export function Stage() {
  const ids = onStage.value;
  const stage = useRef(null);
  const shown = ids.map(get).filter(Boolean);
  const shape = shown[0]?.input?.aspect_ratio ?? form.shape.value;
  const state = !ids.length ? sketchState() : shown.length > 1 ? "compare" : stateOf(shown[0]);

  // Of a take that is accepted the id changes, and nothing else: whoever has scrolled on meanwhile stays there.
  const picked = ids.map((id) => get(id)?.startedAs ?? id).join();
  useEffect(() => {
    // Where the stage is not beside the form, it is brought into view when something starts or is picked.
    if (ids.length && matchMedia("(max-width: 899px)").matches) {
      stage.current.scrollIntoView({
        block: "start",
        behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
      });
    }
  }, [picked]);

  useEffect(() => {
    const [take] = shown;
    const percent = take && !isOver(take) && take.progress ? `${Math.round(take.progress * 100)} % · ` : "";
    document.title = `${percent}${state === "done" ? "Ready · " : ""}Mutoscope`;
  });

  const ratio = ratioOf(shape);
  return html`
    <section
      class="stage"
      ref=${stage}
      aria-label="Stage"
      data-state=${state}
      data-shape=${ratio > 1 ? "wide" : ratio < 1 ? "tall" : "square"}
      style=${{ "--ratio": ratio }}
    >
      <div class="room">
        ${
          !ids.length
            ? html`
                <${Sketch} />
              `
            : shown.length > 1
              ? html`
                  <${Grid} takes=${shown} />
                `
              : shown[0]
                ? html`
                    <${Take} key=${shown[0].isLocal ? "local" : shown[0].id} take=${shown[0]} />
                  `
                : null
        }
      </div>
    </section>
  `;
}

const stateOf = (take) => (!take || !isOver(take) ? "running" : take.status === "completed" ? "done" : "failed");

function sketchState() {
  if (preview.value.take && isOn.value && references.value.length) return "sketch";
  return references.value.length ? "compose" : "welcome";
}

/** Composing: the preview, or the pictures themselves, or a welcome. */
function Sketch() {
  const { take, state, progress = 0 } = preview.value;
  if (!references.value.length) {
    return html`
      <div class="frame is-empty">
        <div class="welcome">
          <p class="welcome-line">Still pictures in, a moving shot out.</p>
          <p class="note">
            Drop one to four pictures anywhere on this page and say what happens. A free preview moves while you type.
          </p>
          <${Examples} />
        </div>
      </div>
      <div class="caption"></div>
    `;
  }
  const edge =
    isBusy.value &&
    html`
      <progress
        class="edge"
        max="1"
        value=${state === "rendering" ? progress : undefined}
        aria-label="Progress of the preview"
      ></progress>
    `;
  if (take && isOn.value) {
    const items = [{ id: "sketch", src: take.outputs[0], poster: take.poster, label: "Preview" }];
    return html`
      <${Player} items=${items} label="Preview">
        <span class="veil-note">Preview</span>
        ${edge}
      <//>
      <${Sketched} />
    `;
  }
  return html`
    <div class="frame">
      <${Sheet} pictures=${references.value.map(({ name, shown }) => ({ name, src: shown }))} />
      ${edge}
    </div>
    <${Sketched} />
  `;
}

/** The pictures as prints on a table; grey while a shot is made, and their colour comes in with the progress. */
function Sheet({ pictures, className = "" }) {
  return html`
    <div class=${`sheet ${className}`} data-count=${pictures.length} aria-hidden="true">
      ${pictures.map(({ src, name }, index) =>
        src
          ? html`
              <img key=${index} src=${src} alt="" />
            `
          : html`
              <span class="card-of" key=${index}>${name}</span>
            `,
      )}
    </div>
  `;
}

function Take({ take }) {
  const pair = get(pairs.value[take.id]);
  const [isSplit, setSplit] = useState(true);
  useEffect(() => {
    const id = pairs.value[take.id];
    if (id && !pair) learn(id);
  }, [take.id, pairs.value]);

  if (take.status === "completed" && take.outputs.length) {
    const item = { id: take.id, src: take.outputs[0], poster: take.poster, label: pair ? "Rendered" : "Video" };
    const hasPair = pair?.status === "completed";
    const items =
      hasPair && isSplit
        ? [item, { id: pair.id, src: pair.outputs[0], poster: pair.poster, label: "Preview" }]
        : [item];
    return html`
      <${Player} items=${items} mode=${items.length > 1 ? "split" : "single"} label="Video" />
      <${Finished} take=${take} split=${hasPair ? { isSplit, setSplit } : null} />
    `;
  }
  const pictures = (take.isLocal ? references.value.map(({ shown }) => shown) : take.input.images).map(
    (src, index) => ({ src, name: `Picture ${index + 1}` }),
  );
  if (isOver(take)) {
    return html`
      <div class="frame"><${Sheet} pictures=${pictures} className="is-grey" /></div>
      <${Failed} take=${take} />
    `;
  }
  return html`
    <${Fragment}>
      <div class="frame is-making" style=${{ "--done": take.progress ?? 0 }}>
        ${
          take.preview
            ? html`
                <${Foreseen} src=${take.preview} shape=${take.input?.aspect_ratio} />
              `
            : pair?.status === "completed"
              ? html`
                  <img class="under" src=${pair.poster} alt="" />
                  <img class="under is-lit" src=${pair.poster} alt="" />
                `
              : html`
                  <${Sheet} pictures=${pictures} className="is-grey" />
                  <${Sheet} pictures=${pictures} className="is-lit" />
                `
        }
      </div>
      <${Running} take=${take} />
    <//>
  `;
}

/** Frames of the video as they arrive, side by side in one picture: leafed through, each as large as the stage. */
function Foreseen({ src, shape }) {
  const count = ({ target }) => {
    const found = Math.round(target.naturalWidth / target.naturalHeight / ratioOf(shape));
    target.style.setProperty("--frames", Math.max(1, found));
  };
  return html`
    <img class="foreseen" src=${src} alt="Frames of the video as they arrive" onLoad=${count} />
    <span class="veil-note">First look</span>
  `;
}

function Grid({ takes }) {
  const isOnePrompt = takes.every(({ input }) => input?.prompt === takes[0].input?.prompt);
  const items = takes
    .filter(({ status, outputs }) => status === "completed" && outputs.length)
    .map((take) => ({
      id: take.id,
      src: take.outputs[0],
      poster: take.poster,
      label: isOnePrompt ? `Seed ${take.seed}` : (take.input?.prompt ?? take.id),
    }));
  useEffect(() => {
    if (items.length < takes.length) notify("Only finished videos can be compared.");
  }, [items.length]);
  return html`
    <${Player} items=${items} mode="grid" label="Takes side by side" />
    <${Compared} takes=${takes} />
  `;
}

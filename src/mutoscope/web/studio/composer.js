// The form: model, references, and a field for each input of the chosen model; below it the price and the button.

import { notify } from "../announce.js";
import { html, signal } from "../html.js";
import { Icon } from "../icons.js";
import { go } from "../router.js";
import { money } from "../words.js";
import { Choice, Number_, Seed, Shape, Slider, Switch, Text } from "./fields.js";
import * as form from "./form.js";
import { Pictures } from "./pictures.js";
import * as preview from "./preview.js";
import { Prompt } from "./prompt.js";
import * as references from "./references.js";
import { start } from "./takes.js";

const KINDS = {
  references: Pictures,
  prompt: Prompt,
  shape: Shape,
  choice: Choice,
  slider: Slider,
  seed: Seed,
  number: Number_,
  switch: Switch,
  text: Text,
};

/** What keeps the form from running: { name, sentence }. */
export const fault = signal(null);
let last = { asked: "", at: 0 };

const COMMAND = /Mac|iP/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵";

const TWICE = 700; // milliseconds: a double click is one run

/** Run what the form holds. */
export async function run() {
  const model = form.model.value;
  if (!model) return;
  const images = form.fields.value.find(({ kind }) => kind === "references");
  fault.value =
    images?.isRequired && !references.references.value.length
      ? { name: images.name, sentence: `Add a picture first: ${images.least ?? 1} to ${images.most}.` }
      : form.problem();
  if (fault.value) {
    document.querySelector(`[data-field="${fault.value.name}"]`)?.focus();
    return;
  }
  const inputs = form.inputs();
  const asked = JSON.stringify([model.id, inputs, references.references.value.map(({ id }) => id)]);
  if (asked === last.asked && Date.now() - last.at < TWICE) return;
  last = { asked, at: Date.now() };
  const sketch = preview.spend();
  if (!form.isSeedKept.value) inputs.seed = sketch.seed ?? -1;
  references.markFault("");
  go("");
  try {
    await start(model.id, inputs, references.allUrls, sketch.id);
  } catch (error) {
    references.markFault(error.message);
    if (error.status === 402) notify(error.message, { isFault: true });
  }
}

/** Run a take again with another seed. */
export const runAgain = (take) =>
  start(take.model, { ...withoutImages(take.input), seed: -1 }, async () => take.input.images).catch(() => {});

/** Put a take's inputs into the form. */
export function reuse(take) {
  form.fill({ model: take.model, inputs: withoutImages(take.input) });
  references.replaceAll(take.input.images.map((url) => ({ url })));
}

const withoutImages = ({ images: _, ...others }) => others;

export function Composer() {
  const model = form.model.value;
  const submit = (event) => {
    event.preventDefault();
    run();
  };
  return html`
    <form class="composer" onSubmit=${submit} novalidate aria-label="Shot">
      <div class="fields">
        ${
          model
            ? form.fields.value.map(
                (field) => html`
                  <${Field} key=${field.name} field=${field} />
                `,
              )
            : html`
                <${Skeleton} />
              `
        }
        ${
          form.catalogue.value.length > 1 &&
          html`
            <${Models} />
          `
        }
      </div>
      <${RunBar} />
    </form>
  `;
}

function Field({ field }) {
  const problem = fault.value?.name === field.name ? fault.value.sentence : "";
  return html`
    <${KINDS[field.kind]} field=${field} problem=${problem} />
  `;
}

const Skeleton = () => html`
  <div class="skeleton" aria-label="Loading the form" role="status"></div>
`;

const Models = () => html`
  <fieldset class="field">
    <legend>Model</legend>
    <div class="options">
      ${form.catalogue.value.map(
        ({ id, title, isFree }) => html`
          <label class="option" key=${id}>
            <input
              type="radio"
              name="model"
              value=${id}
              checked=${id === form.model.value.id}
              onChange=${() => (form.modelId.value = id)}
            />
            <span class="option-face">
              <span>${title}</span>
              ${
                isFree &&
                html`
                  <span class="note">free</span>
                `
              }
            </span>
          </label>
        `,
      )}
    </div>
  </fieldset>
`;

function RunBar() {
  const model = form.model.value;
  const quote = form.quote.value;
  const note = quote?.problem ?? (quote ? "" : "asking the price");
  return html`
    <div class="runbar">
      <p class="problem" role="alert">${fault.value?.sentence}</p>
      <p class="price" aria-live="polite">
        <span class="amount" id="price">
          ${quote?.problem ? "–" : quote ? money(quote.amount, { free: "Free" }) : "…"}
        </span>
        <span class="note">${note}</span>
      </p>
      <button class="primary run" type="submit" aria-keyshortcuts="Control+Enter Meta+Enter" disabled=${!model}>
        <${Icon} name="film" />
        <span>${model && !model.isFree ? `Render with ${model.title}` : "Render"}</span>
        <kbd aria-hidden="true">${COMMAND}</kbd>
      </button>
    </div>
  `;
}

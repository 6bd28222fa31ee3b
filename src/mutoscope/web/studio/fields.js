// A form's fields by their kind: shapes as shapes, whole numbers as sliders, choices side by side, a seed with its
// dice.

import { html } from "../html.js";
import { Icon } from "../icons.js";
import { ratioOf } from "../words.js";
import { isSeedKept, set, valueOf, values } from "./form.js";

const FACES = 2 ** 32; // of the dice

export const Shape = ({ field }) => html`
  <fieldset class="field">
    <legend>${field.title}</legend>
    <div class="options shapes">
      ${field.options.map(
        (shape) => html`
          <${Radio} key=${shape} field=${field} value=${shape}>
            <${Drawing} shape=${shape} />
            <span class="shape-name">${shape}</span>
          <//>
        `,
      )}
    </div>
  </fieldset>
`;

function Drawing({ shape }) {
  const ratio = ratioOf(shape);
  const long = ratio === 1 ? 22 : 30;
  const [width, height] = ratio > 1 ? [long, long / ratio] : [long * ratio, long];
  return html`
    <svg class="shape-drawing" width="32" height="32" viewBox="0 0 32 32" aria-hidden="true">
      <rect x=${16 - width / 2} y=${16 - height / 2} width=${width} height=${height} rx="3" />
    </svg>
  `;
}

export const Choice = ({ field }) => html`
  <fieldset class="field">
    <legend>${field.title}</legend>
    <div class="options">
      ${field.options.map(
        (option) => html`
          <${Radio} key=${option} field=${field} value=${option}><span>${option}</span><//>
        `,
      )}
    </div>
  </fieldset>
`;

const Radio = ({ field, value, children }) => html`
  <label class="option">
    <input
      type="radio"
      name=${field.name}
      value=${value}
      checked=${valueOf(field) === value}
      onChange=${() => set(field.name, value)}
    />
    <span class="option-face">${children}</span>
  </label>
`;

export function Slider({ field }) {
  const { name, title, least, most, step } = field;
  const value = valueOf(field);
  const unit = /second/.test(field.description) ? " s" : "";
  return html`
    <div class="field">
      <div class="field-head">
        <label for=${name}>${title}</label>
        <output class="value" for=${name}>${value}${unit}</output>
      </div>
      <input
        id=${name}
        data-field=${name}
        type="range"
        min=${least}
        max=${most}
        step=${step}
        value=${value}
        aria-valuetext=${`${value}${unit && " seconds"}`}
        onInput=${(event) => set(name, Number(event.target.value))}
      />
      <div class="ends" aria-hidden="true">
        <span>${least}</span>
        <span>${most}${unit}</span>
      </div>
    </div>
  `;
}

export function Seed({ field, problem }) {
  const { name, title, description } = field;
  const value = isSeedKept.value ? (values.value[name] ?? "") : "";
  const write = (text) => {
    isSeedKept.value = text !== "";
    set(name, /^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text === "" ? -1 : text);
  };
  const keep = () => {
    if (isSeedKept.value) write("");
    else write(String(Math.floor(Math.random() * FACES)));
  };
  return html`
    <div class="field">
      <div class="field-head">
        <label for=${name}>${title}</label>
        <span class="note">${isSeedKept.value ? "kept" : "drawn anew each time"}</span>
      </div>
      <div class="row">
        <input
          id=${name}
          data-field=${name}
          type="text"
          inputmode="numeric"
          placeholder="any"
          autocomplete="off"
          aria-description=${description}
          aria-invalid=${String(Boolean(problem))}
          value=${String(value)}
          onInput=${(event) => write(event.target.value.trim())}
        />
        <button
          class="plain square"
          type="button"
          title="Throw the dice"
          aria-label="Throw the dice"
          onClick=${() => write(String(Math.floor(Math.random() * FACES)))}
        >
          <${Icon} name="dice" />
        </button>
        <button
          class="plain square"
          type="button"
          title="Keep the seed"
          aria-label="Keep the seed"
          aria-pressed=${String(isSeedKept.value)}
          onClick=${keep}
        >
          <${Icon} name=${isSeedKept.value ? "lock" : "unlock"} />
        </button>
      </div>
    </div>
  `;
}

export const Number_ = ({ field, problem }) => html`
  <${Line}
    field=${field}
    problem=${problem}
    mode="numeric"
    read=${(text) => (/^-?\d+$/.test(text) ? Number(text) : text)}
  />
`;

export const Text = ({ field, problem }) => html`
  <${Line} field=${field} problem=${problem} mode="text" read=${(text) => text} />
`;

const Line = ({ field, problem, mode, read }) => html`
  <div class="field">
    <div class="field-head"><label for=${field.name}>${field.title}</label></div>
    <input
      id=${field.name}
      data-field=${field.name}
      type="text"
      inputmode=${mode}
      aria-description=${field.description}
      aria-invalid=${String(Boolean(problem))}
      value=${String(valueOf(field) ?? "")}
      onInput=${(event) => set(field.name, read(event.target.value))}
    />
  </div>
`;

export const Switch = ({ field }) => html`
  <div class="field">
    <label class="switch">
      <input
        type="checkbox"
        role="switch"
        checked=${Boolean(valueOf(field))}
        onChange=${(event) => set(field.name, event.target.checked)}
      />
      <span>${field.title}</span>
    </label>
    <p class="note">${field.description}</p>
  </div>
`;

// Prompt, shape, duration, seed and model: made from the chosen model's schema, which knows their limits.

import { byId, grouped, make } from "./dom.js";

const NAMES = {
  "skywork-ai/skyreels-v3/reference-to-video": "SkyReels-V3",
  "mutoscope/animatic/reference-to-video": "Animatic",
};
const SHAPE_NAMES = { "16:9": "Wide", "9:16": "Tall", "1:1": "Square" };

export const ANIMATIC = "mutoscope/animatic/reference-to-video";

/** "$0.20", or "Free". */
export const money = (dollars) => (dollars === 0 ? "Free" : `$${dollars.toFixed(Math.round(dollars * 1e4) % 100 ? 4 : 2)}`);

/** The settings for these models. `onChange` is called when any changes. */
export function createSettings(models, { sandbox, onChange }) {
  const prompt = byId("prompt");
  const duration = byId("duration");
  const seed = byId("seed");
  let model = models[0];

  const schema = () => model.api_schema.api_schemas[0].request_schema.properties;
  const mostSeed = () => Math.min(schema().seed?.maximum ?? Infinity, Number.MAX_SAFE_INTEGER);
  const promptLength = () => [...prompt.value.trim()].length;

  byId("models").replaceChildren(
    ...models.map((each) =>
      option("model", each.model_id, [
        make("span", { className: "model-name", textContent: NAMES[each.model_id] ?? each.name }),
        make("span", { className: "note", textContent: each.base_price ? `${money(each.base_price / 5)} a second` : "Free" }),
      ]),
    ),
  );
  byId("models-field").hidden = models.length < 2;

  function choose(id) {
    model = models.find((each) => each.model_id === id) ?? models[0];
    check("model", model.model_id);
    const stood = model.model_id !== ANIMATIC && sandbox;
    byId("model-note").textContent = stood ? "In this sandbox the animatic stands in for it." : model.description;
    const { aspect_ratio: shapes, duration: seconds } = schema();
    const shape = chosen("aspect_ratio") ?? shapes.default;
    byId("shapes").replaceChildren(
      ...shapes.enum.map((each) => {
        const [width, height] = each.split(":").map(Number);
        const drawing = make("span", { className: "shape-drawing", "aria-hidden": "true" }, make("span"));
        drawing.firstChild.style.setProperty("--ratio", width / height);
        return option("aspect_ratio", each, [
          drawing,
          make("span", { className: "shape-name" }, SHAPE_NAMES[each] ?? "", " ", make("span", { className: "note", textContent: each })),
        ]);
      }),
    );
    check("aspect_ratio", shapes.enum.includes(shape) ? shape : shapes.default);
    const value = duration.min ? duration.value : seconds.default;
    Object.assign(duration, { min: seconds.minimum, max: seconds.maximum, step: seconds.step ?? 1, value });
    byId("duration-least").textContent = `${seconds.minimum} s`;
    byId("duration-most").textContent = `${seconds.maximum} s`;
  }

  function show() {
    const { minimum, maximum } = schema().duration;
    duration.style.setProperty("--share", (duration.value - minimum) / (maximum - minimum));
    duration.setAttribute("aria-valuetext", `${duration.value} seconds`);
    byId("duration-value").textContent = `${duration.value} s`;
    const length = promptLength();
    const most = schema().prompt.maxLength;
    byId("prompt-count").textContent = `${grouped(length)} / ${grouped(most)}`;
    byId("prompt-count").classList.toggle("is-too-long", length > most);
  }

  function changed(event) {
    event.target.removeAttribute("aria-invalid");
    if (event.target.name === "model") choose(event.target.value);
    show();
    onChange();
  }
  for (const id of ["prompt", "duration", "seed", "shapes", "models"]) byId(id).addEventListener("input", changed);

  choose(models[0].model_id);
  show();

  return {
    /** What is chosen now, in the API's words (seed left out when it is to be drawn). */
    values: () => ({
      prompt: prompt.value.trim(),
      aspect_ratio: chosen("aspect_ratio"),
      duration: Number(duration.value),
      ...(seed.value.trim() && { seed: Number(seed.value.trim()) }),
    }),
    model: () => model.model_id,
    maxPictures: () => schema().images.maxItems,
    set(values) {
      if (values.model) choose(values.model);
      if (typeof values.prompt === "string") prompt.value = values.prompt;
      if (schema().aspect_ratio.enum.includes(values.aspect_ratio)) check("aspect_ratio", values.aspect_ratio);
      if (values.duration) duration.value = values.duration;
      seed.value = values.seed >= 0 ? values.seed : "";
      show();
      onChange();
    },
    /** What has to be mended before it can run: { field, sentence }, or null. */
    problem() {
      const most = schema().prompt.maxLength;
      if (!promptLength()) return { field: prompt, sentence: "Write a prompt: what happens in the video?" };
      if (promptLength() > most) {
        return { field: prompt, sentence: `The prompt is ${grouped(promptLength() - most)} characters too long.` };
      }
      const text = seed.value.trim();
      if (text && !(/^\d+$/.test(text) && Number(text) <= mostSeed())) {
        return { field: seed, sentence: `The seed has to be a whole number from 0 to ${grouped(mostSeed())}, or empty.` };
      }
      return null;
    },
  };
}

function option(name, value, children) {
  const input = make("input", { type: "radio", name, value });
  return make("label", { className: "option" }, input, make("span", { className: "option-face" }, ...children));
}

const radios = (name) => [...document.querySelectorAll(`input[name="${name}"]`)];
const chosen = (name) => radios(name).find((input) => input.checked)?.value;

function check(name, value) {
  for (const input of radios(name)) input.checked = input.value === value;
}

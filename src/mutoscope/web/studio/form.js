// What the form holds: the chosen model, its inputs as its schema has them, and what they cost. The only module that
// reads schemas; a new model, or a new input of one, needs no line here.

import * as api from "../api.js";
import { batch, computed, effect, signal } from "../html.js";
import { recall, remember } from "../memory.js";
import { ratioOf } from "../words.js";

const SETTLE = 150; // milliseconds: a slider passes many values
const MANY = 1_000; // a whole number with more values than this is typed, not slid
const LONG = 1_000; // a text longer than this is written, not typed

const draft = recall("draft", {});

/** The models on offer: [{ id, title, engine, description, tips, isFree, schema }]. */
export const catalogue = signal([]);
export const modelId = signal(draft.model ?? "");
/** The inputs but for the references, by name. One that was not set is absent. */
export const values = signal(draft.values ?? {});
/** What it would cost, as the server says: { amount } in dollars, or { problem }; null while that is asked. */
export const quote = signal(null);
/** Whether the seed stays from one run to the next. */
export const isSeedKept = signal(draft.isSeedKept ?? false);

export const model = computed(
  () => catalogue.value.find(({ id }) => id === modelId.value) ?? catalogue.value[0] ?? null,
);
/** The free model that shows a shot before it is paid for: one that needs nothing more. */
export const sketcher = computed(() =>
  catalogue.value.find(
    ({ isFree, schema }) => isFree && schema.required.every((name) => ["prompt", "images"].includes(name)),
  ),
);
export const fields = computed(() => (model.value ? fieldsOf(model.value.schema) : []));
/** The shape that is chosen, "16:9", and its width over its height. */
export const shape = computed(() => {
  const found = fields.value.find(({ kind }) => kind === "shape");
  return found ? valueOf(found) : values.value.aspect_ratio;
});
export const ratio = computed(() => ratioOf(shape.value));
export const field = (name) => fields.value.find((each) => each.name === name);

/** Take in what GET /models answered. */
export function stock(models) {
  catalogue.value = models.map((each) => ({
    id: each.model_id,
    title: each.title ?? each.model_id,
    description: each.description,
    engine: each.engine,
    tips: each.tips ?? [],
    isFree: each.base_price === 0,
    schema: each.api_schema.api_schemas[0].request_schema,
  }));
}

/** Each input of a schema: { name, title, description, kind, isRequired, … } in the order a form shows them. */
export function fieldsOf(schema) {
  const names = schema["x-order-properties"] ?? Object.keys(schema.properties);
  const found = names.map((name) => {
    const property = schema.properties[name];
    return {
      name,
      title: property.title ?? name,
      description: property.description ?? "",
      isRequired: schema.required.includes(name),
      kind: kindOf(property),
      type: property.type,
      otherwise: property.default,
      options: property.enum,
      sizes: property["x-sizes"], // option → shape → [width, height] of the video
      least: property.minimum ?? property.minLength ?? property.minItems,
      most: property.maximum ?? property.maxLength ?? property.maxItems,
      step: property.step ?? 1,
    };
  });
  return found.sort((one, other) => (other.kind === "references") - (one.kind === "references")); // pictures come first
}

function kindOf({ type, enum: options, minimum, maximum, maxLength, "x-ui-component": component }) {
  if (component === "uploader" || type === "array") return "references";
  if (options) return options.every((option) => /^\d+:\d+$/.test(option)) ? "shape" : "choice";
  if (type === "boolean") return "switch";
  if (type === "integer" && minimum < 0) return "seed";
  if (type === "integer" || type === "number") return maximum - minimum <= MANY ? "slider" : "number";
  return maxLength >= LONG ? "prompt" : "text";
}

export const set = (name, value) => (values.value = { ...values.value, [name]: value });

/** An input as it is, or as it is when nothing is said. */
export const valueOf = ({ name, otherwise }) => values.value[name] ?? otherwise;

/** The inputs as the API takes them, for `fields` of a model; without the references. */
export function inputs(of = fields.value) {
  const found = {};
  for (const each of of) {
    if (each.kind === "references") continue;
    const value = valueOf(each);
    if (each.kind === "seed" && !(value >= 0)) continue; // one is drawn
    if (value !== undefined && value !== "") found[each.name] = typeof value === "string" ? value.trim() : value;
  }
  return found;
}

/** [width, height] of the video that is asked for, or null where the schema does not say. */
export function sizeOf(asked) {
  const { name, sizes, otherwise } = fields.value.find((each) => each.sizes) ?? {};
  return sizes?.[asked[name] ?? otherwise]?.[asked.aspect_ratio] ?? null;
}

/** What keeps these inputs from being sent: { name, sentence }, or null. */
export function problem() {
  for (const { name, title, kind, isRequired, least, most } of fields.value) {
    const value = values.value[name];
    if (kind === "references") continue;
    if (isRequired && !String(value ?? "").trim())
      return { name, sentence: `Write a ${title.toLowerCase()} first: what happens in the video.` };
    if (kind === "prompt" && value.trim().length > most) {
      return {
        name,
        sentence: `The ${title.toLowerCase()} is too long: ${most.toLocaleString("en-US")} characters are the most.`,
      };
    }
    if (kind === "seed" || kind === "number") {
      const isWhole =
        value === undefined || value === "" || (/^-?\d+$/.test(value) && Number.isSafeInteger(Number(value)));
      if (!isWhole || Number(value ?? least) < least) {
        return {
          name,
          sentence: `The ${title.toLowerCase()} has to be a whole number from 0 to 9,007,199,254,740,991, or empty.`,
        };
      }
    }
  }
  return null;
}

/** Fill the form from a prediction, a recipe or an example. */
export function fill({ model: id, inputs: found }) {
  batch(() => {
    if (id && catalogue.value.some((each) => each.id === id)) modelId.value = id;
    const { images: _, ...others } = found;
    values.value = { ...values.value, ...others };
  });
}

// The price: always the server's, asked again whenever an input other than a text changes.
let asking = new AbortController();
const priced = computed(() => {
  if (!model.value) return "";
  const counted = fields.value.filter(({ kind }) => !["references", "prompt", "text", "seed"].includes(kind));
  return JSON.stringify([model.value.id, inputs(counted)]);
});
effect(() => {
  if (!priced.value) return;
  const [id, of] = JSON.parse(priced.value);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const slow = setTimeout(() => (quote.value = null), 700); // an old price would mislead
  setTimeout(async () => {
    try {
      if (signal.aborted) return;
      const { price, discounted_price: discounted = price } = await api.price(id, of, signal);
      if (!signal.aborted) quote.value = { amount: discounted };
    } catch (error) {
      if (!signal.aborted) quote.value = { problem: error.message };
    } finally {
      clearTimeout(slow);
    }
  }, SETTLE);
});

effect(() =>
  remember("draft", {
    ...recall("draft", {}),
    model: modelId.value,
    values: values.value,
    isSeedKept: isSeedKept.value,
  }),
);

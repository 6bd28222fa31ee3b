// The shot before it is paid for: whenever the form changes, an animatic of the same references, prompt, shape and
// duration is rendered, for free and small. The one that is no longer wanted is canceled and forgotten.

import * as api from "../api.js";
import { computed, effect, signal, untracked } from "../html.js";
import { recall, remember } from "../memory.js";
import { isOver, watch } from "../watch.js";
import * as form from "./form.js";
import * as references from "./references.js";
import { pairs } from "./takes.js";

const QUIET = 300; // milliseconds without a keystroke
const LOOK_EVERY = 80; // milliseconds: it takes a second or two

export const isOn = signal(recall("previewing", true));
/** { state: "idle" | "waiting" | "rendering" | "ready" | "failed", take?, of?, problem? }; `take` is the last made. */
export const preview = signal({ state: "idle" });

const seed = Math.floor(Math.random() * 2 ** 32); // the same while one types: only what is typed changes the picture
let spent = ""; // the inputs whose preview was rendered in earnest already: the next run draws another seed
let current = new AbortController();

/** The inputs of the preview as text; "" while there is nothing to show. */
const wanted = computed(() => {
  const model = form.sketcher.value;
  if (!isOn.value || !model || !references.urls.value.length || references.isUploading.value) return "";
  const fields = form.fieldsOf(model.schema);
  const inputs = form.inputs(fields);
  if (!inputs.prompt || form.problem()) return "";
  const sizes = fields.find(({ name }) => name === "resolution");
  if (sizes) inputs.resolution = sizes.options[0];
  if (!form.isSeedKept.value) inputs.seed = seed;
  return JSON.stringify([model.id, { ...inputs, images: references.urls.value }]);
});

export const isBusy = computed(() => ["waiting", "rendering"].includes(preview.value.state));

/** Whether what is shown is a preview of the form as it is. */
export const isCurrent = computed(() => preview.value.state === "ready" && preview.value.of === wanted.value);

effect(() => {
  remember("previewing", isOn.value);
  const text = wanted.value;
  untracked(() => change(text));
});

function change(text) {
  current.abort();
  const { take, of } = preview.value;
  if (!text) {
    preview.value = take ? { state: "idle", take, of } : { state: "idle" };
    return;
  }
  if (take && of === text) {
    preview.value = { state: "ready", take, of };
    return;
  }
  current = new AbortController();
  const { signal } = current;
  preview.value = { state: "waiting", take, of };
  setTimeout(() => signal.aborted || make(text, signal), QUIET);
}

async function make(text, signal) {
  const [model, inputs] = JSON.parse(text);
  let id = "";
  try {
    ({ id } = await api.submit(model, inputs));
    if (signal.aborted) return discard(id);
    for await (const take of watch(id, { signal, every: LOOK_EVERY, byStream: false })) {
      if (take.status === "completed") return settle(take, text);
      if (isOver(take)) throw new Error(take.error || "The preview was canceled.");
      preview.value = { ...preview.value, state: "rendering", progress: take.progress };
    }
  } catch (error) {
    if (signal.aborted) return id && discard(id);
    if (error.status === 429)
      return setTimeout(() => signal.aborted || make(text, signal), 1_000 * (error.retryAfter || 5));
    preview.value = { ...preview.value, state: "failed", problem: error.message };
    references.markFault(error.message);
  }
}

function settle(take, text) {
  const before = preview.value.take;
  preview.value = { state: "ready", take, of: text };
  remember("preview", { id: take.id, of: text });
  if (before && !Object.values(pairs.value).includes(before.id)) discard(before.id);
}

/** End a preview that nobody wants, and forget it once it has ended. */
async function discard(id) {
  try {
    const { status } = await api.end(id);
    if (status !== "deleted") setTimeout(() => api.end(id).catch(() => {}), 2_000);
  } catch {
    // it is gone, as was wanted
  }
}

/** The seed and the id of the preview that the next run is a rendering of, or nothing. A preview that is under way is
 * given up: what was asked for in earnest goes first. */
export function spend() {
  if (isBusy.value) {
    current.abort();
    preview.value = { ...preview.value, state: "idle" };
  }
  if (!isCurrent.value || spent === wanted.value) return { seed: undefined, id: "" };
  spent = wanted.value;
  const { take } = preview.value;
  return { seed: take.seed, id: take.id };
}

/** Show the preview of the last visit, if the form is still as it was. */
export async function recover() {
  const { id, of } = recall("preview", {}) ?? {};
  if (!id) return;
  try {
    const take = await api.prediction(id);
    if (take.status === "completed" && !preview.value.take) preview.value = { ...preview.value, take, of };
    if (of === wanted.value) change(of);
  } catch {
    remember("preview", null);
  }
}

// What the service sees in the references before anything is paid for, asked whenever they, the prompt or the shape
// change.

import * as api from "../api.js";
import { computed, effect, signal } from "../html.js";
import { shape, values } from "./form.js";
import { capital } from "../words.js";
import { isBusy } from "./preview.js";
import { isUploading, urls } from "./references.js";

const QUIET = 700; // milliseconds without a change
const SHAPING = 100; // another shape alone needs no second look at the pictures
const PATIENCE = 4_000; // milliseconds for the preview to be there first

const findings = signal(null); // { asked, images, advice }, `asked` being { images, prompt, aspect_ratio }
let asking = new AbortController();
let underWay = null;

const asked = computed(() => {
  if (!urls.value.length || isUploading.value) return "";
  const { prompt = "" } = values.value;
  return JSON.stringify({ images: urls.value, prompt, aspect_ratio: shape.value });
});

effect(() => {
  const text = asked.value;
  asking.abort();
  if (!text) return;
  asking = new AbortController();
  const { signal } = asking;
  const quick = isAnotherShape(text);
  setTimeout(
    async () => {
      if (!quick) await whenIdle();
      if (!signal.aborted) ask(text, signal);
    },
    quick ? SHAPING : QUIET,
  );
});

/** Once no preview is made, or that takes long: it goes first, and to look at pictures takes a processor too. */
function whenIdle() {
  return new Promise((resolve) => {
    const timer = setTimeout(done, PATIENCE);
    const stop = effect(() => {
      if (!isBusy.value) queueMicrotask(done);
    });
    function done() {
      clearTimeout(timer);
      stop();
      resolve();
    }
  });
}

function isAnotherShape(text) {
  const before = findings.peek()?.asked;
  return before && JSON.stringify({ ...JSON.parse(text), aspect_ratio: before.aspect_ratio }) === JSON.stringify(before);
}

/** One question at a time: the server goes on looking whether or not somebody still waits. */
async function ask(text, signal) {
  while (underWay) await underWay;
  if (signal.aborted) return;
  underWay = put(text);
  const pause = await underWay;
  underWay = null;
  if (pause) setTimeout(() => signal.aborted || ask(text, signal), pause);
}

/** Ask, and keep the answer. Resolves to the milliseconds to wait before asking again, or 0; never rejects. */
async function put(text) {
  try {
    findings.value = { asked: JSON.parse(text), ...(await api.inspect(JSON.parse(text))) };
  } catch (error) {
    if (error.status === 429) return 1_000 * (error.retryAfter || 1);
    // Anything else is no reason to bother anybody: it is advice.
  }
  return 0;
}

const about = (url) => findings.value?.images[findings.value.asked.images.indexOf(url)];

/** What is seen in a reference, as the endpoint tells it, or undefined. */
export const seen = ({ url }) => (url ? about(url) : undefined);

/** How a reference lies in the chosen shape, or null where it has that shape: { crop, bars }. `crop` is the part of the
 * picture that a crop would keep, [x, y, width, height] in fractions; `bars` is the share of the frame that is left over
 * beside the whole picture. */
export function fitOf(reference) {
  const { crop, pad } = seen(reference) ?? {};
  if (!crop || findings.value.asked.aspect_ratio !== shape.value) return null;
  return { crop, bars: 1 - pad[2] * pad[3] };
}

/** Advice on the references as they are now: [{ images: [index], message }]. */
export const advice = computed(() => {
  if (!findings.value || !urls.value.length) return [];
  const place = (number) => urls.value.indexOf(findings.value.asked.images[number - 1]); // counted from 1, as @1 is
  const each = findings.value.images.flatMap(({ index, width, advice: list, error }) => {
    // One that was decoded, but not looked at in time, is no fault of the picture.
    const faults = error && !width ? [{ message: capital(error.replace(/^Image \d+[^:]*: /, "")) }] : [];
    return [...faults, ...list].map(({ message }) => ({ images: [index], message }));
  });
  return [...each, ...findings.value.advice]
    .map(({ images = [], message }) => ({ images: images.map(place), message }))
    .filter(({ images }) => images.every((index) => index >= 0));
});

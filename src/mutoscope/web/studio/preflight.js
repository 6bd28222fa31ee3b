// What the service sees in the references before anything is paid for, asked whenever they, the prompt or the shape
// change.

import * as api from "../api.js";
import { computed, effect, signal } from "../html.js";
import { values } from "./form.js";
import { capital } from "../words.js";
import { isUploading, urls } from "./references.js";

const QUIET = 1_000; // milliseconds: the preview goes first

const findings = signal(null); // { urls, images, advice }
let asking = new AbortController();

const asked = computed(() => {
  if (!urls.value.length || isUploading.value) return "";
  const { prompt = "", aspect_ratio } = values.value;
  return JSON.stringify({ images: urls.value, prompt, aspect_ratio });
});

effect(() => {
  const text = asked.value;
  asking.abort();
  if (!text) return;
  asking = new AbortController();
  const { signal } = asking;
  setTimeout(() => signal.aborted || ask(text, signal), QUIET);
});

async function ask(text, signal) {
  try {
    const found = await api.inspect(JSON.parse(text), signal);
    if (!signal.aborted) findings.value = { urls: JSON.parse(text).images, ...found };
  } catch (error) {
    if (error.status === 429)
      setTimeout(() => signal.aborted || ask(text, signal), 1_000 * (error.retryAfter || 1));
    // Anything else is no reason to bother anybody: it is advice.
  }
}

const about = (url) => findings.value?.images[findings.value.urls.indexOf(url)];

/** What a reference shows, in a word, or "". */
export const seen = ({ url }) => (url && about(url)?.kind) || "";

/** The part of a reference that the shape leaves visible, as fractions [x, y, width, height], or null. */
export const cropOf = ({ url }) => (url && about(url)?.crop) || null;

/** Advice on the references as they are now: [{ images: [index], message }]. */
export const advice = computed(() => {
  if (!findings.value || !urls.value.length) return [];
  const place = (number) => urls.value.indexOf(findings.value.urls[number - 1]); // they count from 1, as @1 does
  const each = findings.value.images.flatMap(({ index, width, advice: list, error }) => {
    // One that was decoded, but not looked at in time, is no fault of the picture.
    const faults = error && !width ? [{ message: capital(error.replace(/^Image \d+[^:]*: /, "")) }] : [];
    return [...faults, ...list].map(({ message }) => ({ images: [index], message }));
  });
  return [...each, ...findings.value.advice]
    .map(({ images = [], message }) => ({ images: images.map(place), message }))
    .filter(({ images }) => images.every((index) => index >= 0));
});

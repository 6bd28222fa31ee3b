// The references of the form: pictures that were dropped, pasted, taken, chosen or named by address; each is uploaded
// at once, in an order of one's own. Knows no view.

import { upload } from "../api.js";
import { computed, effect, signal } from "../html.js";
import { recall, remember } from "../memory.js";

const MAX_ADDRESS = 8_192;
const PICTURE_NAMES = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif|jfif)$/i;

/** Each { id, name, file?, url, shown, state, share, problem, width, height, bytes }: sending, ready or failed. */
export const references = signal([]);
export const most = signal(4);
/** What is wrong with what was just added, in a sentence. */
export const complaint = signal("");
export const isUploading = computed(() => references.value.some(({ state }) => state === "sending"));
/** Their URLs, of those that have one. */
export const urls = computed(() => references.value.filter(({ state }) => state === "ready").map(({ url }) => url));

let count = 0;
const leaving = new Map(); // id → AbortController of its upload

/** Whether a file can be a picture, by its type or its name; what it really is, the server judges. */
export const looksLikePicture = (file) =>
  file.type.startsWith("image/") || (!file.type && (!file.name || PICTURE_NAMES.test(file.name)));

/** The address in `text` as the API takes it, or "". */
export function asAddress(text) {
  const trimmed = text.trim();
  if (/^data:image\//i.test(trimmed)) return trimmed;
  try {
    const { protocol, href } = new URL(trimmed);
    return ["http:", "https:"].includes(protocol) && href.length <= MAX_ADDRESS ? href : "";
  } catch {
    return "";
  }
}

/** Add files; with `instead`, the first takes the place of that reference. */
export function addFiles(files, instead = "") {
  complaint.value = "";
  const other = [...files].find((file) => !looksLikePicture(file));
  if (other) complaint.value = `${other.name} is not a picture.`;
  for (const file of [...files].filter(looksLikePicture)) {
    const shown = URL.createObjectURL(file);
    const added = place(
      { name: file.name || "pasted picture", file, url: "", shown, state: "sending", bytes: file.size },
      instead,
    );
    if (added) send(added);
    instead = "";
  }
}

/** Add a picture by its address; false when there is none in `text`. */
export function addAddress(text, name = "") {
  const url = asAddress(text);
  complaint.value = url ? "" : "That is not a web address: it has to begin with https:// or http://.";
  return Boolean(url && place({ name: name || nameOf(url), url, shown: url, state: "ready" }));
}

export function remove(id) {
  const gone = references.value.find((each) => each.id === id);
  references.value = references.value.filter((each) => each !== gone);
  complaint.value = "";
  drop(gone);
}

/** Put the reference `id` at a place, counted from 0. */
export function move(id, to) {
  const others = references.value.filter((each) => each.id !== id);
  if (to < 0 || to > others.length) return;
  references.value = others.toSpliced(
    to,
    0,
    references.value.find((each) => each.id === id),
  );
}

/** Put these in place of all: a list of { name?, url }. */
export function replaceAll(found) {
  references.value.forEach(drop);
  references.value = [];
  complaint.value = "";
  for (const { name, url } of found) place({ name: name || nameOf(url), url, shown: url, state: "ready" });
}

export const update = (id, changes) =>
  (references.value = references.value.map((each) => (each.id === id ? { ...each, ...changes } : each)));

/** Their URLs, once all are uploaded. Throws when one could not be. */
export async function allUrls() {
  await new Promise((resolve) => {
    const stop = effect(() => {
      if (!isUploading.value) queueMicrotask(() => (stop(), resolve()));
    });
  });
  const failed = references.value.find(({ state }) => state === "failed");
  if (failed) throw new Error(`${failed.name} was not uploaded: ${failed.problem}`);
  return urls.value;
}

/** Mark the picture that a sentence of the server is about: "Image 2 (upload): …". */
export function markFault(sentence) {
  const number = Number(/^Image (\d+)\b/.exec(sentence)?.[1] ?? 0);
  references.value = references.value.map((each, index) =>
    each.state === "ready" ? { ...each, problem: index + 1 === number ? sentence : "" } : each,
  );
}

export async function send({ id, file }) {
  const controller = new AbortController();
  leaving.set(id, controller);
  update(id, { state: "sending", problem: "", share: 0 });
  try {
    const url = await upload(file, (share) => update(id, { share }), controller.signal);
    update(id, { url, state: "ready" });
  } catch (error) {
    if (controller.signal.aborted) return;
    const { name } = references.value.find((each) => each.id === id);
    update(id, { state: "failed", problem: error.message });
    complaint.value = `${name}: ${error.message}`;
  } finally {
    leaving.delete(id);
  }
}

function place(reference, instead = "") {
  const added = { id: `r${(count += 1)}`, problem: "", share: 0, width: 0, height: 0, bytes: 0, ...reference };
  const at = references.value.findIndex(({ id }) => id === instead);
  if (at < 0 && references.value.length >= most.value) {
    complaint.value = `${most.value} pictures are the most; “${added.name}” was left out.`;
    drop(added);
    return null;
  }
  if (at >= 0) drop(references.value[at]);
  references.value = at >= 0 ? references.value.with(at, added) : [...references.value, added];
  return added;
}

function drop({ id, shown }) {
  leaving.get(id)?.abort();
  if (shown.startsWith("blob:")) URL.revokeObjectURL(shown);
}

function nameOf(url) {
  if (url.startsWith("data:")) return "picture";
  const { hostname, pathname } = new URL(url);
  try {
    return decodeURIComponent(pathname.split("/").pop()) || hostname;
  } catch {
    return hostname;
  }
}

for (const { name, url } of recall("draft", {}).images ?? []) place({ name, url, shown: url, state: "ready" });
effect(() => {
  const kept = references.value.filter(({ state, url }) => state === "ready" && url.length <= MAX_ADDRESS);
  remember("draft", { ...recall("draft", {}), images: kept.map(({ name, url }) => ({ name, url })) });
});

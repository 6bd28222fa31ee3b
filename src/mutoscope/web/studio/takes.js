// The takes this browser is about: those that run, those on the strip, and what stands on the stage. Started,
// followed to their end, and found again after a reload.

import * as api from "../api.js";
import { say } from "../announce.js";
import { batch, computed, signal } from "../html.js";
import { recall, remember } from "../memory.js";
import { isOver, watch } from "../watch.js";
import { STATES } from "../words.js";

const ON_STRIP = 24;
const MOST_COMPARED = 4;

/** id → prediction, as last heard. One that is not accepted yet has an id of ours, and `isLocal`. */
export const takes = signal(new Map());
/** Their ids on the strip, the newest first. */
export const strip = signal(recall("strip", []));
/** The ids on the stage: none while a shot is composed, one that is watched, or up to four that are compared. */
export const onStage = signal([]);
/** Whether the next take that is picked joins those on the stage. */
export const isComparing = signal(false);
/** run id → id of the animatic that was made of the same inputs before it. */
export const pairs = signal(recall("pairs", {}));

export const running = computed(() => [...takes.value.values()].filter((take) => !isOver(take)));
export const get = (id) => takes.value.get(id);

export function put(take) {
  takes.value = new Map(takes.value).set(take.id, { ...takes.value.get(take.id), ...take });
}

/** Start a take: `prepare` resolves to its inputs. Shows it on the stage from the first moment on. */
export async function start(model, inputs, prepare, pairedWith = "") {
  const once = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const local = {
    id: `local-${once}`,
    isLocal: true,
    model,
    input: { ...inputs, images: [] },
    status: "created",
    stage: "",
    outputs: [],
  };
  put(local);
  setStrip([local.id, ...strip.value]);
  show([local.id]);
  try {
    const images = await prepare();
    put({ ...local, stage: "Starting", input: { ...inputs, images } });
    const found = await api.submit(model, { ...inputs, images }, once);
    batch(() => {
      put({ ...found, startedAs: local.id });
      if (pairedWith) setPair(found.id, pairedWith);
      supplant(local.id, found.id);
    });
    follow(found.id);
    return found;
  } catch (error) {
    put({ ...local, status: "failed", error: error.message, code: error.code });
    throw error;
  }
}

const followed = new Set();

/** Tell what becomes of a take until it is over; one that is followed already is not followed twice. */
export async function follow(id) {
  if (followed.has(id)) return;
  followed.add(id);
  remember("runs", [...new Set([...recall("runs", []), id])]);
  try {
    for await (const found of watch(id)) {
      put(found);
      if (onStage.value.includes(id)) say(STATES[found.status] ?? found.status);
      if (found.status === "deleted") lose(id); // from elsewhere
    }
  } catch (error) {
    if (error.status === 404) lose(id);
    else put({ ...get(id), id, status: "failed", error: error.message });
  }
  followed.delete(id);
  unfollow(id);
}

const unfollow = (id) =>
  remember(
    "runs",
    recall("runs", []).filter((each) => each !== id),
  );

/** Find again what ran when this page was last open, and what was on its strip. */
export function recover() {
  const ids = recall("runs", []);
  setStrip(strip.value.filter((id) => !id.startsWith("local-")));
  for (const id of ids) follow(id);
  if (ids.length) show([ids.at(-1)]);
  for (const id of strip.value.filter((each) => !ids.includes(each))) learn(id);
}

/** Ask for a take that is not known here, and follow it if it goes on. */
export async function learn(id) {
  try {
    put(await api.prediction(id));
    if (!isOver(get(id))) follow(id);
  } catch (error) {
    if (error.status === 404) lose(id);
  }
}

/** Put takes on the stage; with `isComparing`, one joins those that are there. */
export function show(ids) {
  if (isComparing.value && ids.length === 1) {
    const others = onStage.value.filter((id) => id !== ids[0]);
    onStage.value = others.length < onStage.value.length ? others : [...others, ...ids].slice(-MOST_COMPARED);
  } else {
    onStage.value = ids.slice(0, MOST_COMPARED);
  }
  for (const id of onStage.value) {
    const take = get(id);
    if (!take) learn(id);
    else if (!take.isLocal && !isOver(take)) follow(id); // it may have been started elsewhere
  }
}

/** Clear the stage for composing. */
export function clear() {
  isComparing.value = false;
  onStage.value = [];
}

/** Forget takes here: they are gone from the server, or were never there. */
export function lose(...ids) {
  const isKept = (id) => !ids.includes(id);
  batch(() => {
    takes.value = new Map([...takes.value].filter(([id]) => isKept(id)));
    setStrip(strip.value.filter(isKept));
    onStage.value = onStage.value.filter(isKept);
  });
}

/** End a take that runs. */
export async function cancel(id) {
  put({ ...get(id), isCanceling: true });
  try {
    const found = await api.end(id);
    put({ ...(found.status === "deleted" ? { id, status: "cancelled" } : found), isCanceling: !isOver(found) });
    if (isOver(get(id))) unfollow(id);
  } catch (error) {
    if (error.status === 404) lose(id);
    else throw error;
  }
}

/** Delete takes and their files for good. */
export async function remove(ids) {
  await api.removeMany(ids);
  lose(...ids);
}

/** Mark a take that is known here as a favourite, or as none. */
export async function setFavourite(id, favourite) {
  const before = get(id).favourite;
  put({ id, favourite });
  try {
    await api.setFavourite(id, favourite);
  } catch (error) {
    put({ id, favourite: before });
    throw error;
  }
}

function supplant(old, id) {
  const swap = (ids) => ids.map((each) => (each === old ? id : each));
  setStrip(swap(strip.value));
  onStage.value = swap(onStage.value);
  const { [old]: _, ...others } = Object.fromEntries(takes.value);
  takes.value = new Map(Object.entries(others));
}

function setStrip(ids) {
  strip.value = [...new Set(ids)].slice(0, ON_STRIP);
  remember("strip", strip.value);
}

function setPair(id, sketch) {
  pairs.value = Object.fromEntries([...Object.entries(pairs.value), [id, sketch]].slice(-100));
  remember("pairs", pairs.value);
}

// One task, from its start to its end, as the server tells it. Survives a reload and a server that is away.

import { prediction } from "./api.js";
import { forget, recall, remember } from "./memory.js";

const EVERY = 1_000;
const GOING_ON = new Set(["created", "processing"]);

/** The task that was running when this page was last open. */
export const runningId = () => recall("running");

export const isOver = (found) => !GOING_ON.has(found.status);

/** Yield the prediction now and every second until it is over. Throws Refusal (404) when it is gone. */
export async function* watch(id, signal) {
  remember("running", id);
  try {
    for (;;) {
      const found = await prediction(id, signal);
      yield found;
      if (isOver(found)) break;
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  } catch (error) {
    if (error.status === 404) forget("running");
    throw error;
  }
  forget("running");
}

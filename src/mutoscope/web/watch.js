// One task, from now to its end, as the server tells it: by its stream of events where there is one, else by asking.

import * as api from "./api.js";
import { pause } from "./connection.js";

const GOING_ON = new Set(["created", "processing"]);
const SILENCE = 40_000; // milliseconds: the server says every 15 s that it is still there
const MOST_STREAMS = 2; // a browser opens six connections to a host, and pictures and videos need some of them

let streams = 0;

export const isOver = (found) => !GOING_ON.has(found.status);

/** Yield the prediction now, whenever it changes, and when it is over. Throws Refusal (404) when it is gone. */
export async function* watch(id, { signal, every = 1_000, byStream = true } = {}) {
  let found = await api.prediction(id, signal);
  yield found;
  for (let tries = 0, last = ""; !isOver(found);) {
    if (!byStream || streams >= MOST_STREAMS) {
      await pause(0, signal, every);
      found = await api.prediction(id, signal);
      yield found;
      continue;
    }
    streams += 1;
    try {
      for await (const event of eventsOf(await api.events(id, last, signal), signal)) {
        tries = 0;
        last = event.id || last;
        if (event.name === "preview") found = { ...found, preview: event.data.url };
        else if (event.data?.id) found = { ...found, ...event.data };
        yield found;
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error instanceof api.Refusal) throw error;
    } finally {
      streams -= 1;
    }
    if (isOver(found)) break;
    await pause(tries, signal);
    tries += 1;
    found = await api.prediction(id, signal); // patient: it says when the server is away
    yield found;
  }
}

async function* eventsOf(answer, signal) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const stop = () => reader.cancel().catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    for (let text = ""; ;) {
      const { done, value } = await orSilence(reader.read());
      if (done) return;
      const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = eventOf(block);
        if (event.data === undefined) continue; // a comment: the server is alive
        yield event;
        if (event.name === "end") return;
      }
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    stop();
  }
}

/** What was read, unless nothing comes for so long that the connection must be dead. */
function orSilence(reading) {
  let timer;
  const silence = new Promise((_, reject) => (timer = setTimeout(() => reject(new api.Unreachable()), SILENCE)));
  return Promise.race([reading, silence]).finally(() => clearTimeout(timer));
}

function eventOf(block) {
  const event = { id: "", name: "message", data: undefined };
  let data = "";
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "id") event.id = value;
    else if (field === "event") event.name = value;
    else if (field === "data") data += value;
  }
  if (data) event.data = JSON.parse(data);
  return event;
}

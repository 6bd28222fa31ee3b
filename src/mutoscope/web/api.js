// The server's API, with patience: a reading call goes on trying while the server is away, and a call whose key is
// refused goes on once there is a better one.

import { found, lost, pause } from "./connection.js";
import { askForKey, currentKey } from "./key.js";

const ANSWER_WITHIN = 20_000;

/** The server refused: `message` is its sentence, `code` its word for programs. */
export class Refusal extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The server can't be reached, or is in trouble that may pass. */
export class Unreachable extends Error {
  constructor() {
    super("The server can’t be reached. Run again once it is back.");
  }
}

export const health = () => patiently(() => request("GET", "/healthz"));

export const models = () => patiently(() => request("GET", "/api/v3/models"));

export const price = (model, duration, signal) =>
  patiently(() => request("POST", "/api/v3/model/price", { model_id: model, inputs: { duration } }, signal), signal);

export const prediction = (id, signal) =>
  patiently(() => request("GET", `/api/v3/predictions/${id}/result`, undefined, signal), signal);

/** End a task. Saying so twice does no harm, so it is patient too. */
export const cancel = (id) => patiently(() => request("DELETE", `/api/v3/predictions/${id}`));

/** Start a task. Not tried again by itself: the first try may have been heard. */
export const submit = (model, inputs) => withKey(() => request("POST", `/api/v3/${model}`, inputs));

/** Send a file; answers with its URL. `onShare` is told the share sent, 0 to 1. */
export const upload = (file, onShare, signal) => patiently(() => send(file, onShare, signal), signal).then((data) => data.download_url);

async function patiently(call, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await withKey(call);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      lost();
      await pause(tries, signal);
    }
  }
}

async function withKey(call) {
  for (;;) {
    const sent = currentKey();
    try {
      const data = await call();
      found();
      return data;
    } catch (error) {
      if (error instanceof Refusal) found();
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
      await askForKey(sent);
    }
  }
}

async function request(method, path, body, signal) {
  const late = AbortSignal.timeout(ANSWER_WITHIN);
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...authorization(), ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  return opened(answer.status, text, method);
}

function send(file, onShare, signal) {
  // fetch() can't tell how much of a body is sent; this can.
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name || "picture");
    sending.open("POST", "/api/v3/media/upload/binary");
    for (const [name, value] of Object.entries(authorization())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => onShare(event.total ? event.loaded / event.total : 0);
    sending.onload = () => {
      try {
        resolve(opened(sending.status, sending.responseText, "POST"));
      } catch (error) {
        reject(error);
      }
    };
    sending.onerror = () => reject(new Unreachable());
    sending.onabort = () => reject(signal.reason);
    signal?.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });
}

function opened(status, text, method) {
  let envelope = null;
  try {
    envelope = JSON.parse(text);
  } catch {
    throw new Unreachable(); // a proxy's page, or an answer cut short
  }
  if (status >= 200 && status < 300) return envelope.data;
  if (status >= 500 && method === "GET") throw new Unreachable();
  throw new Refusal(envelope?.message || `The server refused (${status}).`, status, envelope?.error_code ?? "");
}

function authorization() {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// The server's public API, with patience: a reading call goes on trying while the server is away, and a call whose key
// is refused goes on once there is a better one. Knows no view; whatever it can do, a script can.

import { found, lost, pause } from "./connection.js";
import { askForKey, key } from "./session.js";

const ANSWER_WITHIN = 20_000;
const LOOKED_WITHIN = 90_000; // four references may be fetched from slow hosts, and each is looked at

/** The server refused: `message` is its sentence, `code` its word for programs. */
export class Refusal extends Error {
  constructor(message, status = 0, code = "", retryAfter = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

/** The server can't be reached, or is in trouble that may pass. */
export class Unreachable extends Error {
  constructor() {
    super("The server can’t be reached. Try again once it is back.");
  }
}

const v3 = (path) => `/api/v3${path}`;
const reading = (method, path, body, signal, within) =>
  patiently(() => request(method, path, body, signal, {}, within), signal);
const acting = (method, path, body, headers) => withKey(() => request(method, path, body, undefined, headers));

export const health = () => reading("GET", "/healthz");
export const models = () => reading("GET", v3("/models"));
export const price = (model, inputs, signal) =>
  reading("POST", v3("/model/price"), { model_id: model, inputs }, signal);
export const inspect = (asked) => reading("POST", v3("/references/inspect"), asked, undefined, LOOKED_WITHIN);

export const prediction = (id, signal) => reading("GET", v3(`/predictions/${id}/result`), undefined, signal);
export const receipt = (id) => reading("GET", v3(`/predictions/${id}/receipt`));
export const list = (asked, signal) => reading("POST", v3("/predictions"), asked, signal);
export const setFavourite = (id, favourite) => acting("PATCH", v3(`/predictions/${id}`), { favourite });
export const removeMany = (ids) => acting("POST", v3("/predictions/delete"), { ids });

/** Start a task. Not tried again by itself, but with the same `once` it can be: the server starts one. */
export const submit = (model, inputs, once) =>
  acting("POST", v3(`/${model}`), inputs, once && { "Idempotency-Key": once });

/** End a task, or forget one that has ended. Saying so twice does no harm, so it is patient too. */
export const end = (id) => reading("DELETE", v3(`/predictions/${id}`));

export const account = () => reading("GET", v3("/account"));
export const keys = () => reading("GET", v3("/keys"));
export const createKey = (asked) => acting("POST", v3("/keys"), asked);
export const revokeKey = (id) => acting("DELETE", v3(`/keys/${id}`));
export const usage = (asked) => reading("POST", v3("/user/usage_stats"), asked);
export const billings = (asked) => reading("POST", v3("/billings/search"), asked);
export const webhookSecret = () => reading("GET", v3("/webhook/secret"));
export const rotateWebhookSecret = () => acting("POST", v3("/webhook/secret/rotate"));
export const deliveries = (page, size) => reading("GET", v3(`/webhooks/deliveries?page=${page}&page_size=${size}`));
export const replayDelivery = (id) => acting("POST", v3(`/webhooks/deliveries/${id}/replay`));

/** Send a file; answers with its URL. `onShare` is told the share sent, 0 to 1. */
export const upload = (file, onShare, signal) =>
  patiently(() => send(file, onShare, signal), signal).then((data) => data.download_url);

/** A stream of events about a task, from after `last` on: the open answer. Throws as the others do. */
export async function events(id, last, signal) {
  let answer;
  try {
    const headers = { ...authorization(), Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    answer = await fetch(v3(`/predictions/${id}/events`), { headers, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (answer.ok && answer.headers.get("content-type")?.startsWith("text/event-stream")) return answer;
  return opened(answer, await answer.text(), "GET");
}

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
    const sent = key.value;
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

async function request(method, path, body, signal, headers, within = ANSWER_WITHIN) {
  const late = AbortSignal.timeout(within);
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      headers: { ...authorization(), ...(body && { "Content-Type": "application/json" }), ...headers },
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  return opened(answer, text, method);
}

function send(file, onShare, signal) {
  // fetch() can't tell how much of a body is sent; this can.
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name || "picture");
    sending.open("POST", v3("/media/upload/binary"));
    for (const [name, value] of Object.entries(authorization())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => onShare(event.total ? event.loaded / event.total : 0);
    sending.onload = () => {
      try {
        resolve(opened({ status: sending.status, headers: new Headers() }, sending.responseText, "POST"));
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

function opened({ status, headers }, text, method) {
  let envelope = null;
  try {
    envelope = JSON.parse(text);
  } catch {
    throw new Unreachable(); // a proxy's page, or an answer cut short
  }
  if (status >= 200 && status < 300) return envelope.data;
  if (status >= 500 && method === "GET") throw new Unreachable();
  const sentence = envelope?.message || `The server refused (${status}).`;
  throw new Refusal(sentence, status, envelope?.error_code ?? "", Number(headers.get("retry-after")) || 0);
}

const authorization = () => (key.value ? { Authorization: `Bearer ${key.value}` } : {});

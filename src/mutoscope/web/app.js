// The page: compose, run, watch. Each part shows one thing; here is how they meet.

import * as api from "./api.js";
import { byId, say } from "./dom.js";
import { askForKey, currentKey, setUpSignIn, takeKeyFromAddress } from "./key.js";
import { recall, remember } from "./memory.js";
import { createPictures } from "./pictures.js";
import { createPrice } from "./price.js";
import { ANIMATIC, createSettings } from "./settings.js";
import { setUpSnippet, showSnippet } from "./snippet.js";
import { setUpSources } from "./sources.js";
import * as stage from "./stage.js";
import { createTakes } from "./takes.js";
import { isOver, runningId, watch } from "./watch.js";

takeKeyFromAddress();
setUpSignIn();
addEventListener("hashchange", () => takeKeyFromAddress() && location.reload());
if (!currentKey()) await askForKey("");

const [{ sandbox }, models] = await Promise.all([api.health(), api.models()]);
byId("sandbox").hidden = !sandbox;

const draft = recall("draft", {});
let isRunning = false;
let isReady = false; // from here on, changes are the person's
let shown = null; // the prediction on the stage

const price = createPrice();
const takes = createTakes(open);
const pictures = createPictures(changed);
const settings = createSettings(models, { sandbox, onChange: changed });
setUpSources(pictures);
setUpSnippet();

pictures.setLimit(settings.maxPictures());
settings.set(draft);
pictures.set(draft.images ?? []);
isReady = true;
changed();

function changed() {
  if (!isReady) return;
  const values = settings.values();
  const model = settings.model();
  stage.showShot(values, pictures.list());
  price.show(model, values.duration);
  showSnippet(model, { ...values, images: pictures.list().map(({ url }) => url).filter(Boolean) });
  remember("draft", { ...values, model, images: pictures.draft() });
  complain("");
}

async function run() {
  if (isRunning) return;
  const problem = pictures.list().length
    ? settings.problem()
    : { field: byId("add-pictures"), sentence: "Add a picture first: one to four of them." };
  if (problem) {
    complain(problem.sentence, problem.field);
    return;
  }
  complain("");
  setRunning(true);
  pictures.markFault("");
  try {
    stage.showPreparing("Sending the pictures");
    stage.revealStage();
    const images = await pictures.urls();
    stage.showPreparing("Starting");
    const { id } = await api.submit(settings.model(), { ...settings.values(), images });
    await follow(id);
  } catch (error) {
    fail(error);
  } finally {
    setRunning(false);
  }
}

/** Watch a task to its end. */
async function follow(id) {
  stage.setCanceling(false);
  takes.mark("");
  try {
    for await (shown of watch(id)) {
      if (!isOver(shown)) stage.showWork(shown);
    }
  } catch (error) {
    if (error.status !== 404) throw error;
    stage.showCompose(); // deleted: canceled just when it ended, or forgotten while this page was closed
    say("This video is gone.");
    return;
  }
  if (shown.status === "completed") {
    stage.showResult(shown);
    takes.add(shown);
    takes.mark(id);
  } else if (shown.status === "failed") {
    pictures.markFault(shown.error);
    stage.showFault(shown.error);
  } else {
    stage.showCompose();
    say("Canceled.");
  }
}

async function resume(id) {
  setRunning(true);
  try {
    stage.showPreparing("Looking for the video that was running");
    await follow(id);
  } catch (error) {
    fail(error);
  } finally {
    setRunning(false);
  }
}

/** Look at a former take. */
async function open(id) {
  if (isRunning) return;
  try {
    shown = await api.prediction(id);
    stage.showResult(shown);
    takes.mark(id);
    stage.revealStage();
  } catch (error) {
    if (error.status === 404) takes.remove(id);
    fail(error.status === 404 ? new Error("This take is gone from the server: videos are kept for some days only.") : error);
  }
}

function fail(error) {
  stage.showFault(error.message, {
    mayUseAnimatic: error.code === "engine_unavailable" && models.some(({ model_id: id }) => id === ANIMATIC),
  });
}

function complain(sentence, field) {
  byId("run-problem").textContent = sentence;
  if (!field) return;
  if (field.matches("input, textarea")) field.setAttribute("aria-invalid", "true");
  field.focus();
}

function setRunning(running) {
  isRunning = running;
  byId("run").setAttribute("aria-disabled", String(running));
  byId("run-label").textContent = running ? "Running" : "Run";
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || byId("studio").inert) return;
  event.preventDefault();
  run();
});
byId("retry").addEventListener("click", run);
byId("instead").addEventListener("click", () => {
  settings.set({ ...settings.values(), model: ANIMATIC });
  run();
});
byId("cancel").addEventListener("click", () => {
  stage.setCanceling(true);
  api.cancel(runningId()).catch((error) => error.status !== 404 && fail(error)); // 404: it is gone, as was wanted
});
byId("reuse").addEventListener("click", () => {
  settings.set({ ...shown.input, model: shown.model });
  pictures.set(shown.input.images.map((url) => ({ url })));
  byId("prompt").focus();
});
if (/Mac|iP/.test(navigator.platform)) byId("run-keys").textContent = "⌘ ↵";

document.documentElement.classList.add("is-ready");
if (runningId()) resume(runningId());

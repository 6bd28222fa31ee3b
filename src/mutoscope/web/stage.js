// The stage: the pictures while a shot is composed, their colour coming in while it is made, then the video.

import { byId, make, say } from "./dom.js";

const PLACES = ["next", "2nd", "3rd"];
const NOT_SKYREELS = "A storyboard in motion, not SkyReels output.";
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

const stage = byId("stage");
const frame = byId("frame");
const video = byId("video");
let state = "compose";

video.addEventListener("loadedmetadata", () => {
  const seconds = Math.round(video.duration * 10) / 10;
  byId("made-note").textContent = [`${video.videoWidth} × ${video.videoHeight}`, `${seconds} s`, byId("made-note").dataset.seed].join("  ·  ");
});
video.addEventListener("error", () => {
  if (video.getAttribute("src")) showFault("This video is gone from the server: videos are kept for some days only.", { mayRetry: false });
});

/** The shot as it is composed now: its shape, its length and its pictures. */
export function showShot({ aspect_ratio: shape, duration }, pictures) {
  byId("welcome").hidden = pictures.length > 0;
  for (const sheet of frame.querySelectorAll(".sheet")) {
    sheet.dataset.count = pictures.length;
    const wanted = pictures.map(({ name, preview }) => preview || name).join("\n");
    if (sheet.dataset.shown === wanted) continue;
    sheet.dataset.shown = wanted;
    sheet.replaceChildren(
      ...pictures.map(({ name, preview }) =>
        preview ? make("img", { src: preview, alt: "", decoding: "async" }) : make("span", { className: "card-of", textContent: name }),
      ),
    );
  }
  byId("shot").textContent = `${shape}  ·  ${duration} s`;
  if (state !== "done") setShape(shape);
}

/** Back to composing. */
export function showCompose() {
  enter("compose");
}

/** Work that has no task yet. */
export function showPreparing(words) {
  enter("running");
  work(words, "", null);
  setCanceling(false);
  byId("cancel").hidden = true;
}

/** A task that goes on. */
export function showWork(found) {
  enter("running");
  setShape(found.input.aspect_ratio);
  byId("cancel").hidden = false;
  const isWaiting = found.status === "created";
  const words = isWaiting ? waiting(found.queue_position) : capital(found.stage || "starting");
  work(words, timeLeft(found.eta_seconds), isWaiting ? null : found.progress);
}

export function setCanceling(canceling) {
  byId("cancel").disabled = canceling;
  byId("cancel").textContent = canceling ? "Canceling…" : "Cancel";
}

/** A finished video. */
export function showResult(found) {
  enter("done");
  setShape(found.input.aspect_ratio);
  byId("made-note").dataset.seed = `seed ${found.seed}`;
  byId("made-note").textContent = `seed ${found.seed}`;
  byId("engine").textContent = `engine: ${found.engine}`;
  byId("engine-note").textContent = found.engine === "animatic" ? NOT_SKYREELS : "";
  const [source] = found.outputs;
  if (video.getAttribute("src") !== source) {
    video.autoplay = !CALM.matches;
    video.poster = found.poster;
    video.src = source;
    video.setAttribute("aria-label", `Video: ${found.input.prompt}`);
  }
  Object.assign(byId("download"), { href: source, download: fileName(found) });
  say("The video is ready.");
}

/** What went wrong, in a sentence, and what can be done. */
export function showFault(sentence, { mayRetry = true, mayUseAnimatic = false } = {}) {
  enter("failed");
  byId("fault").textContent = sentence;
  byId("retry").hidden = !mayRetry;
  byId("instead").hidden = !mayUseAnimatic;
}

/** Bring the stage into view where it is not beside the form. */
export function revealStage() {
  if (stage.getBoundingClientRect().top < 0 || matchMedia("(max-width: 899px)").matches) {
    stage.scrollIntoView({ block: "start", behavior: CALM.matches ? "auto" : "smooth" });
  }
}

function enter(next) {
  state = next;
  stage.dataset.state = next;
  for (const name of ["compose", "running", "done", "failed"]) byId(`caption-${name}`).hidden = name !== next;
  video.hidden = next !== "done";
  if (next !== "done" && video.getAttribute("src")) {
    video.removeAttribute("src");
    video.load();
  }
  if (next !== "running") document.title = next === "done" ? "Ready · Mutoscope" : "Mutoscope";
}

function work(words, left, share) {
  const percent = share === null ? "" : `${Math.round(share * 100)} %`;
  byId("work-stage").textContent = words;
  byId("work-left").textContent = [percent, left].filter(Boolean).join("  ·  ");
  if (share === null) byId("progress").removeAttribute("value");
  else byId("progress").value = share;
  frame.style.setProperty("--done", share ?? 0);
  document.title = `${percent || words} · Mutoscope`;
  say(words);
}

function setShape(shape) {
  const [width, height] = shape.split(":").map(Number);
  stage.style.setProperty("--ratio", width / height);
  stage.dataset.shape = width > height ? "wide" : width < height ? "tall" : "square";
}

const waiting = (place) => (place ? `Waiting, ${PLACES[place - 1] ?? `${place}th`} in the queue` : "Waiting");

const capital = (words) => words[0].toUpperCase() + words.slice(1);

function timeLeft(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return "almost done";
  return seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.round(seconds / 60)} min left`;
}

function fileName({ input, seed }) {
  const words = input.prompt.normalize("NFKD").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return ["mutoscope", ...words.slice(0, 6), seed].join("-").slice(0, 80) + ".mp4";
}

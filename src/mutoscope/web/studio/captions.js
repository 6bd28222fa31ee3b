// The words and buttons below the stage's frame, for each thing that can stand there. Always of the same height, so
// that nothing moves while a run progresses.

import { copy, notify } from "../announce.js";
import { html } from "../html.js";
import { Icon } from "../icons.js";
import { capital, fileName, queued, timeLeft } from "../words.js";
import { reuse, run, runAgain } from "./composer.js";
import * as form from "./form.js";
import * as preview from "./preview.js";
import { linkTo } from "./recipe.js";
import { cancel, clear, isComparing, lose, remove, setFavourite } from "./takes.js";

/** Below a preview, or below the pictures while there is none. */
export function Sketched() {
  const { state, take, problem } = preview.preview.value;
  const model = form.model.value;
  const words = !preview.isOn.value
    ? "Previews are off."
    : state === "failed"
      ? problem
      : state === "waiting" || state === "rendering"
        ? take
          ? "Following your change…"
          : "Making a preview…"
        : preview.isCurrent.value
          ? model?.isFree
            ? "A free preview, small."
            : `A free animatic of this shot: how it is framed and moves. ${model?.title ?? "The model"} makes it act.`
          : String(form.values.value.prompt ?? "").trim()
            ? ""
            : "Say what happens, and a preview starts.";
  return html`
    <div class="caption">
      <p class=${state === "failed" ? "problem" : "note"} role="status">${words}</p>
      <label class="switch is-small">
        <input
          type="checkbox"
          role="switch"
          checked=${preview.isOn.value}
          onChange=${({ target }) => (preview.isOn.value = target.checked)}
        />
        <span>Preview as I type</span>
      </label>
    </div>
  `;
}

export function Running({ take }) {
  const { progress, stage, step, steps, queue_position: place, isCanceling } = take;
  const isWaiting = take.status === "created" && !take.isLocal;
  const words = isCanceling
    ? "Canceling"
    : isWaiting
      ? queued(place)
      : capital(stage || (take.isLocal ? "Sending the pictures" : "Starting"));
  const left = timeLeft(take.eta_low_seconds ?? take.eta_seconds, take.eta_high_seconds ?? take.eta_seconds, progress);
  const facts = [
    steps && step && !/\d/.test(stage) ? `step ${step} of ${steps}` : "",
    progress ? `${Math.round(progress * 100)} %` : "",
    take.isLocal ? "" : left,
  ];
  const stop = () => cancel(take.id).catch((error) => notify(error.message, { isFault: true }));
  return html`
    <div class="caption is-work">
      <div class="work-line">
        <p class="work-stage">${words}</p>
        <p class="note">${facts.filter(Boolean).join("  ·  ")}</p>
        ${
          !take.isLocal &&
          html`
            <button class="plain small" type="button" disabled=${isCanceling} onClick=${stop}>Cancel</button>
          `
        }
      </div>
      <progress
        max="1"
        value=${take.status === "processing" ? progress : undefined}
        aria-label="Progress of the video"
      ></progress>
    </div>
  `;
}

export function Failed({ take }) {
  const free = form.sketcher.value;
  const mayUseFree = take.code === "engine_unavailable" && free;
  const useFree = () => {
    form.modelId.value = free.id;
    lose(take.id);
    run();
  };
  const again = () => {
    lose(take.id);
    if (take.isLocal) run();
    else runAgain(take);
  };
  return html`
    <div class="caption">
      ${
        take.status === "cancelled"
          ? html`
              <p class="note" role="status">Canceled.</p>
            `
          : html`
              <p class="problem" role="alert">${take.error}</p>
            `
      }
      <div class="row actions">
        ${
          mayUseFree &&
          html`
            <button class="plain" type="button" onClick=${useFree}>
              Use ${free.title.replace(/^The /, "the ")} instead
            </button>
          `
        }
        <button class="plain" type="button" onClick=${again}>
          <${Icon} name="again" />
          Try again
        </button>
        <button class="quiet" type="button" onClick=${clear}>Back to the shot</button>
      </div>
    </div>
  `;
}

export function Finished({ take, split }) {
  const [video] = take.outputs;
  const facts = [
    `${take.input.duration} s`,
    `seed ${take.seed}`,
    take.executionTime ? `made in ${(take.executionTime / 1000).toFixed(1)} s` : "",
  ];
  const fail = (error) => notify(error.message, { isFault: true });
  const forget = () => confirm("Delete this video from the server?") && remove([take.id]).catch(fail);
  const edit = () => {
    reuse(take);
    clear();
    notify("The form holds this take’s inputs: change one thing, and render.");
  };
  return html`
    <div class="caption">
      <div class="made">
        <p class="made-prompt" title=${take.input.prompt}>${take.input.prompt}</p>
        <p class="note">
          <span class="badge">${take.engine}</span>
          ${facts.filter(Boolean).join("  ·  ")}
        </p>
      </div>
      <div class="row actions">
        ${
          split &&
          html`
            <${Tool}
              icon="split"
              label="Beside its preview"
              isPressed=${split.isSplit}
              onClick=${() => split.setSplit(!split.isSplit)}
            />
          `
        }
        <${Tool}
          icon="star"
          label="Favourite"
          isPressed=${Boolean(take.favourite)}
          onClick=${() => setFavourite(take.id, !take.favourite).catch(fail)}
        />
        <${Tool} icon="link" label="Copy the video’s link" onClick=${() => copy(video, "The link")} />
        <${Tool}
          icon="spark"
          label="Share the recipe"
          onClick=${() => copy(linkTo(take), "A link that refills the form")}
        />
        <${Tool} icon="swap" label="Change one thing and run again" onClick=${edit} />
        <${Tool} icon="again" label="Again with another seed" onClick=${() => runAgain(take)} />
        <${Tool} icon="trash" label="Delete" onClick=${forget} />
        <a class="primary" href=${video} download=${fileName(take)}>
          <${Icon} name="download" />
          Download
        </a>
      </div>
    </div>
  `;
}

export const Compared = ({ takes }) => html`
  <div class="caption">
    <p class="note">${takes.length} takes, in step. Pick others on the strip: four are the most.</p>
    <div class="row actions">
      <button
        class="plain"
        type="button"
        onClick=${() => (isComparing.value = !isComparing.value)}
        aria-pressed=${String(isComparing.value)}
      >
        Pick takes
      </button>
      <button class="quiet" type="button" onClick=${clear}>Back to the shot</button>
    </div>
  </div>
`;

const Tool = ({ icon, label, isPressed, onClick }) => html`
  <button
    class="quiet square"
    type="button"
    title=${label}
    aria-label=${label}
    aria-pressed=${isPressed === undefined ? undefined : String(isPressed)}
    onClick=${onClick}
  >
    <${Icon} name=${icon} fill=${icon === "star" && isPressed} />
  </button>
`;

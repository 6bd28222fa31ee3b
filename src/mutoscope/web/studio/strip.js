// The strip below the stage: the shot that is composed, and the takes of late.

import { html } from "../html.js";
import { Icon } from "../icons.js";
import { isOver } from "../watch.js";
import { ratioOf, STATES } from "../words.js";
import { preview } from "./preview.js";
import { clear, get, isComparing, onStage, show, strip } from "./takes.js";

export function Strip() {
  const list = strip.value.map((id) => get(id)).filter(Boolean);
  if (!list.length) return null;
  const canCompare = list.filter(({ status }) => status === "completed").length > 1;
  return html`
    <section class="strip" aria-labelledby="strip-label">
      <h2 class="unseen" id="strip-label">Takes</h2>
      <ol>
        <li>
          <button
            class="thumb is-shot"
            type="button"
            aria-current=${String(!onStage.value.length)}
            aria-label="The shot being composed"
            onClick=${clear}
          >
            ${
              preview.value.take
                ? html`
                    <img src=${preview.value.take.poster} alt="" />
                  `
                : html`
                    <${Icon} name="plus" />
                  `
            }
            <span class="thumb-word">Shot</span>
          </button>
        </li>
        ${list.map(
          (take) => html`
            <li key=${take.id}><${Thumb} take=${take} /></li>
          `,
        )}
      </ol>
      ${
        canCompare &&
        html`
          <button
            class="plain small"
            type="button"
            aria-pressed=${String(isComparing.value)}
            title="Pick up to four takes to see them in step"
            onClick=${() => (isComparing.value = !isComparing.value)}
          >
            <${Icon} name="split" />
            Compare
          </button>
        `
      }
    </section>
  `;
}

function Thumb({ take }) {
  const { id, poster, input, status, progress } = take;
  const label = `${STATES[status] ?? status}: ${input?.prompt ?? "a take"}`;
  return html`
    <button
      class="thumb"
      type="button"
      data-status=${status}
      title=${input?.prompt}
      aria-label=${label}
      aria-current=${String(onStage.value.includes(id))}
      style=${{ "--ratio": ratioOf(input?.aspect_ratio) }}
      onClick=${() => show([id])}
    >
      ${
        poster
          ? html`
              <img src=${poster} alt="" loading="lazy" />
            `
          : html`
              <${Icon} name=${status === "failed" ? "warning" : status === "cancelled" ? "close" : "film"} />
            `
      }
      ${
        !isOver(take) &&
        html`
          <span class="thumb-bar" style=${{ "--done": progress ?? 0 }}></span>
        `
      }
    </button>
  `;
}

// What the service sees in the pictures, drawn and in words: how each lies in the chosen shape, the facts of each, and
// the advice. Advice, never a wall.

import { html } from "../html.js";
import { Icon } from "../icons.js";
import { capital } from "../words.js";
import * as form from "./form.js";
import { advice, fitOf, seen } from "./preflight.js";
import { references } from "./references.js";

const UPRIGHT = 1; // EXIF's word for a picture that is stored as it is to be seen

const percent = (share) => `${Math.round(share * 100)} %`;

/** Over a thumbnail that shows the whole picture: what a crop to the shape would keep; the rest lies in shade. */
export function Crop({ reference }) {
  const fit = fitOf(reference);
  const { width, height } = reference;
  if (!fit || !width) return null;
  const [x, y, across, down] = fit.crop;
  const kept = { left: `${x * 100}%`, top: `${y * 100}%`, width: `${across * 100}%`, height: `${down * 100}%` };
  return html`
    <span class="crop" style=${{ "--own": width / height }}>
      <span style=${kept}></span>
    </span>
  `;
}

/** The frame of the shape, with the whole picture in it as the model gets it: what is left over are bars. */
const Padded = ({ reference }) => html`
  <span class="padded" style=${{ "--ratio": form.ratio.value }}>
    <img src=${reference.shown} alt="" />
  </span>
`;

/** The facts of one picture, each a few words. */
function factsOf(found, fit) {
  const { kind, coverage, subject, faces, sharpness, has_alpha: hasAlpha, orientation, advice: list } = found;
  return [
    kind && capital(kind),
    subject && `subject fills ${percent(coverage)}`,
    kind && (faces.length ? (faces.length === 1 ? "one face" : `${faces.length} faces`) : "no face"),
    kind && `${list.some(({ code }) => code === "blurred") ? "soft" : "sharp"} (${sharpness.toFixed(2)})`,
    hasAlpha ? "partly transparent" : "opaque",
    orientation === UPRIGHT ? "upright" : "turned upright",
    fit && `${form.shape.value} adds ${percent(fit.bars)} bars`,
  ].filter(Boolean);
}

export function Findings() {
  if (!references.value.length) return null;
  const count = advice.value.length;
  const of = (index) => advice.value.filter(({ images }) => images.length === 1 && images[0] === index);
  const shared = advice.value.filter(({ images }) => images.length !== 1);
  return html`
    <details class="findings">
      <summary>
        What is seen in them
        ${
          count > 0 &&
          html`
            <span class="findings-count">
              <${Icon} name="warning" />
              ${count === 1 ? "one piece of advice" : `${count} pieces of advice`}
            </span>
          `
        }
      </summary>
      ${
        references.value.some(fitOf) &&
        html`
          <p>
            Above, in the light: what a crop to ${form.shape.value} would keep. Below: all of it, with the bars that
            fill up the frame, as the model gets it.
          </p>
        `
      }
      <ul aria-label="What is seen in the pictures">
        ${references.value.map((reference, index) => {
          const found = seen(reference);
          const fit = fitOf(reference);
          return html`
            <li key=${reference.id}>
              ${
                reference.shown &&
                html`
                  <${Padded} reference=${reference} />
                `
              }
              <div>
                <p>
                  <strong>@${index + 1}</strong>
                  ${" "}
                  ${found?.width ? factsOf(found, fit).join(" · ") : found ? "" : "Not looked at yet."}
                </p>
                <${Advice} list=${of(index)} />
              </div>
            </li>
          `;
        })}
      </ul>
      <${Advice} list=${shared} />
    </details>
  `;
}

const Advice = ({ list }) =>
  list.map(
    ({ message }) => html`
      <p class="advice">
        <${Icon} name="warning" />
        <span>${message}</span>
      </p>
    `,
  );

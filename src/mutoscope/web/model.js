// What a model is: in words, its inputs, its price, and how to get the best of it; all from the server's catalogue.

import * as api from "./api.js";
import { html } from "./html.js";
import { Section, useAnswer } from "./loading.js";
import { go, href } from "./router.js";
import * as form from "./studio/form.js";
import { grouped, money } from "./words.js";

export function View({ rest }) {
  const list = form.catalogue.value;
  const model = list.find(({ id }) => id === rest) ?? form.model.value;
  if (!model)
    return html`
      <div class="pane"><div class="skeleton"></div></div>
    `;
  const use = () => {
    form.modelId.value = model.id;
    go("");
  };
  return html`
    <div class="pane">
      <div class="pane-head">
        <h1>${model.title}</h1>
        <p class="note"><code>${model.id}</code></p>
        <nav class="tabs" aria-label="Models">
          ${list.map(
            ({ id, title }) => html`
              <a key=${id} href=${href(`model/${id}`)} aria-current=${id === model.id ? "page" : undefined}>${title}</a>
            `,
          )}
        </nav>
      </div>
      <p class="lead">${model.description}</p>
      <p><button class="primary" type="button" onClick=${use}>Use it in the studio</button></p>
      <${Prices} key=${model.id} model=${model} />
      <section class="section" aria-labelledby="model-inputs">
        <div class="section-head"><h2 id="model-inputs">Inputs</h2></div>
        <div class="table" tabindex="0" role="region" aria-label="Table of inputs">
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Type</th>
                <th scope="col">Allowed</th>
                <th scope="col">Unless given</th>
                <th scope="col">What it is</th>
              </tr>
            </thead>
            <tbody>
              ${form.fieldsOf(model.schema).map(
                (field) => html`
                  <${Input} key=${field.name} field=${field} />
                `,
              )}
            </tbody>
          </table>
        </div>
      </section>
      ${
        model.tips.length > 0 &&
        html`
          <section class="section" aria-labelledby="model-tips">
            <div class="section-head"><h2 id="model-tips">Tips</h2></div>
            <ul class="tips">
              ${model.tips.map(
                (tip) => html`
                  <li key=${tip}>${tip}</li>
                `,
              )}
            </ul>
          </section>
        `
      }
    </div>
  `;
}

const Input = ({ field }) => html`
  <tr>
    <th scope="row"><code>${field.name}</code></th>
    <td>${field.type}</td>
    <td>${allowed(field)}</td>
    <td>
      ${
        field.isRequired
          ? "required"
          : field.kind === "seed"
            ? "drawn"
            : html`
                <code>${JSON.stringify(field.otherwise)}</code>
              `
      }
    </td>
    <td>${field.description}</td>
  </tr>
`;

function allowed({ options, least, most, type, kind }) {
  if (options) return options.join(", ");
  if (most === undefined) return "";
  if (kind === "seed") return "0 or more; −1 draws one";
  const unit = { string: " characters", array: " of them" }[type] ?? "";
  return `${grouped(least ?? 0)} to ${grouped(most)}${unit}`;
}

/** What each length costs, as the server quotes it. */
function Prices({ model }) {
  const slider = form.fieldsOf(model.schema).find(({ kind }) => kind === "slider");
  const [state] = useAnswer(async () => {
    if (!slider) return [{ value: "", amount: (await api.price(model.id, {})).price }];
    const values = Array.from({ length: slider.most - slider.least + 1 }, (_, index) => slider.least + index);
    return Promise.all(
      values.map(async (value) => ({ value, amount: (await api.price(model.id, { [slider.name]: value })).price })),
    );
  });
  return html`
    <${Section} title="Price" state=${state}>
      ${(list) =>
        list.every(({ amount }) => amount === 0)
          ? html`
              <p>Free.</p>
            `
          : html`
              <div class="table" tabindex="0" role="region" aria-label="Table of prices">
                <table class="is-numbers">
                  <thead>
                    <tr>
                      <th scope="row">${slider?.title ?? "Each"}</th>
                      ${list.map(
                        ({ value }) => html`
                          <th scope="col" key=${value}>${value} s</th>
                        `,
                      )}
                    </tr>
                  </thead>
                  <tbody>
                    <tr>
                      <th scope="row">Price</th>
                      ${list.map(
                        ({ value, amount }) => html`
                          <td key=${value}>${money(amount)}</td>
                        `,
                      )}
                    </tr>
                  </tbody>
                </table>
              </div>
            `}
    <//>
  `;
}

// Shots to start from, with the pictures that come with the page.

import { html } from "../html.js";
import * as form from "./form.js";
import * as references from "./references.js";

const EXAMPLES = [
  {
    title: "Before the launch",
    pictures: ["astronaut", "rocket"],
    prompt: "@1 stands before @2 on the launch pad at night, slow push in, warm light",
    shape: "16:9",
  },
  {
    title: "Product shot",
    pictures: ["coffee"],
    prompt: "Product shot of @1, the camera orbits, a sweep of light, studio",
    shape: "1:1",
  },
  {
    title: "Portrait",
    pictures: ["chelsea"],
    prompt: "@1 looks up as snow begins to fall, slow push in, shallow depth of field",
    shape: "9:16",
  },
];

const address = (name) => `/web/examples/${name}.webp`;
const small = (name) => `/web/examples/${name}-small.webp`; // the first paint needs no more

async function use({ pictures, prompt, shape }) {
  references.replaceAll([]);
  form.fill({ inputs: { prompt, aspect_ratio: shape } });
  const files = await Promise.all(
    pictures.map(
      async (name) => new File([await (await fetch(address(name))).blob()], `${name}.webp`, { type: "image/webp" }),
    ),
  );
  references.addFiles(files);
}

export const Examples = () => html`
  <ul class="examples" aria-label="Examples">
    ${EXAMPLES.map(
      (example) => html`
        <li>
          <button class="example" type="button" onClick=${() => use(example)}>
            <span class="example-pictures">
              ${example.pictures.map(
                (name) => html`
                  <img src=${small(name)} alt="" width="160" height="120" decoding="async" />
                `,
              )}
            </span>
            <span class="example-title">${example.title}</span>
          </button>
        </li>
      `,
    )}
  </ul>
`;

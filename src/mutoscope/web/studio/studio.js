// The studio: compose on one side, watch on the other.

import { html } from "../html.js";
import { Composer } from "./composer.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";

export const Studio = () => html`
  <div class="studio">
    <h1 class="unseen">Studio</h1>
    <${Composer} />
    <${Stage} />
    <${Strip} />
  </div>
`;

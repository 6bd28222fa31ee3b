// The page from its first moment: sign in, learn what the server offers, show the view that the address names.

import { Announcements } from "./announce.js";
import * as api from "./api.js";
import { ConnectionLine } from "./connection.js";
import { html, render, useEffect, useState } from "./html.js";
import { route } from "./router.js";
import { askForKey, key, takeLink } from "./session.js";
import { isSandbox, Shell } from "./shell.js";
import { SignIn } from "./signin.js";
import * as form from "./studio/form.js";
import * as preview from "./studio/preview.js";
import * as recipe from "./studio/recipe.js";
import { DropTarget } from "./studio/sources.js";
import { Studio } from "./studio/studio.js";
import { recover } from "./studio/takes.js";

/** Views that few open at once: their modules come when they are asked for. */
const LATER = {
  history: () => import("./history.js"),
  code: () => import("./code.js"),
  model: () => import("./model.js"),
  account: () => import("./account/account.js"),
};

function View() {
  const { path, rest } = route.value;
  const [loaded, setLoaded] = useState({});
  const load = LATER[path];
  useEffect(() => {
    if (path === "recipe") whenStocked(() => recipe.open(rest));
    if (load && !loaded[path]) load().then(({ View: found }) => setLoaded((before) => ({ ...before, [path]: found })));
  }, [path, rest]);
  if (!load)
    return html`
      <${Studio} />
    `;
  const Later = loaded[path];
  return Later
    ? html`
        <${Later} rest=${rest} />
      `
    : html`
        <div class="pane"><div class="skeleton"></div></div>
      `;
}

const Page = () => html`
  <${ConnectionLine} />
  <${Shell}><${View} /><//>
  <${DropTarget} />
  <${SignIn} />
  <${Announcements} />
`;

let stocked;
const isStocked = new Promise((resolve) => (stocked = resolve));
const whenStocked = (act) => isStocked.then(act);

await takeLink();
render(
  html`
    <${Page} />
  `,
  document.getElementById("page"),
);
if (!key.value) await askForKey("");
api.health().then(({ sandbox }) => (isSandbox.value = sandbox));
form.stock(await api.models());
requestAnimationFrame(() => performance.mark("ready")); // the form is there to be filled
stocked();
recover();
preview.recover();

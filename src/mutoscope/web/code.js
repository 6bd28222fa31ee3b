// The form as code, and the raw JSON of what was asked and answered.

import { copy } from "./announce.js";
import { html, signal } from "./html.js";
import { Icon } from "./icons.js";
import { key, masked } from "./session.js";
import { exportKey, SNIPPETS } from "./snippets.js";
import * as form from "./studio/form.js";
import { urls } from "./studio/references.js";
import { onStage, get } from "./studio/takes.js";

const tab = signal(Object.keys(SNIPPETS)[0]);
const isKeyShown = signal(false);

const NO_PICTURE = "https://example.com/picture.jpg";

export function View() {
  const model = form.model.value;
  if (!model)
    return html`
      <div class="pane"><div class="skeleton"></div></div>
    `;
  const images = urls.value.length ? urls.value : [NO_PICTURE];
  const { prompt = "", ...others } = form.inputs();
  const inputs = { prompt, images, ...others };
  const { write, note } = SNIPPETS[tab.value];
  const shot = { origin: location.origin, model: model.id, engine: model.engine, inputs, size: form.sizeOf(inputs) };
  const take = get(onStage.value[0]);
  return html`
    <div class="pane">
      <div class="pane-head">
        <h1>Code</h1>
        <p class="note">What the form holds, as you would ask for it from elsewhere.</p>
      </div>
      <section class="section" aria-labelledby="code-key">
        <div class="section-head"><h2 id="code-key">The key</h2></div>
        <${Block}
          label="key"
          text=${exportKey(isKeyShown.value ? key.value : masked(key.value))}
          copied=${exportKey(key.value)}
        >
          <button
            class="quiet small"
            type="button"
            aria-pressed=${String(isKeyShown.value)}
            onClick=${() => (isKeyShown.value = !isKeyShown.value)}
          >
            <${Icon} name="eye" />
            ${isKeyShown.value ? "Hide" : "Show"}
          </button>
        <//>
      </section>
      <section class="section" aria-labelledby="code-request">
        <div class="section-head"><h2 id="code-request">The request</h2></div>
        <${Tabs} />
        <div role="tabpanel" id="code-panel" aria-labelledby=${`tab-${tab.value}`}>
          ${
            note &&
            html`
              <p class="note">${note}</p>
            `
          }
          <${Block}
            label=${tab.value}
            text=${write(shot)}
          />
        </div>
      </section>
      <section class="section" aria-labelledby="code-raw">
        <div class="section-head"><h2 id="code-raw">As JSON</h2></div>
        <div class="pair">
          <${Block} label="request" title=${`POST /api/v3/${model.id}`} text=${JSON.stringify(inputs, null, 2)} />
          ${
            take
              ? html`
                  <${Block} label="answer" title="The take on the stage" text=${JSON.stringify(take, null, 2)} />
                `
              : html`
                  <p class="empty">The answer of the take on the studio’s stage appears here.</p>
                `
          }
        </div>
      </section>
    </div>
  `;
}

function Tabs() {
  const names = Object.keys(SNIPPETS);
  const press = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tab.value = names[(names.indexOf(tab.value) + step + names.length) % names.length];
    document.getElementById(`tab-${tab.value}`).focus();
  };
  return html`
    <div class="tabs" role="tablist" aria-label="Ways to ask" onKeyDown=${press}>
      ${names.map(
        (name) => html`
          <button
            key=${name}
            id=${`tab-${name}`}
            type="button"
            role="tab"
            aria-selected=${String(name === tab.value)}
            aria-controls="code-panel"
            tabindex=${name === tab.value ? 0 : -1}
            onClick=${() => (tab.value = name)}
          >
            ${name}
          </button>
        `,
      )}
    </div>
  `;
}

const Block = ({ label, title, text, copied = text, children }) => html`
  <figure class="code">
    <div class="code-tools">
      ${
        title &&
        html`
          <figcaption class="note">${title}</figcaption>
        `
      }
      ${children}
      <button
        class="quiet small"
        type="button"
        aria-label=${`Copy: ${label}`}
        onClick=${() => copy(copied, label === "key" ? "The key" : "The text")}
      >
        <${Icon} name="copy" />
        Copy
      </button>
    </div>
    <pre tabindex="0" aria-label=${label}>${text}</pre>
  </figure>
`;

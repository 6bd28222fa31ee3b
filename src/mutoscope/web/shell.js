// What surrounds every view: the top line with the views' names, the sandbox's notice, theme, keyboard, key.

import { html, signal, useEffect } from "./html.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { forget, recall, remember } from "./memory.js";
import { href, route, VIEWS } from "./router.js";
import { changeKey, key } from "./session.js";
import { running } from "./studio/takes.js";
import { run } from "./studio/composer.js";

const THEMES = { "": "As the system", light: "Light", dark: "Dark" };

export const isSandbox = signal(false);
const theme = signal(recall("theme", ""));
const isHelpOpen = signal(false);

const SHORTCUTS = [
  ["Ctrl ↵ or ⌘ ↵", "Render the shot"],
  ["/", "Write the prompt"],
  ["Space or k", "Play, pause"],
  ["← →", "One frame back, one on"],
  ["Home", "To the first frame"],
  ["l", "Loop"],
  ["f", "Full screen"],
  ["1 … 5", "Studio, History, Code, Models, Account"],
  ["?", "This list"],
];

function nextTheme() {
  const names = Object.keys(THEMES);
  theme.value = names[(names.indexOf(theme.value) + 1) % names.length];
  if (theme.value) {
    remember("theme", theme.value);
    document.documentElement.dataset.theme = theme.value;
  } else {
    forget("theme");
    delete document.documentElement.dataset.theme;
  }
}

export function Shell({ children }) {
  useShortcuts();
  const { path } = route.value;
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <a class="brand" href=${href("")}>
        <${Icon} name="reel" />
        Mutoscope
      </a>
      <nav class="views" aria-label="Views">
        ${VIEWS.map(
          ({ path: to, name, icon }) => html`
            <a key=${to} href=${href(to)} aria-current=${to === path ? "page" : undefined}>
              <${Icon} name=${icon} />
              <span>${name}</span>
              ${
                to === "" &&
                running.value.length > 0 &&
                path !== "" &&
                html`
                  <span class="count" aria-label=${`${running.value.length} running`}>${running.value.length}</span>
                `
              }
            </a>
          `,
        )}
      </nav>
      ${
        isSandbox.value &&
        html`
          <p class="sandbox" title="Every model is answered by the animatic; nothing here is SkyReels output">
            <strong>Sandbox</strong>
            <span class="unseen">: every model is answered by the animatic; nothing here is SkyReels output</span>
          </p>
        `
      }
      <button
        class="quiet square"
        type="button"
        title=${`Theme: ${THEMES[theme.value]}`}
        aria-label=${`Theme: ${THEMES[theme.value]}`}
        onClick=${nextTheme}
      >
        <${Icon} name="theme" />
      </button>
      <button
        class="quiet square help"
        type="button"
        title="Keyboard (?)"
        aria-label="Keyboard"
        onClick=${() => (isHelpOpen.value = true)}
      >
        <${Icon} name="help" />
      </button>
      ${
        key.value &&
        html`
          <button
            class="quiet square"
            type="button"
            title="Key"
            aria-label=${`Key ${key.value.slice(0, 8)}…: change or forget it`}
            onClick=${changeKey}
          >
            <${Icon} name="key" />
          </button>
        `
      }
    </header>
    <main id="main" tabindex=${path ? 0 : -1}>${children}</main>
    ${
      isHelpOpen.value &&
      html`
        <${Dialog} title="Keyboard" onClose=${() => (isHelpOpen.value = false)}>
          <dl class="shortcuts">
            ${SHORTCUTS.map(
              ([keys, words]) => html`
                <div key=${keys}>
                  <dt><kbd>${keys}</kbd></dt>
                  <dd>${words}</dd>
                </div>
              `,
            )}
          </dl>
        <//>
      `
    }
  `;
}

function skip(event) {
  event.preventDefault(); // the address is the view's
  document.getElementById("main").focus();
}

function useShortcuts() {
  useEffect(() => {
    const press = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
        event.preventDefault();
        run();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, dialog"))
        return;
      const view = VIEWS[Number(event.key) - 1];
      if (event.key === "?") isHelpOpen.value = true;
      else if (event.key === "/") document.querySelector('[data-field="prompt"]')?.focus();
      else if (view) location.hash = href(view.path);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

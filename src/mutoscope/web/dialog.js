// A dialog over the page: the browser's own, which keeps the focus inside and closes at Escape.

import { html, useEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";

/** Open as long as it is there. `onClose` is called when it is closed; without one it can't be. */
export function Dialog({ title, onClose, children, className = "" }) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.isConnected && before.focus();
  }, []);
  const stay = (event) => {
    event.preventDefault();
    onClose?.();
  };
  // Escape twice closes a dialog whatever its page says; one that has to stay opens again.
  const reopen = () => element.current?.isConnected && !onClose && element.current.showModal();
  return html`
    <dialog
      class=${`card ${className}`}
      ref=${element}
      aria-labelledby="dialog-title"
      onCancel=${stay}
      onClose=${reopen}
    >
      <div class="card-head">
        <h2 id="dialog-title">${title}</h2>
        ${
          onClose &&
          html`
            <button class="quiet small" type="button" aria-label="Close" onClick=${onClose}>
              <${Icon} name="close" />
            </button>
          `
        }
      </div>
      ${children}
    </dialog>
  `;
}

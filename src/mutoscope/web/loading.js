// Something that is asked of the server when a view opens: waiting, there, or refused.

import { html, useEffect, useState } from "./html.js";

/** [state, again]: `state` is { data }, { error } or {} while it is asked; `again` asks anew. */
export function useAnswer(ask, changes = []) {
  const [state, setState] = useState({});
  const [count, setCount] = useState(0);
  useEffect(() => {
    let isGone = false;
    ask().then(
      (data) => isGone || setState({ data }),
      (error) => isGone || setState({ error }),
    );
    return () => (isGone = true);
  }, [count, ...changes]);
  return [state, () => setCount((before) => before + 1)];
}

/** A section of a view: its heading, and what `children` make of the answer. */
export function Section({ title, note, state, tools, children }) {
  const id = `section-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return html`
    <section class="section" aria-labelledby=${id}>
      <div class="section-head">
        <h2 id=${id}>${title}</h2>
        ${tools}
      </div>
      ${
        note &&
        html`
          <p class="note">${note}</p>
        `
      }
      ${
        state.error
          ? html`
              <${Fault} error=${state.error} />
            `
          : state.data === undefined
            ? html`
                <div class="skeleton is-low" role="status" aria-label="Loading"></div>
              `
            : children(state.data)
      }
    </section>
  `;
}

export const Fault = ({ error }) => html`
  <p class="problem" role="alert">${error.message}</p>
`;

// The card that asks for a key, and the one that changes or forgets it.

import { Dialog } from "./dialog.js";
import { html, useRef, useState } from "./html.js";
import { card, closeCard, key, masked, signIn, signOut } from "./session.js";

export function SignIn() {
  return (
    card.value &&
    html`
      <${Card} problem=${card.value.problem} mayCancel=${card.value.mayCancel} />
    `
  );
}

function Card({ problem, mayCancel }) {
  const field = useRef(null);
  const [fault, setFault] = useState("");
  const [isBusy, setBusy] = useState(false);
  const words = fault || problem;

  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    const sentence = await signIn(field.current.value.trim());
    setBusy(false);
    setFault(sentence);
    if (sentence) field.current.select();
  }

  return html`
    <${Dialog}
      title=${mayCancel ? "Use another key" : "Sign in with a key"}
      onClose=${mayCancel ? closeCard : undefined}
      className="signin"
    >
      <form onSubmit=${submit} novalidate>
        <p class="note">
          ${mayCancel && key.value && html`Signed in with <code>${masked(key.value)}</code>. `}
          ${"A key stays in this browser. Whoever runs this server makes one with "}
          <code>mutoscope keys create NAME</code>
          ${", or opens the link that "}
          <code>mutoscope serve</code>
          ${" prints when it starts."}
        </p>
        <input type="text" autocomplete="username" value="api-key" aria-label="Name" hidden />
        <input
          ref=${field}
          id="signin-key"
          type="password"
          aria-label="API key"
          aria-describedby="signin-problem"
          aria-invalid=${String(Boolean(words))}
          placeholder="wsk_…"
          autocomplete="current-password"
          spellcheck=${false}
          autofocus
        />
        <p class="problem" id="signin-problem" role="alert">${words}</p>
        <div class="card-actions">
          ${
            mayCancel &&
            key.value &&
            html`
              <button class="link" type="button" onClick=${signOut}>Forget this key</button>
            `
          }
          ${
            mayCancel &&
            html`
              <button class="plain" type="button" onClick=${closeCard}>Cancel</button>
            `
          }
          <button class="primary" type="submit" disabled=${isBusy}>Sign in</button>
        </div>
      </form>
    <//>
  `;
}

// The keys of the account: made here, shown once, revoked here.

import { copy, notify } from "../announce.js";
import * as api from "../api.js";
import { Dialog } from "../dialog.js";
import { html, useState } from "../html.js";
import { Icon } from "../icons.js";
import { Section, useAnswer } from "../loading.js";
import { day, money, spoken } from "../words.js";

const SCOPES = { generate: "Make videos", read: "Read what was made", admin: "Manage keys and webhooks" };

export function Keys({ mayManage }) {
  const [state, again] = useAnswer(api.keys);
  const [isMaking, setMaking] = useState(false);
  const revoke = async ({ id, name }) => {
    if (!confirm(`Revoke the key ${name}? Whatever uses it is refused from then on.`)) return;
    try {
      await api.revokeKey(id);
      notify(`${name} is revoked.`);
    } catch (error) {
      notify(error.message, { isFault: true });
    }
    again();
  };
  const tools =
    mayManage &&
    html`
      <button class="plain small" type="button" onClick=${() => setMaking(true)}>
        <${Icon} name="plus" />
        New key
      </button>
    `;
  return html`
    <${Section} title="Keys" state=${state} tools=${tools}>
      ${(keys) => html`
        <div class="table" tabindex="0" role="region" aria-label="Table of keys">
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Begins with</th>
                <th scope="col">May</th>
                <th scope="col">Cap a day</th>
                <th scope="col">Made</th>
                <th scope="col">Until</th>
                <th scope="col"><span class="unseen">Revoke</span></th>
              </tr>
            </thead>
            <tbody>
              ${keys.map(
                (each) => html`
                  <tr key=${each.id} class=${each.revoked_at ? "is-over" : ""}>
                    <th scope="row">
                      ${each.name}${
                        each.current &&
                        html`
                          <span class="badge">this one</span>
                        `
                      }
                    </th>
                    <td><code>${each.hint}…</code></td>
                    <td>${(each.scopes ?? []).map(spoken).join(", ")}</td>
                    <td>${each.daily_cap === null || each.daily_cap === undefined ? "–" : money(each.daily_cap)}</td>
                    <td>${day(each.created_at)}</td>
                    <td>
                      ${endOf(each)}
                    </td>
                    <td>
                      ${
                        mayManage &&
                        !each.revoked_at &&
                        !each.current &&
                        html`
                          <button
                            class="quiet small danger"
                            type="button"
                            aria-label=${`Revoke ${each.name}`}
                            onClick=${() => revoke(each)}
                          >
                            Revoke
                          </button>
                        `
                      }
                    </td>
                  </tr>
                `,
              )}
            </tbody>
          </table>
        </div>
      `}
    <//>
    ${
      isMaking &&
      html`
        <${NewKey} onClose=${() => (setMaking(false), again())} />
      `
    }
  `;
}

function endOf({ revoked_at: revoked, expires_at: expires }) {
  if (revoked) return `revoked ${day(revoked)}`;
  return expires ? day(expires) : "–";
}

function NewKey({ onClose }) {
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    const cap = fields.get("cap").trim();
    const until = fields.get("until");
    const asked = {
      name: fields.get("name").trim(),
      scopes: fields.getAll("scope"),
      ...(cap && { daily_cap: Number(cap) }),
      ...(until && { expires_at: `${until}T00:00:00Z` }),
    };
    if (!asked.name) return setProblem("Name it first: whose key it is, or what for.");
    if (!asked.scopes.length) return setProblem("Choose at least one thing that it may do.");
    if (cap && !(Number(cap) >= 0))
      return setProblem(`The cap is “${cap}”: it has to be dollars a day, like 5 or 0.50.`);
    try {
      return setMade(await api.createKey(asked));
    } catch (error) {
      return setProblem(error.message);
    }
  };
  if (made) {
    return html`
      <${Dialog} title=${`The key ${made.name}`} onClose=${onClose}>
        <p class="note">Copy it now: it is shown this one time.</p>
        <pre class="secret" tabindex="0" aria-label="The key">${made.key}</pre>
        <div class="card-actions">
          <button class="plain" type="button" onClick=${onClose}>Done</button>
          <button class="primary" type="button" onClick=${() => copy(made.key, "The key")}>
            <${Icon} name="copy" />
            Copy
          </button>
        </div>
      <//>
    `;
  }
  return html`
    <${Dialog} title="New key" onClose=${onClose}>
      <form onSubmit=${submit} novalidate>
        <label>
          Name
          <input type="text" name="name" autocomplete="off" autofocus />
        </label>
        <fieldset>
          <legend>It may</legend>
          ${Object.entries(SCOPES).map(
            ([scope, words]) => html`
              <label class="check" key=${scope}>
                <input type="checkbox" name="scope" value=${scope} checked=${scope !== "admin"} />
                <span>${words}</span>
              </label>
            `,
          )}
        </fieldset>
        <div class="pair">
          <label>
            Cap a day, in dollars
            <input type="text" name="cap" inputmode="decimal" placeholder="none" autocomplete="off" />
          </label>
          <label>
            Until
            <input type="date" name="until" />
          </label>
        </div>
        <p class="problem" role="alert">${problem}</p>
        <div class="card-actions">
          <button class="plain" type="button" onClick=${onClose}>Cancel</button>
          <button class="primary" type="submit">Make the key</button>
        </div>
      </form>
    <//>
  `;
}

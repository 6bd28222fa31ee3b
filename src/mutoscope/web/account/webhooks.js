// Webhooks: the secret that signs them, every delivery with its attempts, and another try.

import { copy, notify } from "../announce.js";
import * as api from "../api.js";
import { html, useState } from "../html.js";
import { Icon } from "../icons.js";
import { Section, useAnswer } from "../loading.js";
import { masked } from "../session.js";
import { capital, moment } from "../words.js";

const PAGE = 20;

export function Webhooks() {
  const [secret, askSecret] = useAnswer(api.webhookSecret);
  const [page, setPage] = useState(1);
  const [state, again] = useAnswer(() => api.deliveries(page, PAGE), [page]);
  const rotate = async () => {
    if (!confirm("Make a new secret? Whoever verifies webhooks has to be told it.")) return;
    try {
      await api.rotateWebhookSecret();
      notify("There is a new secret.");
    } catch (error) {
      notify(error.message, { isFault: true });
    }
    askSecret();
  };
  const replay = async (id) => {
    try {
      await api.replayDelivery(id);
      notify("It is sent again.");
    } catch (error) {
      notify(error.message, { isFault: true });
    }
    again();
  };
  return html`
    <${Section}
      title="Webhook secret"
      state=${secret}
      note="Every webhook is signed with it: keep it where you verify them."
    >
      ${({ secret: text }) => html`
        <p class="row is-wrapped">
          <code>${masked(text)}</code>
          <button class="plain small" type="button" onClick=${() => copy(text, "The secret")}>
            <${Icon} name="copy" />
            Copy
          </button>
          <button class="quiet small" type="button" onClick=${rotate}>Make a new one</button>
        </p>
      `}
    <//>
    <${Section} title="Webhook deliveries" state=${state}>
      ${({ items, total, has_more: hasMore }) =>
        items.length === 0
          ? html`
              <p class="empty">
                ${"None yet. Add "}
                <code>?webhook=https://…</code>
                ${" to a request, and its end is told there."}
              </p>
            `
          : html`
              <ul class="deliveries">
                ${items.map(
                  (each) => html`
                    <${Delivery} key=${each.id} delivery=${each} onReplay=${() => replay(each.id)} />
                  `,
                )}
              </ul>
              ${
                (page > 1 || hasMore) &&
                html`
                  <p class="row">
                    <button class="plain small" type="button" disabled=${page === 1} onClick=${() => setPage(page - 1)}>
                      Newer
                    </button>
                    <button class="plain small" type="button" disabled=${!hasMore} onClick=${() => setPage(page + 1)}>
                      Older
                    </button>
                    <span class="note">${total} in all</span>
                  </p>
                `
              }
            `}
    <//>
  `;
}

const Delivery = ({ delivery, onReplay }) => html`
  <li>
    <details class="more">
      <summary>
        <span class="badge">${capital(delivery.status)}</span>
        <span class="delivery-url">${delivery.url}</span>
        <span class="note">
          ${delivery.attempts} ${delivery.attempts === 1 ? "attempt" : "attempts"} · ${moment(delivery.created_at)}
        </span>
      </summary>
      <ol class="attempts">
        ${(delivery.log ?? []).map(
          (each) => html`
            <li key=${each.at}>
              <span>${moment(each.at)}</span>
              <span>${each.status_code || each.error}</span>
              <span class="note">${each.milliseconds} ms</span>
            </li>
          `,
        )}
      </ol>
      <button class="plain small" type="button" onClick=${onReplay}>
        <${Icon} name="again" />
        Send again
      </button>
    </details>
  </li>
`;

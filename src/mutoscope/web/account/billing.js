// The lines of the bill, the newest first.

import * as api from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Section } from "../loading.js";
import { moment, money, spoken } from "../words.js";

const PAGE = 20;

export function Billing() {
  const [state, setState] = useState({});
  const [page, setPage] = useState(1);
  useEffect(() => {
    api.billings({ page, page_size: PAGE }).then(
      (found) =>
        setState((before) => ({ data: { ...found, items: [...(page > 1 ? before.data.items : []), ...found.items] } })),
      (error) => setState({ error }),
    );
  }, [page]);
  return html`
    <${Section} title="Billing" state=${state}>
      ${({ items, has_more: hasMore }) =>
        items.length === 0
          ? html`
              <p class="empty">Nothing was charged yet.</p>
            `
          : html`
              <div class="table" tabindex="0" role="region" aria-label="Table of charges">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">When</th>
                      <th scope="col">What</th>
                      <th scope="col">Key</th>
                      <th scope="col">Model</th>
                      <th scope="col">Amount</th>
                    </tr>
                  </thead>
                  <tbody>
                    ${items.map(
                      (line) => html`
                        <tr key=${line.uuid}>
                          <td>${moment(line.created_at)}</td>
                          <td>${spoken(line.billing_type)}</td>
                          <td>${line.access_key_name ?? ""}</td>
                          <td>${line.prediction?.model_uuid ?? ""}</td>
                          <td class="is-number">${line.billing_type === "refund" ? "+" : ""}${money(line.price)}</td>
                        </tr>
                      `,
                    )}
                  </tbody>
                </table>
              </div>
              ${
                hasMore &&
                html`
                  <button class="plain small" type="button" onClick=${() => setPage(page + 1)}>More</button>
                `
              }
            `}
    <//>
  `;
}

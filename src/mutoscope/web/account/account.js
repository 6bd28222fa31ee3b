// The account behind the key: what is left, what was spent, on what, by which keys, and what was told to whom.

import * as api from "../api.js";
import { html } from "../html.js";
import { Section, useAnswer } from "../loading.js";
import { grouped, money } from "../words.js";
import { Billing } from "./billing.js";
import { Keys } from "./keys.js";
import { Spending } from "./spending.js";
import { Webhooks } from "./webhooks.js";

export function View() {
  const [state] = useAnswer(api.account);
  const mayManage = state.data?.key?.scopes?.includes("admin") ?? false;
  return html`
    <div class="pane">
      <div class="pane-head"><h1>${state.data?.name ? `Account ${state.data.name}` : "Account"}</h1></div>
      <${Section} title="Balance and limits" state=${state}>
        ${(account) => html`
          <${Summary} account=${account} />
        `}
      <//>
      <${Spending} />
      <${Keys} mayManage=${mayManage} />
      <${Billing} />
      <${Webhooks} />
    </div>
  `;
}

function Summary({ account }) {
  const { balance, held, unlimited, key = {} } = account;
  const facts = [
    ["Balance", unlimited ? "Unlimited" : money(balance)],
    ["Held for what runs", money(held ?? 0)],
    ["Videos a minute", limit(key.videos_per_minute)],
    ["At the same time", limit(key.concurrency)],
    [
      "Spent today",
      money(key.spent_today ?? 0) +
        (key.daily_cap === null || key.daily_cap === undefined ? "" : ` of ${money(key.daily_cap)}`),
    ],
    ["This key", [key.name, key.tier].filter(Boolean).join(", ") || "–"],
  ];
  return html`
    <dl class="facts">
      ${facts.map(
        ([name, value]) => html`
          <div key=${name}>
            <dt>${name}</dt>
            <dd>${value}</dd>
          </div>
        `,
      )}
    </dl>
  `;
}

const limit = (value) => (value === null || value === undefined ? "No limit" : grouped(value));

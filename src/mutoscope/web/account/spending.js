// What was spent by day, as bars; a table of the same for whoever does not see them.

import * as api from "../api.js";
import { html } from "../html.js";
import { Section, useAnswer } from "../loading.js";
import { day, grouped, money } from "../words.js";

const DAYS = 30;

export function Spending() {
  const [state] = useAnswer(async () => {
    const until = new Date();
    const from = new Date(until.getTime() - (DAYS - 1) * 86_400_000);
    const found = await api.usage({ start_time: from.toISOString(), end_time: until.toISOString() });
    const byDay = new Map(found.daily_usage.map((each) => [each.date.slice(0, 10), each]));
    const days = Array.from({ length: DAYS }, (_, index) => {
      const date = new Date(from.getTime() + index * 86_400_000).toISOString().slice(0, 10);
      return { date, amount: byDay.get(date)?.amount ?? 0, count: byDay.get(date)?.count ?? 0 };
    });
    return { days, summary: found.summary };
  });
  return html`
    <${Section} title="Spent by day" state=${state}>
      ${({ days, summary }) => html`
        <${Chart} days=${days} summary=${summary} />
      `}
    <//>
  `;
}

function Chart({ days, summary }) {
  const most = Math.max(...days.map(({ amount }) => amount));
  const total = days.reduce((sum, { amount }) => sum + amount, 0);
  const count = summary.total_requests;
  return html`
    <p class="note">
      ${`${money(total)} in ${days.length} days, for ${count === 1 ? "one video" : `${grouped(count)} videos`}.`}
    </p>
    ${
      most > 0 &&
      html`
        <${Bars} days=${days} total=${total} most=${most} />
      `
    }
    <details class="more">
      <summary>As a table</summary>
      <div class="table" tabindex="0" role="region" aria-label="Table of days">
        <table>
          <thead>
            <tr>
              <th scope="col">Day</th>
              <th scope="col">Videos</th>
              <th scope="col">Spent</th>
            </tr>
          </thead>
          <tbody>
            ${days
              .filter(({ count }) => count)
              .reverse()
              .map(
                ({ date, amount, count }) => html`
                  <tr key=${date}>
                    <th scope="row">${day(date)}</th>
                    <td>${grouped(count)}</td>
                    <td>${money(amount)}</td>
                  </tr>
                `,
              )}
          </tbody>
        </table>
      </div>
    </details>
  `;
}

const Bars = ({ days, total, most }) => html`
  <figure>
    <svg
      class="chart"
      viewBox=${`0 0 ${days.length} 1`}
      preserveAspectRatio="none"
      role="img"
      aria-label=${`Spent by day since ${day(days[0].date)}: ${money(total)} in all, ${money(most)} at most.`}
    >
      ${days.map(({ date, amount, count }, index) => {
        const height = amount ? Math.max(0.02, amount / most) : 0;
        return html`
          <g key=${date}>
            <rect class="chart-bar" x=${index + 0.08} y=${1 - height} width="0.84" height=${height} />
            <rect class="chart-hit" x=${index} y="0" width="1" height="1">
              <title>${`${day(date)}: ${money(amount)}, ${count} videos`}</title>
            </rect>
          </g>
        `;
      })}
    </svg>
    <figcaption class="chart-ends">
      <span>${day(days[0].date)}</span>
      <span>${`${money(most)} at most`}</span>
      <span>today</span>
    </figcaption>
  </figure>
`;

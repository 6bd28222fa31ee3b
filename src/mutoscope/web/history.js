// Everything this key ever made: searched, filtered, chosen, compared, deleted. Only the rows in sight are drawn, and
// only their pages are asked for, so that ten thousand takes scroll like ten.

import { notify } from "./announce.js";
import * as api from "./api.js";
import { batch, computed, effect, html, signal, untracked, useEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";
import { Fault } from "./loading.js";
import { go } from "./router.js";
import * as form from "./studio/form.js";
import { isComparing, put, remove, setFavourite, show, takes } from "./studio/takes.js";
import { grouped, since, STATES } from "./words.js";

const PAGE = 60;
const LEAST_WIDTHS = { narrow: 148, wide: 208 }; // pixels of a card
const EDGE = 4; // pixels around the shelf, for the rings of focus
const GAP = 16;
const WORDS = 68; // pixels below the picture
const BEYOND = 2; // rows drawn above and below those in sight
const MOST_COMPARED = 4;

const asked = signal({ search: "", status: "", model: "", favourite: false });
const rows = signal({ total: null, items: new Map(), error: null });
const chosen = signal(new Set());
const sight = signal({ first: 0, count: 8, columns: 4, width: 208 }); // in rows

const rowHeight = computed(() => (sight.value.width * 9) / 16 + WORDS);
let pages = new Map(); // number → AbortController, of those that were asked for
let until = ""; // takes that begin later don't move the pages under one's hand

function restart() {
  for (const page of pages.values()) page.abort();
  pages = new Map();
  until = new Date(Date.now() + 60_000).toISOString();
  batch(() => {
    rows.value = { total: null, items: new Map(), error: null };
    chosen.value = new Set();
  });
}

async function load(number) {
  if (pages.has(number)) return;
  const controller = new AbortController();
  pages.set(number, controller);
  const { search, status, model, favourite } = untracked(() => asked.value);
  const filters = {
    ...(search && { search }),
    ...(status && { status }),
    ...(model && { model }),
    ...(favourite && { favourite }),
  };
  const span = { created_after: "2020-01-01T00:00:00Z", created_before: until };
  try {
    const found = await api.list(
      { page: number, page_size: PAGE, include_inputs: true, ...span, ...filters },
      controller.signal,
    );
    const items = new Map(rows.value.items);
    found.items.forEach(({ inputs: input, ...take }, index) =>
      items.set((number - 1) * PAGE + index, { ...take, input }),
    );
    rows.value = { total: found.total, items, error: null };
  } catch (error) {
    if (!controller.signal.aborted) rows.value = { ...rows.value, error };
  }
}

const inSight = computed(() => {
  const { first, count, columns } = sight.value;
  const from = Math.max(0, first - BEYOND) * columns;
  const to = Math.min(rows.value.total ?? 0, (first + count + BEYOND) * columns);
  return { from, to };
});

const wanted = computed(
  () => `${Math.floor(inSight.value.from / PAGE) + 1} ${Math.floor(Math.max(0, inSight.value.to - 1) / PAGE) + 1}`,
);
let settling = 0;
effect(() => {
  const [from, to] = wanted.value.split(" ").map(Number);
  clearTimeout(settling);
  settling = setTimeout(() => {
    for (let number = from; number <= to; number += 1) if (pages.size) load(number); // a fling passes many
  }, 60);
});

export function View() {
  useEffect(() => {
    restart();
    load(1);
  }, [asked.value]);
  const { total, error } = rows.value;
  const isNarrowed = Object.values(asked.value).some(Boolean);
  return html`
    <div class="pane is-history">
      <div class="pane-head">
        <h1>History</h1>
        <p class="note" role="status">${total === null ? "" : `${grouped(total)} ${total === 1 ? "take" : "takes"}`}</p>
      </div>
      <${Filters} />
      ${
        error
          ? html`
              <${Fault} error=${error} />
            `
          : total === 0
            ? html`
                <p class="empty">
                  ${
                    isNarrowed
                      ? "No take fits. Ask for less."
                      : "Nothing yet. What you render appears here, with everything that made it."
                  }
                </p>
              `
            : html`
                <${Shelf} />
              `
      }
      ${
        chosen.value.size > 0 &&
        html`
          <${Chosen} />
        `
      }
    </div>
  `;
}

function Filters() {
  const typing = useRef(0);
  const ask = (changes) => (asked.value = { ...asked.value, ...changes });
  const search = ({ target: { value } }) => {
    clearTimeout(typing.current);
    typing.current = setTimeout(() => ask({ search: value.trim() }), 250);
  };
  return html`
    <div class="filters" role="search">
      <label class="search">
        <${Icon} name="search" />
        <input
          type="search"
          aria-label="Search the prompts"
          placeholder="Search the prompts"
          defaultValue=${asked.value.search}
          onInput=${search}
        />
      </label>
      <select aria-label="State" value=${asked.value.status} onChange=${({ target }) => ask({ status: target.value })}>
        <option value="">Every state</option>
        ${Object.entries(STATES).map(
          ([value, word]) => html`
            <option value=${value} key=${value}>${word}</option>
          `,
        )}
      </select>
      <select aria-label="Model" value=${asked.value.model} onChange=${({ target }) => ask({ model: target.value })}>
        <option value="">Every model</option>
        ${form.catalogue.value.map(
          ({ id, title }) => html`
            <option value=${id} key=${id}>${title}</option>
          `,
        )}
      </select>
      <button
        class="plain"
        type="button"
        aria-label="Favourites"
        aria-pressed=${String(asked.value.favourite)}
        onClick=${() => ask({ favourite: !asked.value.favourite })}
      >
        <${Icon} name="star" fill=${asked.value.favourite} />
        <span>Favourites</span>
      </button>
    </div>
  `;
}

function Shelf() {
  const shelf = useRef(null);
  useEffect(() => {
    const measure = () => {
      const { clientWidth, clientHeight, scrollTop } = shelf.current;
      const room = clientWidth - 2 * EDGE;
      const least = room < 480 ? LEAST_WIDTHS.narrow : LEAST_WIDTHS.wide;
      const columns = Math.max(1, Math.floor((room + GAP) / (least + GAP)));
      const width = (room - GAP * (columns - 1)) / columns;
      const height = (width * 9) / 16 + WORDS;
      const next = {
        first: Math.floor(scrollTop / height),
        count: Math.ceil(clientHeight / height) + 1,
        columns,
        width,
      };
      if (Object.keys(next).some((name) => next[name] !== sight.value[name])) sight.value = next;
    };
    const observer = new ResizeObserver(measure);
    observer.observe(shelf.current);
    let frame = 0;
    const scrolled = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(measure);
    };
    shelf.current.addEventListener("scroll", scrolled, { passive: true });
    shelf.current.scrollTop = 0;
    return () => observer.disconnect();
  }, []);
  const { total, items } = rows.value;
  const { columns, width } = sight.value;
  const { from, to } = inSight.value;
  const height = rowHeight.value;
  const cards = [];
  for (let index = from; index < to; index += 1) {
    const place = {
      left: `${(index % columns) * (width + GAP)}px`,
      top: `${Math.floor(index / columns) * height}px`,
      width: `${width}px`,
    };
    const take = items.get(index);
    cards.push(html`
      <li key=${index} style=${place} aria-setsize=${total} aria-posinset=${index + 1}>
        ${
          take
            ? html`
                <${Card} take=${takes.value.get(take.id) ?? take} />
              `
            : html`
                <div class="card-gap"></div>
              `
        }
      </li>
    `);
  }
  return html`
    <div class="shelf" ref=${shelf} tabindex="0" role="region" aria-label="Takes">
      <ul style=${{ height: `${Math.ceil((total ?? 12) / columns) * height}px` }}>
        ${cards}
      </ul>
    </div>
  `;
}

function Card({ take }) {
  const { id, poster, status, created_at: created, favourite } = take;
  const { prompt } = take.input;
  const open = () => {
    put(take);
    isComparing.value = false;
    show([id]);
    go("");
  };
  const choose = ({ target }) => {
    const next = new Set(chosen.value);
    if (target.checked) next.add(id);
    else next.delete(id);
    chosen.value = next;
  };
  const star = () => {
    put(take);
    setFavourite(id, !favourite).catch((error) => notify(error.message, { isFault: true }));
  };
  return html`
    <div class="take" data-status=${status}>
      <button class="take-open" type="button" onClick=${open} aria-label=${`${STATES[status] ?? status}: ${prompt}`}>
        <span class="take-picture">
          ${
            poster
              ? html`
                  <img src=${poster} alt="" loading="lazy" decoding="async" />
                `
              : html`
                  <${Icon} name=${status === "failed" ? "warning" : status === "cancelled" ? "close" : "film"} />
                `
          }
        </span>
        <span class="take-prompt">${prompt}</span>
        <span class="note">
          ${status === "completed" ? since(created) : `${STATES[status] ?? status}  ·  ${since(created)}`}
        </span>
      </button>
      <label class="take-choose">
        <input type="checkbox" checked=${chosen.value.has(id)} onChange=${choose} aria-label=${`Choose: ${prompt}`} />
      </label>
      <button
        class="take-star"
        type="button"
        aria-pressed=${String(Boolean(favourite))}
        aria-label=${`Favourite: ${prompt}`}
        onClick=${star}
      >
        <${Icon} name="star" fill=${favourite} />
      </button>
    </div>
  `;
}

function Chosen() {
  const ids = [...chosen.value];
  const compare = () => {
    for (const take of rows.value.items.values()) if (chosen.value.has(take.id)) put(take);
    isComparing.value = false;
    show(ids);
    go("");
  };
  const forget = async () => {
    if (
      !confirm(
        `Delete ${ids.length === 1 ? "this take" : `these ${ids.length} takes`} and their videos from the server?`,
      )
    )
      return;
    try {
      await remove(ids);
      notify(`${ids.length} deleted.`);
    } catch (error) {
      notify(error.message, { isFault: true });
    }
    restart();
    load(1);
  };
  return html`
    <div class="chosen" role="toolbar" aria-label="The chosen takes">
      <span>${ids.length} chosen</span>
      <button
        class="plain small"
        type="button"
        disabled=${ids.length < 2 || ids.length > MOST_COMPARED}
        onClick=${compare}
      >
        <${Icon} name="split" />
        Compare
      </button>
      <button class="plain small danger" type="button" onClick=${forget}>
        <${Icon} name="trash" />
        Delete
      </button>
      <button class="quiet small" type="button" onClick=${() => (chosen.value = new Set())}>Clear</button>
    </div>
  `;
}

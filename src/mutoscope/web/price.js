// What the video would cost, asked of the server whenever model or duration change.

import { price as ask } from "./api.js";
import { byId } from "./dom.js";
import { money } from "./settings.js";

const SETTLE = 150; // milliseconds: a slider passes many values
const SLOW = 700; // milliseconds: after this an old price would mislead

export function createPrice() {
  let asked = "";
  let asking = new AbortController();

  async function show(model, duration) {
    const wanted = `${model} ${duration}`;
    if (wanted === asked) return;
    asked = wanted;
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const slow = setTimeout(() => tell("…", "asking the price"), SLOW);
    signal.addEventListener("abort", () => clearTimeout(slow));
    try {
      await new Promise((resolve) => setTimeout(resolve, SETTLE));
      if (signal.aborted) return;
      const { price } = await ask(model, duration, signal);
      if (signal.aborted) return;
      tell(money(price), `for ${duration} s`);
    } catch {
      if (signal.aborted) return;
      asked = "";
      tell("–", "price not known");
    } finally {
      clearTimeout(slow);
    }
  }
  return { show };
}

function tell(amount, note) {
  byId("price").textContent = amount;
  byId("price-note").textContent = note;
}

// What the video would cost, asked of the server whenever model or duration change.

import { price as ask } from "./api.js";
import { byId } from "./dom.js";
import { money } from "./settings.js";

const SETTLE = 120; // milliseconds: a slider passes many values

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
    try {
      await new Promise((resolve) => setTimeout(resolve, SETTLE));
      if (signal.aborted) return;
      const { price } = await ask(model, duration, signal);
      if (signal.aborted) return;
      byId("price").textContent = money(price);
      byId("price-note").textContent = `for ${duration} s`;
    } catch {
      if (signal.aborted) return;
      asked = "";
      byId("price").textContent = "–";
      byId("price-note").textContent = "price not known";
    }
  }
  return { show };
}

// The last videos made in this browser, to look at again.

import { byId, make } from "./dom.js";
import { recall, remember } from "./memory.js";

const MOST = 12;

/** The strip of takes; `onOpen` is called with the id of the one chosen. */
export function createTakes(onOpen) {
  let takes = recall("takes", []);
  let current = "";

  function show() {
    byId("takes").hidden = takes.length === 0;
    byId("takes-list").replaceChildren(
      ...takes.map((take) => {
        const image = make("img", { src: take.poster, alt: "", loading: "lazy" });
        const [width, height] = take.shape.split(":").map(Number);
        image.style.setProperty("--ratio", width / height);
        const button = make("button", { type: "button", title: take.prompt, "aria-label": `Take: ${take.prompt}` }, image);
        if (take.id === current) button.setAttribute("aria-current", "true");
        button.addEventListener("click", () => onOpen(take.id));
        const item = make("li", {}, button);
        image.addEventListener("error", () => (item.hidden = true)); // its files are gone, or the server is away
        return item;
      }),
    );
  }

  function remove(id) {
    takes = takes.filter((take) => take.id !== id);
    remember("takes", takes);
    show();
  }

  show();
  return {
    add({ id, poster, input }) {
      const take = { id, poster, prompt: input.prompt.slice(0, 200), shape: input.aspect_ratio };
      takes = [take, ...takes.filter((each) => each.id !== id)].slice(0, MOST);
      remember("takes", takes);
      show();
    },
    mark(id) {
      current = id;
      show();
    },
    remove,
  };
}

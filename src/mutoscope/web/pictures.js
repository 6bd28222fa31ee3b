// The reference pictures: dropped, pasted, chosen or named by address; each uploaded at once, in an order of one's own.

import { upload } from "./api.js";
import { byId, icon, make, say } from "./dom.js";
import { MAX_ADDRESS, asAddress, looksLikePicture } from "./sources.js";

/**
 * The pictures of the form. `onChange` is called when they, their order or their state changes.
 *
 * Each is { name, file?, url, preview, state: "sending" | "ready" | "failed", problem, element }.
 */
export function createPictures(onChange) {
  const tiles = byId("tiles");
  const problem = byId("pictures-problem");
  let pictures = [];
  let limit = 4;
  let replacing = null;
  let dragged = null;

  function addFiles(files) {
    complain("");
    const usable = [...files].filter(looksLikePicture);
    if (usable.length < files.length) {
      const other = [...files].find((file) => !looksLikePicture(file));
      complain(`${other.name} is not a picture.`);
    }
    for (const file of usable) {
      place({ name: file.name || "pasted picture", file, url: "", preview: URL.createObjectURL(file), state: "sending" });
    }
  }

  function addAddress(text) {
    complain("");
    const url = asAddress(text);
    if (!url) {
      complain("That is not a web address: it has to begin with https:// or http://.");
      return false;
    }
    return place({ name: nameOf(url), url, preview: url, state: "ready" });
  }

  function place(picture) {
    picture.problem = "";
    const at = replacing ? pictures.indexOf(replacing) : -1;
    replacing = null;
    if (at < 0 && pictures.length >= limit) {
      complain(`${limit} pictures are the most; “${picture.name}” was left out.`);
      drop(picture);
      return false;
    }
    picture.element = tile(picture);
    if (at >= 0) drop(pictures.splice(at, 1, picture)[0]);
    else pictures.push(picture);
    if (picture.file) send(picture);
    changed();
    return true;
  }

  function send(picture) {
    picture.state = "sending";
    picture.problem = "";
    picture.leaving = new AbortController();
    show(picture);
    const bar = picture.element.querySelector("progress");
    picture.sent = upload(picture.file, (share) => (bar.value = share), picture.leaving.signal).then(
      (url) => Object.assign(picture, { url, state: "ready" }),
      (error) => {
        if (!picture.leaving.signal.aborted) Object.assign(picture, { state: "failed", problem: error.message });
      },
    );
    picture.sent.then(() => {
      if (!pictures.includes(picture)) return;
      if (picture.state === "failed") complain(`${picture.name}: ${picture.problem}`);
      changed();
    });
  }

  function remove(picture) {
    const at = pictures.indexOf(picture);
    pictures.splice(at, 1);
    drop(picture);
    complain("");
    say(`${picture.name} removed.`);
    changed();
    (pictures[Math.min(at, pictures.length - 1)]?.element.querySelector(".tile-remove") ?? byId("add-pictures")).focus();
  }

  function move(picture, step, focus = "") {
    const from = pictures.indexOf(picture);
    const to = from + step;
    if (to < 0 || to >= pictures.length) return;
    pictures.splice(to, 0, pictures.splice(from, 1)[0]);
    changed();
    if (!focus) return;
    say(`${picture.name} is now picture ${to + 1} of ${pictures.length}.`);
    const button = picture.element.querySelector(`.tile-${focus}`);
    (button.disabled ? picture.element.querySelector(`.tile-${focus === "earlier" ? "later" : "earlier"}`) : button).focus();
  }

  function tile(picture) {
    const image = make("img", { src: picture.preview, alt: "", draggable: false, decoding: "async" });
    image.addEventListener("error", () => {
      image.remove(); // a browser may not know a format that the server knows
      picture.preview = "";
      onChange();
    });
    const button = (name, label, drawing, act) => {
      const made = make("button", { type: "button", className: `tile-${name}`, title: label }, icon(drawing));
      made.addEventListener("click", act);
      return made;
    };
    const element = make(
      "li",
      { className: "tile", draggable: true },
      make("span", { className: "tile-name", textContent: picture.name }),
      image,
      make("span", { className: "tile-number", "aria-hidden": "true" }),
      make("progress", { max: 1, value: 0 }),
      button("retry", "Send again", "again", () => send(picture)),
      button("remove", "Remove", "close", () => remove(picture)),
      make(
        "div",
        { className: "tile-tools" },
        button("earlier", "Move earlier", "left", () => move(picture, -1, "earlier")),
        button("replace", "Replace", "swap", () => choose(picture)),
        button("later", "Move later", "right", () => move(picture, 1, "later")),
      ),
    );
    element.addEventListener("dragstart", (event) => {
      dragged = picture;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/x-mutoscope-picture", picture.name);
      element.classList.add("is-dragged");
    });
    element.addEventListener("dragover", (event) => {
      if (!dragged) return;
      event.preventDefault();
      if (dragged !== picture) move(dragged, pictures.indexOf(picture) - pictures.indexOf(dragged));
    });
    element.addEventListener("drop", (event) => dragged && event.preventDefault());
    element.addEventListener("dragend", () => {
      dragged = null;
      element.classList.remove("is-dragged");
    });
    return element;
  }

  function show(picture, index = pictures.indexOf(picture)) {
    const { element } = picture;
    const name = `picture ${index + 1}, ${picture.name}`;
    element.dataset.state = picture.state;
    element.classList.toggle("is-faulty", Boolean(picture.problem));
    element.setAttribute("aria-label", `${name}${{ sending: ", uploading", failed: ", not uploaded" }[picture.state] ?? ""}`);
    element.querySelector(".tile-number").textContent = index + 1;
    element.querySelector("progress").setAttribute("aria-label", `Uploading ${picture.name}`);
    for (const [part, verb] of Object.entries({ retry: "Send again", remove: "Remove", earlier: "Move earlier", replace: "Replace", later: "Move later" })) {
      element.querySelector(`.tile-${part}`).setAttribute("aria-label", `${verb}: ${name}`);
    }
    element.querySelector(".tile-earlier").disabled = index === 0;
    element.querySelector(".tile-later").disabled = index === pictures.length - 1;
  }

  function changed() {
    const wanted = pictures.map((picture) => picture.element);
    if (wanted.length !== tiles.children.length || wanted.some((element, index) => tiles.children[index] !== element)) {
      tiles.replaceChildren(...wanted);
    }
    pictures.forEach((picture, index) => show(picture, index));
    byId("pictures").dataset.count = pictures.length;
    byId("add-pictures").hidden = pictures.length >= limit;
    byId("pictures-note").textContent = pictures.length ? `${pictures.length} of ${limit}` : `1 to ${limit}`;
    onChange();
  }

  function complain(sentence) {
    problem.textContent = sentence;
  }

  function choose(instead = null) {
    replacing = instead;
    byId("files").multiple = !instead;
    byId("files").click();
  }

  byId("add-pictures").addEventListener("click", () => choose());
  byId("files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  byId("files").addEventListener("cancel", () => (replacing = null));

  return {
    addFiles,
    addAddress,
    isDragging: () => dragged !== null,
    list: () => pictures,
    /** What can be told of them already, for a draft. */
    draft: () =>
      pictures.filter(({ state, url }) => state === "ready" && url.length <= MAX_ADDRESS).map(({ name, url }) => ({ name, url })),
    /** Their URLs, once all are uploaded. Throws when one could not be. */
    async urls() {
      while (pictures.some(({ state }) => state === "sending")) await Promise.all(pictures.map(({ sent }) => sent));
      const failed = pictures.find(({ state }) => state === "failed");
      if (failed) throw new Error(`${failed.name} was not uploaded: ${failed.problem}`);
      return pictures.map(({ url }) => url);
    },
    /** Put these in place of all: a list of { name, url }. */
    set(drafts) {
      pictures.forEach(drop);
      pictures = [];
      for (const { name, url } of drafts) place({ name: name || nameOf(url), url, preview: url, state: "ready" });
      changed();
    },
    setLimit(most) {
      limit = most;
      changed();
    },
    /** Mark the picture that a sentence of the server is about: "Image 2 (upload): …". */
    markFault(sentence) {
      const number = Number(/^Image (\d+)\b/.exec(sentence)?.[1] ?? 0);
      pictures.forEach((picture, index) => {
        if (picture.state === "ready") picture.problem = index + 1 === number ? sentence : "";
        show(picture, index);
      });
    },
  };
}

function drop(picture) {
  picture.leaving?.abort();
  if (picture.preview.startsWith("blob:")) URL.revokeObjectURL(picture.preview);
}

function nameOf(url) {
  if (url.startsWith("data:")) return "picture";
  try {
    const { hostname, pathname } = new URL(url);
    return decodeURIComponent(pathname.split("/").pop()) || hostname;
  } catch {
    return "picture";
  }
}

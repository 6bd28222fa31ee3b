// The few words this page uses to talk to its document.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element: `properties` are set as they are named (dataset's and aria's as attributes), `children` appended. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** One of the drawings at the top of index.html. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  drawing.append(use);
  return drawing;
}

/** Tell whoever listens instead of looking. The same words twice in a row are said once. */
export function say(words) {
  const said = byId("said");
  if (said.textContent !== words) said.textContent = words;
}

/** 5000 → "5,000". */
export const grouped = (number) => number.toLocaleString("en-US");

// Which view is open: the part of the address behind #. Everything else about the page is not in the address.

import { signal } from "./html.js";

export const VIEWS = [
  { path: "", name: "Studio", icon: "film" },
  { path: "history", name: "History", icon: "history" },
  { path: "code", name: "Code", icon: "code" },
  { path: "model", name: "Models", icon: "book" },
  { path: "account", name: "Account", icon: "person" },
];

/** { path, rest }: "#/model/a/b" is { path: "model", rest: "a/b" }. */
export const route = signal(read());

function read() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { path, rest: rest.join("/") };
}

export const href = (path) => `#/${path}`;

export function go(path) {
  if (location.hash !== href(path)) location.hash = href(path);
}

addEventListener("hashchange", () => {
  route.value = read();
  scrollTo(0, 0);
});

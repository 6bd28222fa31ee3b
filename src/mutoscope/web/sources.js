// Where pictures come from besides the file chooser: dropped anywhere on the page, pasted, or typed as an address.

import { byId } from "./dom.js";

export const MAX_ADDRESS = 8_192;

const PICTURE_NAMES = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif|jfif)$/i;

/** Whether a file can be a picture, by its type or its name; what it really is, the server judges. */
export const looksLikePicture = (file) => file.type.startsWith("image/") || (!file.type && (!file.name || PICTURE_NAMES.test(file.name)));

/** The address in `text` as the API takes it, or "". */
export function asAddress(text) {
  const trimmed = text.trim();
  if (/^data:image\//i.test(trimmed)) return trimmed;
  try {
    const { protocol, href } = new URL(trimmed);
    return ["http:", "https:"].includes(protocol) && href.length <= MAX_ADDRESS ? href : "";
  } catch {
    return "";
  }
}

/** Let `pictures` be dropped, pasted and named by address. */
export function setUpSources(pictures) {
  let depth = 0; // dragenter and dragleave come for every element that is crossed

  const isForUs = (event) =>
    !pictures.isDragging() && ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));
  const setOver = (over) => byId("drop").classList.toggle("is-over", over);

  addEventListener("dragenter", (event) => {
    if (!isForUs(event)) return;
    depth += 1;
    setOver(true);
  });
  addEventListener("dragleave", (event) => {
    if (!isForUs(event)) return;
    depth = Math.max(0, depth - 1);
    if (!depth) setOver(false);
  });
  addEventListener("dragover", (event) => {
    if (!isForUs(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    depth = 0;
    setOver(false);
    if (!isForUs(event)) return;
    event.preventDefault();
    const { files } = event.dataTransfer;
    if (files.length) pictures.addFiles(files);
    else pictures.addAddress(event.dataTransfer.getData("text/uri-list").split("\n")[0]);
  });

  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files].filter(looksLikePicture);
    const isWriting = event.target.closest?.("input, textarea");
    if (files.length) {
      event.preventDefault();
      pictures.addFiles(files);
    } else if (!isWriting && asAddress(event.clipboardData.getData("text"))) {
      pictures.addAddress(event.clipboardData.getData("text"));
    }
  });

  const row = byId("address-row");
  const field = byId("address");
  const toggle = byId("open-address");
  const setOpen = (open) => {
    row.hidden = !open;
    toggle.hidden = open;
    toggle.setAttribute("aria-expanded", String(open));
    (open ? field : toggle).focus();
  };
  const add = () => {
    if (!pictures.addAddress(field.value)) return field.select();
    field.value = "";
    return setOpen(false);
  };
  toggle.addEventListener("click", () => setOpen(true));
  byId("add-address").addEventListener("click", add);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault(); // Enter here adds; it does not run
      add();
    } else if (event.key === "Escape") setOpen(false);
  });
}

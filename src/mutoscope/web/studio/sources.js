// Pictures that come by drop and by paste, anywhere on the page.

import { html, signal, useEffect } from "../html.js";
import { isDragging } from "./pictures.js";
import { addAddress, addFiles, asAddress, looksLikePicture } from "./references.js";

const isOver = signal(false);
let depth = 0; // dragenter and dragleave come for every element that is crossed

const isForUs = (event) =>
  !isDragging() && ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));

const LISTENERS = {
  dragenter(event) {
    if (isForUs(event)) isOver.value = Boolean((depth += 1));
  },
  dragleave(event) {
    if (isForUs(event)) isOver.value = Boolean((depth = Math.max(0, depth - 1)));
  },
  dragover(event) {
    if (!isForUs(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  },
  drop(event) {
    depth = 0;
    isOver.value = false;
    if (!isForUs(event)) return;
    event.preventDefault();
    const { files } = event.dataTransfer;
    if (files.length) addFiles(files);
    else addAddress(event.dataTransfer.getData("text/uri-list").split("\n")[0]);
  },
  paste(event) {
    const files = [...event.clipboardData.files].filter(looksLikePicture);
    const isWriting = event.target.closest?.("input, textarea");
    const text = event.clipboardData.getData("text");
    if (files.length) {
      event.preventDefault();
      addFiles(files);
    } else if (!isWriting && asAddress(text)) addAddress(text);
  },
};

export function DropTarget() {
  useEffect(() => {
    for (const [name, listener] of Object.entries(LISTENERS)) addEventListener(name, listener);
    return () => Object.entries(LISTENERS).forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return html`
    <div class=${`drop ${isOver.value ? "is-over" : ""}`} aria-hidden="true"><p>Drop to add</p></div>
  `;
}

// The form's content as a curl command, for whoever wants to go on in a terminal.

import { byId } from "./dom.js";

/** Show the command for `model` and `inputs`. */
export function showSnippet(model, inputs) {
  const images = inputs.images.length ? inputs.images : ["https://…"];
  const body = JSON.stringify({ ...inputs, images }, null, 2);
  byId("snippet-text").textContent = [
    `curl ${location.origin}/api/v3/${model} \\`,
    '  -H "Authorization: Bearer $MUTOSCOPE_API_KEY" \\',
    "  -H 'Content-Type: application/json' \\",
    `  -d '${body.replaceAll("'", "'\\''")}'`,
  ].join("\n");
}

/** Wire the button that copies it. */
export function setUpSnippet() {
  const button = byId("snippet-copy");
  const label = button.querySelector("span");
  button.addEventListener("click", async () => {
    const text = byId("snippet-text");
    try {
      await navigator.clipboard.writeText(text.textContent);
      label.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no clipboard without https: at least select it
      label.textContent = "Selected";
    }
    setTimeout(() => (label.textContent = "Copy"), 1_500);
  });
}

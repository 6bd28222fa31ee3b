// A link that refills the form: a shot's model and inputs, in the address behind #, so that they reach no server's log.

import { notify } from "../announce.js";
import { go, href } from "../router.js";
import * as form from "./form.js";
import * as references from "./references.js";

/** The address that refills the form with a take's inputs. */
export function linkTo({ model, input, seed }) {
  const text = JSON.stringify({ model, inputs: { ...input, seed } });
  const bytes = new TextEncoder().encode(text);
  const base64 = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return `${location.origin}/${href(`recipe/${base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`)}`;
}

/** Fill the form from such an address. */
export function open(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) =>
      letter.charCodeAt(0),
    );
    const { model, inputs } = JSON.parse(new TextDecoder().decode(bytes));
    form.fill({ model, inputs });
    form.isSeedKept.value = inputs.seed >= 0;
    references.replaceAll(inputs.images.map((url) => ({ url: String(url) })));
  } catch {
    notify("This recipe can’t be read: the link was cut short.", { isFault: true });
  }
  go("");
}

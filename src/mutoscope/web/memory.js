// What this browser remembers between visits: the key, the draft, what runs, how the page looks.
// A browser that forbids it (private windows, blocked storage) just forgets.

const PREFIX = "mutoscope.";

export function recall(name, otherwise = null) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // full or forbidden
  }
}

export function forget(...names) {
  try {
    for (const name of names) localStorage.removeItem(PREFIX + name);
  } catch {
    // forbidden
  }
}

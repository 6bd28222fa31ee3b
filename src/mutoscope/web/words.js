// Numbers, times and names as a person reads them. Pure.

export const grouped = (number) => number.toLocaleString("en-US");

/** Dollars: "Free", "$0.20", "$0.0125". */
export function money(amount, { free = "$0.00" } = {}) {
  if (amount === 0) return free;
  const digits = Math.abs(amount) < 0.01 || Math.round(amount * 1e4) % 100 ? 4 : 2;
  const form = { minimumFractionDigits: 2, maximumFractionDigits: digits };
  return `${amount < 0 ? "−" : ""}$${Math.abs(amount).toLocaleString("en-US", form)}`;
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

/** Seconds left: "almost done", "about 12 s left", "about 3 min left"; with an interval, "12 to 20 s left". What is far
 * from done (`progress`, 0 to 1) when its time is up, takes longer. */
export function timeLeft(low, high = low, progress = 1) {
  if (low === null || low === undefined || Number.isNaN(low)) return "";
  if (high <= 0 && progress < 0.8) return "takes longer than expected";
  if (high < 1) return "almost done";
  const inMinutes = high >= 90;
  const [from, to] = [low, high].map((value) => Math.max(1, Math.ceil(inMinutes ? value / 60 : value)));
  const unit = inMinutes ? "min" : "s";
  return from === to ? `about ${to} ${unit} left` : `${from} to ${to} ${unit} left`;
}

const PLACES = ["first", "second", "third"];

export const queued = (place) =>
  place ? `Waiting, ${PLACES[place - 1] ?? `${grouped(place)}th`} in the queue` : "Waiting";

const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** How long ago an ISO time was; its date when that was more than a week ago. */
export function since(iso, now = Date.now()) {
  const seconds = (new Date(iso).getTime() - now) / 1000;
  if (seconds > -45) return "just now";
  if (seconds > -3600) return ago.format(Math.round(seconds / 60), "minute");
  if (seconds > -86_400) return ago.format(Math.round(seconds / 3600), "hour");
  return seconds > -7 * 86_400 ? ago.format(Math.round(seconds / 86_400), "day") : day(iso);
}

/** "24 Nov 2026". Takes an ISO text, or milliseconds. */
export const day = (time) =>
  new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** "24 Nov, 11:05:09". */
export const moment = (time) =>
  new Date(time).toLocaleString("en-GB", {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });

export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/** "aspect_ratio" → "Aspect ratio". */
export const spoken = (name) => capital(name.replaceAll("_", " "));

/** One of "created", "processing", … as this page says it. */
export const STATES = {
  created: "Waiting",
  processing: "Rendering",
  completed: "Finished",
  failed: "Failed",
  cancelled: "Canceled",
};

/** Width over height of "16:9". */
export function ratioOf(shape) {
  const [width, height] = String(shape ?? "16:9")
    .split(":")
    .map(Number);
  return width / height || 16 / 9;
}

/** What a downloaded video is called. */
export function fileName({ input, seed }) {
  const words =
    (input?.prompt ?? "")
      .normalize("NFKD")
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? [];
  return ["mutoscope", ...words.slice(0, 6), seed].join("-").slice(0, 80) + ".mp4";
}

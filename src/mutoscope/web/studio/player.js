// Videos in step behind one set of controls: one alone, two with a slider between them, or up to four side by side.
// Knows pictures and time, and nothing of takes.

import { html, signal, useEffect, useRef, useSignal } from "../html.js";
import { Icon } from "../icons.js";
import { recall, remember } from "../memory.js";

const FRAME = 1 / 24; // seconds
const OUT_OF_STEP = 0.06; // seconds: more than a frame, less than one sees
const SPEEDS = [0.25, 0.5, 1, 2];

export const CALM = matchMedia("(prefers-reduced-motion: reduce)");

const isLooping = signal(recall("looping", true));
const speed = signal(recall("speed", 1));

/** `items`: [{ id, src, poster, label }]. `mode`: "single", "split" (the first two) or "grid". `children` lie above. */
export function Player({ items, mode = "single", label, children }) {
  const box = useRef(null);
  const time = useSignal(0);
  const length = useSignal(0);
  const isPlaying = useSignal(false);
  const wipe = useSignal(50);

  const videos = () => [...(box.current?.querySelectorAll("video") ?? [])];
  const sources = items.map(({ src }) => src).join(" ");

  const seek = (to) => {
    const [first] = videos();
    if (!first) return;
    time.value = Math.min(Math.max(to, 0), first.duration || 0);
    for (const video of videos()) video.currentTime = time.value;
  };
  const pause = () => videos().forEach((video) => video.pause());
  const play = () => videos().forEach((video) => video.play().catch(() => {})); // a browser may insist on a click
  const toggle = () => (videos()[0]?.paused ? play() : pause()); // `isPlaying` comes a moment after the fact
  const step = (frames) => {
    pause();
    seek((Math.floor(videos()[0].currentTime / FRAME + 0.01) + frames + 0.5) * FRAME); // the middle of a frame
  };
  const setLooping = (value) => remember("looping", (isLooping.value = value));
  const setSpeed = (value) => remember("speed", (speed.value = value));
  const toggleFull = () => (document.fullscreenElement ? document.exitFullscreen() : box.current.requestFullscreen?.());

  useEffect(() => {
    time.value = 0;
    if (!CALM.matches) play();
  }, [sources, mode]);

  useEffect(() => {
    for (const video of videos()) video.playbackRate = speed.value;
  }, [speed.value, sources, mode]);

  useEffect(() => {
    let asked = 0;
    const look = () => {
      const [first, ...others] = videos();
      if (first && !first.paused) {
        time.value = first.currentTime;
        for (const other of others) {
          if (other.paused && !other.ended && first.currentTime < other.duration) other.play().catch(() => {});
          if (Math.abs(other.currentTime - first.currentTime) > OUT_OF_STEP) other.currentTime = first.currentTime;
        }
      }
      asked = requestAnimationFrame(look);
    };
    look();
    return () => cancelAnimationFrame(asked);
  }, []);

  useEffect(() => {
    const press = (event) => {
      if (
        event.ctrlKey ||
        event.metaKey ||
        event.altKey ||
        event.target.closest?.("input, textarea, select, dialog, pre")
      )
        return;
      if (event.key === " " && event.target.closest?.("button, a, summary")) return; // it presses those
      const act = {
        " ": toggle,
        k: toggle,
        ArrowLeft: () => step(-1),
        ArrowRight: () => step(1),
        Home: () => seek(0),
        l: () => setLooping(!isLooping.value),
        f: toggleFull,
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  const meet = ({ target }) => {
    if (target !== videos()[0]) return;
    length.value = target.duration;
  };

  return html`
    <div class="player" ref=${box} role="group" aria-label=${label}>
      <div class="frame" data-mode=${mode} data-count=${items.length} style=${{ "--wipe": `${wipe.value}%` }}>
        ${items.map(
          ({ id, src, poster, label: name }, index) => html`
            <figure key=${id}>
              <video
                src=${src}
                poster=${poster || undefined}
                aria-label=${name}
                loop=${isLooping.value}
                muted
                playsinline
                preload="auto"
                onLoadedMetadata=${meet}
                onPlay=${() => index || (isPlaying.value = true)}
                onPause=${() => index || (isPlaying.value = false)}
                onClick=${toggle}
              ></video>
              ${
                items.length > 1 &&
                html`
                  <figcaption>${name}</figcaption>
                `
              }
            </figure>
          `,
        )}
        ${
          mode === "split" &&
          html`
            <input
              class="wipe"
              type="range"
              min="0"
              max="100"
              value=${wipe.value}
              aria-label=${`Slide between ${items[0].label} and ${items[1].label}`}
              onInput=${({ target }) => (wipe.value = Number(target.value))}
            />
          `
        }
        ${children}
      </div>
      <div class="controls">
        <button class="quiet square" type="button" aria-label=${isPlaying.value ? "Pause" : "Play"} onClick=${toggle}>
          <${Icon} name=${isPlaying.value ? "pause" : "play"} />
        </button>
        <button
          class="quiet square"
          type="button"
          title="One frame back (←)"
          aria-label="One frame back"
          onClick=${() => step(-1)}
        >
          <${Icon} name="back" />
        </button>
        <button
          class="quiet square"
          type="button"
          title="One frame on (→)"
          aria-label="One frame on"
          onClick=${() => step(1)}
        >
          <${Icon} name="forward" />
        </button>
        <input
          class="scrub"
          type="range"
          min="0"
          max=${length.value || 1}
          step="any"
          value=${time.value}
          aria-label="Time"
          aria-valuetext=${`${time.value.toFixed(1)} of ${length.value.toFixed(1)} seconds`}
          onInput=${({ target }) => (pause(), seek(Number(target.value)))}
        />
        <span class="note time">${time.value.toFixed(2)} s</span>
        <select aria-label="Speed" value=${speed.value} onChange=${({ target }) => setSpeed(Number(target.value))}>
          ${SPEEDS.map(
            (each) => html`
              <option value=${each} key=${each}>${each}×</option>
            `,
          )}
        </select>
        <button
          class="quiet square"
          type="button"
          title="Loop (l)"
          aria-label="Loop"
          aria-pressed=${String(isLooping.value)}
          onClick=${() => setLooping(!isLooping.value)}
        >
          <${Icon} name="loop" />
        </button>
        <button
          class="quiet square"
          type="button"
          title="Full screen (f)"
          aria-label="Full screen"
          onClick=${toggleFull}
        >
          <${Icon} name="full" />
        </button>
      </div>
    </div>
  `;
}

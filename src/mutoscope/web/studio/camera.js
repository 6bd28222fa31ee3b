// A picture from the camera of this device.

import { Dialog } from "../dialog.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { addFiles } from "./references.js";

const REASONS = {
  NotAllowedError:
    "The camera was not allowed for this page. Allow it in the browser’s address bar, and open this again.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "The camera is in use by another program.",
};

export function Camera({ onClose }) {
  const video = useRef(null);
  const [problem, setProblem] = useState("");
  const [isReady, setReady] = useState(false);

  useEffect(() => {
    let stream = null;
    let isGone = false;
    navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "environment" } }).then(
      (found) => {
        stream = found;
        if (isGone) return stop();
        video.current.srcObject = stream;
      },
      (error) => setProblem(REASONS[error.name] ?? "The camera could not be opened."),
    );
    const stop = () => stream?.getTracks().forEach((track) => track.stop());
    return () => {
      isGone = true;
      stop();
    };
  }, []);

  async function shoot() {
    const { videoWidth: width, videoHeight: height } = video.current;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    addFiles([new File([blob], "camera.jpg", { type: "image/jpeg" })]);
    onClose();
  }

  return html`
    <${Dialog} title="A picture from the camera" onClose=${onClose} className="camera">
      ${
        problem
          ? html`
              <p class="problem" role="alert">${problem}</p>
            `
          : html`
              <video
                ref=${video}
                autoplay
                muted
                playsinline
                aria-label="What the camera sees"
                onLoadedData=${() => setReady(true)}
              ></video>
            `
      }
      <div class="card-actions">
        <button class="plain" type="button" onClick=${onClose}>Cancel</button>
        <button class="primary" type="button" disabled=${!isReady} onClick=${shoot}>Take the picture</button>
      </div>
    <//>
  `;
}

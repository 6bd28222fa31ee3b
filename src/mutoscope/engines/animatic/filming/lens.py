"""A pinhole camera in front of flat layers: where a pixel of the frame falls on a layer.

Only geometry: no pictures, no time, no prompt. Lengths are in units of the camera's distance to the subject plane, so
depth 0 is the subject and depth 1 lies as far behind it again. "Rest" coordinates are pixels of the frame as the camera
sees the layer before it moves; everything is composed in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, sin
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

GRID: Final = 16  # pixels between the points at which the exact geometry is worked out; between them it is interpolated


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the camera is and looks. x right, y down, z forward; yaw right, pitch up, roll clockwise, in radians."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True, slots=True)
class Lens:
    """A frame of `width` x `height` pixels seen through a longish lens (about 58 mm on 35 mm film)."""

    width: int
    height: int

    @property
    def distance(self) -> float:
        """The camera's distance to the subject plane, in pixels of that plane."""
        return 1.4 * hypot(self.width, self.height)

    def project(self, pose: Pose, depth: float) -> Matrix:
        """The 3x3 homography from rest coordinates of the plane at `depth` to pixels of the frame."""
        cx, cy, d = self.width / 2, self.height / 2, self.distance
        k = (1 + depth) / d
        onto = np.array([[k, 0, -k * cx - pose.x], [0, k, -k * cy - pose.y], [0, 0, 1 + depth - pose.z]])
        c, s = cos(pose.yaw), sin(pose.yaw)
        yaw = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        c, s = cos(pose.pitch), sin(pose.pitch)
        pitch = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
        c, s = cos(pose.roll), sin(pose.roll)
        roll = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        film = np.array([[d * pose.zoom, 0, cx], [0, d * pose.zoom, cy], [0, 0, 1]])
        seen: Matrix = film @ roll @ pitch @ yaw @ onto
        return seen

    def corners(self) -> Floats:
        """The frame's corners, (4, 2)."""
        w, h = self.width, self.height
        return np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)


def inverse(homography: Matrix) -> Matrix:
    """From pixels of the frame back to rest coordinates."""
    return np.asarray(np.linalg.inv(homography), np.float64)


def carry(homography: Matrix, points: Floats) -> Floats:
    """`points` (..., 2) through `homography`."""
    flat = points.reshape(-1, 1, 2).astype(np.float32)
    return np.asarray(cv2.perspectiveTransform(flat, homography), np.float32).reshape(points.shape)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the frame, in whole pixels, and its grid: one point every GRID pixels and one cell around it."""

    x: int
    y: int
    width: int
    height: int

    def grid(self) -> Floats:
        """The grid's points in frame pixels, (rows, columns, 2)."""
        columns, rows = -(-self.width // GRID) + 2, -(-self.height // GRID) + 2
        xs = self.x + (np.arange(columns, dtype=np.float32) - 0.5) * GRID - 0.5
        ys = self.y + (np.arange(rows, dtype=np.float32) - 0.5) * GRID - 0.5
        return np.stack(np.meshgrid(xs, ys), axis=-1)

    def spread(self, values: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32] | NDArray[np.uint8]:
        """Values at the grid's points, at every pixel of the window; the cell around it makes its edge exact."""
        rows, columns = values.shape[:2]
        full = cv2.resize(values, (columns * GRID, rows * GRID), interpolation=cv2.INTER_LINEAR)
        return full[GRID : GRID + self.height, GRID : GRID + self.width]  # type: ignore[return-value]

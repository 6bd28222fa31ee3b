"""What is in the air: snow, rain, dust, sparkles, embers, fog and shafts of light.

Knows particles and time; not the subjects. Every particle's place is a function of the seed and the moment alone, so
any frame can be drawn by itself. Particles are drawn small and soft on a reduced field and added as light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mutoscope.engines import Pixels
from mutoscope.engines.animatic.direction import Weather
from mutoscope.engines.animatic.filming.lens import Floats, Lens, Pose

_SHRINK: Final = 2  # the field particles are drawn on is this many times smaller than the frame
_FRACTION: Final = 5  # bits after the point in what OpenCV draws: a 32nd of a pixel, so slow things do not step


@dataclass(frozen=True, slots=True)
class Kind:
    """How one sort of particle looks and moves. Lengths are shares of the frame's shorter side, speeds per second."""

    count: int
    size: tuple[float, float]
    fall: tuple[float, float]
    drift: tuple[float, float]
    sway: float
    twinkle: float
    light: tuple[float, float]
    colour: tuple[float, float, float]
    streak: float = 0.0  # seconds of its own motion that a particle smears over
    blur: float = 0.8


_KINDS: Final[dict[str, Kind]] = {
    "snow": Kind(
        190, (0.0010, 0.0036), (0.10, 0.26), (-0.05, 0.05), 0.018, 0.0, (0.22, 0.80), (1.0, 1.0, 1.0), blur=1.2
    ),
    "rain": Kind(
        230, (0.0006, 0.0011), (1.7, 2.5), (-0.22, -0.12), 0.0, 0.0, (0.10, 0.26), (0.86, 0.92, 1.0), 0.030, 0.6
    ),
    "dust": Kind(90, (0.0018, 0.0042), (-0.018, 0.012), (-0.02, 0.03), 0.014, 0.7, (0.12, 0.42), (1.0, 0.93, 0.80)),
    "sparkles": Kind(70, (0.0022, 0.0048), (-0.035, 0.0), (-0.015, 0.015), 0.010, 1.0, (0.5, 1.0), (1.0, 0.92, 0.72)),
    "embers": Kind(
        80, (0.0026, 0.0058), (-0.26, -0.10), (-0.05, 0.06), 0.022, 0.45, (0.8, 1.0), (1.0, 0.52, 0.17), 0.025, 0.9
    ),
}
_PALE: Final = 0.88  # how light fog is
_NEAR: Final = 0.075  # share of the particles that drift close to the lens, large and out of focus


@dataclass(frozen=True, slots=True)
class Swarm:
    """The particles of one sort: an array of `count` for each of their traits."""

    kind: Kind
    traits: NDArray[np.float64]  # (10, count), uniform in 0 to 1
    behind: NDArray[np.bool_]  # those that pass behind the subject
    near: NDArray[np.bool_]

    @classmethod
    def of(cls, kind: Kind, seed: int, index: int) -> Swarm:
        rng = np.random.default_rng([seed, 23, index])
        traits = rng.uniform(0, 1, (10, kind.count))
        return cls(kind, traits, traits[8] < 0.4, (traits[9] < _NEAR) & (traits[8] >= 0.4))


class Air:
    """All that is in the air of one shot, drawn a moment at a time."""

    def __init__(
        self, sorts: Sequence[Weather], rays: float, side: float, lens: Lens, seconds: float, seed: int
    ) -> None:
        self._lens, self._seconds, self._side, self._rays = lens, seconds, side, rays
        self._swarms = [Swarm.of(_KINDS[sort], seed, index) for index, sort in enumerate(sorts) if sort in _KINDS]
        size = (-(-lens.height // _SHRINK), -(-lens.width // _SHRINK))
        self._field: Pixels = np.zeros(size, np.uint8)
        self._bank = _clouds(seed) if "fog" in sorts else None
        self._beams = _clouds(seed + 1)[0] if rays else None

    def behind(self, canvas: Pixels, time: float, pose: Pose) -> None:
        """Draw what is behind the subjects over `canvas` (h, w, 4), in place."""
        if self._beams is not None:
            self._shine(canvas, time)
        if self._bank is not None:
            self._veil(canvas, time, pose, 0, 0.40)
        self._scatter(canvas, time, pose, behind=True)

    def before(self, canvas: Pixels, time: float, pose: Pose) -> None:
        """Draw what is between the subjects and the lens."""
        if self._bank is not None:
            self._veil(canvas, time, pose, 1, 0.20)
        self._scatter(canvas, time, pose, behind=False)

    def _scatter(self, canvas: Pixels, time: float, pose: Pose, *, behind: bool) -> None:
        for swarm in self._swarms:
            field = self._field
            field[:] = 0
            part = swarm.behind if behind else ~swarm.behind
            self._draw(swarm, part & ~swarm.near, time, pose, 1.0 if behind else 1.35)
            cv2.GaussianBlur(field, (0, 0), swarm.kind.blur, dst=field)
            if not behind and swarm.near.any():
                self._draw(swarm, swarm.near, time, pose, 6.5)
            _add_light(canvas, field, swarm.kind.colour)

    def _draw(self, swarm: Swarm, part: NDArray[np.bool_], time: float, pose: Pose, closeness: float) -> None:
        kind, t = swarm.kind, time * self._seconds
        trait = swarm.traits[:, part]
        width, height = self._field.shape[1], self._field.shape[0]
        unit = min(width, height)
        blurred = closeness > 3
        speed = 1.6 if blurred else closeness
        fall = (kind.fall[0] + (kind.fall[1] - kind.fall[0]) * trait[0]) * unit * speed
        drift = (kind.drift[0] + (kind.drift[1] - kind.drift[0]) * trait[1]) * unit * speed
        size = (kind.size[0] + (kind.size[1] - kind.size[0]) * trait[2] ** 2) * unit * closeness
        light = kind.light[0] + (kind.light[1] - kind.light[0]) * trait[3]
        sway = kind.sway * unit * speed * np.sin(2 * pi * (0.15 + 0.35 * trait[4]) * t + 2 * pi * trait[5])
        # The air moves against the camera, as everything near does.
        shift_x = -(pose.x + pose.yaw) * self._lens.distance / _SHRINK
        shift_y = -(pose.y - pose.pitch) * self._lens.distance / _SHRINK
        border = 0.08 * unit
        x = (trait[6] * (width + 2 * border) + drift * t + sway + shift_x) % (width + 2 * border) - border
        y = (trait[7] * (height + 2 * border) + fall * t + shift_y) % (height + 2 * border) - border
        if kind.twinkle:
            wave = 0.5 + 0.5 * np.sin(2 * pi * (0.2 + 0.6 * trait[4]) * t + 2 * pi * trait[3] * 7)
            light = light * (1 - kind.twinkle + kind.twinkle * wave**3)
        if blurred:
            light = light * 0.13
        one = 1 << _FRACTION
        for index in range(trait.shape[1]):
            shine = float(light[index] * 255)
            at = (round(x[index] * one), round(y[index] * one))
            if kind.streak:
                to = (
                    round((x[index] - drift[index] * kind.streak) * one),
                    round((y[index] - fall[index] * kind.streak) * one),
                )
                thick = max(1, round(1.4 * size[index]))
                cv2.line(self._field, at, to, shine, thick, cv2.LINE_AA, _FRACTION)
            else:
                cv2.circle(self._field, at, round(size[index] * one), shine, -1, cv2.LINE_AA, _FRACTION)

    def _veil(self, canvas: Pixels, time: float, pose: Pose, bank: int, amount: float) -> None:
        """A bank of fog, thicker below, drifting; laid over as pale light that also hides."""
        assert self._bank is not None
        rows, columns = 45, 80
        t = time * self._seconds
        ys, xs = np.mgrid[0:rows, 0:columns].astype(np.float32)
        speed = (5.0, -8.0)[bank] * self._side
        shift = (pose.x + pose.yaw) * self._lens.distance / 16
        at_x = np.asarray((xs * (1.5 - 0.5 * bank) + speed * t + shift) % 256, np.float32)
        at_y = np.asarray((ys * (2.2 - 0.7 * bank) + 40 * bank) % 256, np.float32)
        cloud = cv2.remap(self._bank[bank], at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        thick = np.clip(cloud * amount * (0.35 + 0.95 * ys / rows), 0, 0.8)
        size = (canvas.shape[1], canvas.shape[0])
        kept = cv2.resize(np.rint(255 * (1 - thick)).astype(np.uint8), size)
        cv2.multiply(canvas, cv2.cvtColor(kept, cv2.COLOR_GRAY2BGRA), dst=canvas, scale=1 / 255)
        _add_light(canvas, np.rint(255 * _PALE * thick).astype(np.uint8), (1.0, 1.0, 1.0))

    def _shine(self, canvas: Pixels, time: float) -> None:
        """Shafts from above the frame on the key's side, breathing slowly."""
        assert self._beams is not None
        rows, columns = 90, 160
        ys, xs = np.mgrid[0:rows, 0:columns].astype(np.float32)
        from_x = columns * (0.5 + 0.55 * self._side)
        angle = np.arctan2(xs - from_x, ys + 0.45 * rows)
        far = np.hypot((xs - from_x) / columns, (ys + 0.45 * rows) / rows)
        at = np.asarray((angle * 60 + 64) % 256, np.float32)
        moving = np.full_like(at, (time * self._seconds * 3) % 256)
        beams = cv2.remap(self._beams, at, moving, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        light = np.clip(beams - 0.42, 0, 1) * np.clip(1.55 - far, 0, 1) * 0.85 * self._rays
        _add_light(canvas, np.clip(255 * light, 0, 255).astype(np.uint8), (1.0, 0.93, 0.78))


def _add_light(canvas: Pixels, field: Pixels, colour: tuple[float, float, float]) -> None:
    """Add a (rows, columns) field of light of one colour to `canvas` (h, w, 4), in place."""
    size = (canvas.shape[1], canvas.shape[0])
    if min(colour) == 1.0:
        full = cv2.cvtColor(cv2.resize(field, size), cv2.COLOR_GRAY2BGRA)
    else:
        full = cv2.resize(cv2.transform(field, np.array([[*colour, 0.0]], np.float32).T), size)
    cv2.add(canvas, full, dst=canvas)


def _clouds(seed: int) -> tuple[Floats, Floats]:
    """Two tiles, (256, 256), 0 to 1, of cloud that repeats without a seam."""
    tiles: list[Floats] = []
    for index in range(2):
        rng = np.random.default_rng([seed & 0xFFFFFFFFFFFF, 31, index])
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256) * 256, np.fft.fftfreq(256) * 256))
        spectrum = np.fft.fft2(rng.normal(size=(256, 256))) / np.maximum(frequency, 2.0) ** 1.75
        cloud = np.real(np.fft.ifft2(spectrum))
        cloud = (cloud - cloud.min()) / (cloud.max() - cloud.min())
        tiles.append(cloud.astype(np.float32))
    return tiles[0], tiles[1]

"""The camera's path: the moves a direction states, as poses over the time of a shot.

Knows the moves and how they ease; not what stands before the camera, nor where (`framing` may ask for less of a move).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi, sin
from typing import Final

import numpy as np

from mutoscope.engines.animatic.direction import Moves
from mutoscope.engines.animatic.filming.lens import Lens, Pose

RAMP: Final = 0.22  # of the time, at each end, spent getting under way and coming to rest

# What a whole, ordinary move amounts to in five seconds.
_PUSH: Final = 0.15  # of the distance to the subject: it grows by 1 / (1 - 0.15), about 18 %
_ZOOM: Final = 0.18  # of the focal length
_PAN: Final = 0.17  # of the frame's width
_TILT: Final = 0.16  # of the frame's height
_TRUCK: Final = 0.11  # of the frame's width, at the subject
_CRANE: Final = 0.13  # of the frame's height, at the subject
_ORBIT: Final = 0.27  # radians from end to end, about 15 degrees
_ROLL: Final = 0.075  # radians
_HANDHELD: Final = 0.0045  # of the distance to the subject


@dataclass(frozen=True, slots=True)
class Path:
    """Poses over time 0 to 1.

    `seconds` is how long that takes; `aim`, in rest pixels from the frame's middle, is the point that a push or a zoom
    leaves where it is; `shake` holds handheld's phases.
    """

    lens: Lens
    moves: Moves
    seconds: float
    aim: tuple[float, float] = (0.0, 0.0)
    shake: tuple[float, ...] = ()

    def at(self, time: float) -> Pose:
        """The pose at `time` 0 to 1. Sideways moves are symmetric about rest; push and zoom open or end at rest."""
        moves, lens = self.moves, self.lens
        done = _eased(time)
        across = done - 0.5  # -0.5 to 0.5
        reach = (self.seconds / 5) ** 0.5 if self.seconds < 5 else min(1.25, (self.seconds / 5) ** 0.3)
        d = lens.distance
        z = _one_way(moves.push, done) * reach * _PUSH
        zoom = 1 + _one_way(moves.zoom, done) * reach * _ZOOM
        aim_x, aim_y = self.aim[0] / d, self.aim[1] / d
        pose = Pose(
            x=moves.truck * reach * across * _TRUCK * lens.width / d + aim_x * z,
            y=-moves.crane * reach * across * _CRANE * lens.height / d + aim_y * z,
            z=z,
            yaw=moves.pan * reach * across * _PAN * lens.width / d + aim_x * (1 - 1 / zoom),
            # A crane keeps its subject in view: nearly half of its travel is looked back at.
            pitch=(moves.tilt * _TILT - 0.45 * moves.crane * _CRANE) * reach * across * lens.height / d
            - aim_y * (1 - 1 / zoom),
            roll=moves.roll * reach * across * _ROLL,
            zoom=zoom,
        )
        if moves.orbit:
            turn = moves.orbit * min(reach, 1.15) * across * _ORBIT
            # Around the point that the camera looks at, one distance ahead.
            pose = replace(pose, x=pose.x + sin(turn), z=pose.z + 1 - float(np.cos(turn)), yaw=pose.yaw - turn)
        return self._shaken(pose, time)

    def _shaken(self, pose: Pose, time: float) -> Pose:
        if not self.shake or not self.moves.handheld:
            return pose
        amount, now = self.moves.handheld * _HANDHELD, time * self.seconds
        sway = [
            sum(sin(2 * pi * rate * now + phase) / (1 + rate) for rate, phase in zip(rates, phases, strict=True))
            for rates, phases in zip(_RATES, np.reshape(self.shake, (5, 3)), strict=True)
        ]
        return replace(
            pose,
            x=pose.x + amount * sway[0],
            y=pose.y + amount * sway[1],
            yaw=pose.yaw + 0.8 * amount * sway[2],
            pitch=pose.pitch + 0.8 * amount * sway[3],
            roll=pose.roll + 0.8 * amount * sway[4],
        )


# Breath, stance and pulse, in hertz: never multiples of one another, so that the sway does not repeat.
_RATES: Final = ((0.31, 0.73, 1.9), (0.37, 0.91, 2.2), (0.23, 0.67, 1.6), (0.29, 0.83, 1.7), (0.19, 0.53, 1.1))


def lay_path(lens: Lens, moves: Moves, seconds: float, seed: int, aim: tuple[float, float] = (0.0, 0.0)) -> Path:
    """The path of `moves`, `seconds` long. `seed` gives handheld its own hand."""
    shake = np.random.default_rng([seed, 11]).uniform(0, 2 * pi, 15) if moves.handheld else ()
    return Path(lens, moves, seconds, aim, tuple(float(phase) for phase in shake))


def lessened(path: Path, by: float) -> Path:
    """The same path with every move `by` (0 to 1) as large."""
    moves = path.moves
    names = ("push", "zoom", "pan", "tilt", "truck", "crane", "orbit", "roll", "handheld")
    return replace(path, moves=Moves(**{name: getattr(moves, name) * by for name in names}))


def closest(path: Path) -> float:
    """The largest magnification of the subject plane along `path`."""
    poses = [path.at(moment / 12) for moment in range(13)]
    return max(pose.zoom / (1 - pose.z) for pose in poses)


def _one_way(amount: float, done: float) -> float:
    """In: from rest to `amount`; out: from `amount` back to rest. Never wider than rest, which is what is composed."""
    return amount * done if amount >= 0 else -amount * (1 - done)


def _eased(time: float) -> float:
    """Distance covered at `time`: speed rises smoothly over the first RAMP, holds, and falls over the last."""

    def ramp(x: float) -> float:  # the integral of smoothstep
        x = min(max(x, 0.0), 1.0)
        return x * x * x - x * x * x * x / 2

    held = min(max(time, RAMP), 1 - RAMP) - RAMP
    whole = RAMP * ramp(1) * 2 + (1 - 2 * RAMP)
    out = ramp(1) - ramp((1 - time) / RAMP) if time > 1 - RAMP else 0.0
    return float((RAMP * ramp(time / RAMP) + held + RAMP * out) / whole)

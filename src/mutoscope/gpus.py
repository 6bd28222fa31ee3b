"""The GPUs of this machine, and which of them each worker sees. Loads no torch here; knows no engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from mutoscope.config import SettingsError

VARIABLE = "CUDA_VISIBLE_DEVICES"

_COUNT = "import torch; print(torch.cuda.device_count())"
_COUNT_SECONDS = 120


def visible_gpus() -> list[str]:
    """The GPUs that a process started from here would see, as CUDA_VISIBLE_DEVICES names them. None: an empty list."""
    done = subprocess.run(  # noqa: S603 - our own words; in another process, which takes the driver's memory with it
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, timeout=_COUNT_SECONDS, check=False
    )
    return named_gpus(int(done.stdout) if done.returncode == 0 else 0, os.environ.get(VARIABLE))


def named_gpus(count: int, variable: str | None) -> list[str]:
    """The names of the first `count` GPUs: those that the operator's variable lists, or else their numbers."""
    names = [str(number) for number in range(count)] if variable is None else variable.split(",")
    return [name.strip() for name in names[:count]]


def divide(gpus: Sequence[str], per_video: int) -> list[list[str]]:
    """Groups of `per_video` GPUs, neighbours together; what is left over is in none.

    Raises SettingsError when there are too few for one group.
    """
    if len(gpus) < per_video:
        raise SettingsError(f"{per_video} GPUs are to render each video together, and there are {len(gpus)} here.")
    return [list(gpus[start : start + per_video]) for start in range(0, len(gpus) - per_video + 1, per_video)]

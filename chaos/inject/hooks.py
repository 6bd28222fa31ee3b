"""Modules of the product are changed right after they were imported, before anybody else has seen them.

A whole animatic costs a second of processor time, so 50 a second can't be rendered: here the engine is tiny, and videos
are 64 pixels wide. All else (API, rows, leases, references, encoder, files, money) is as it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

SIDE = 64


def install() -> None:
    """Watch imports from now on."""
    sys.meta_path.insert(0, _Finder())


def _use_tiny_engine(module: ModuleType) -> None:
    real = module.open_engine

    def open_engine(name: str, settings: Any) -> Any:
        if name != "animatic":
            return real(name, settings)
        from chaos.inject.tiny import Tiny

        return Tiny()

    module.open_engine = open_engine  # type: ignore[attr-defined]


def _shrink(module: ModuleType) -> None:
    for shapes in module.SIZES.values():
        shapes.update(dict.fromkeys(shapes, (SIDE, SIDE)))


AFTER: dict[str, Callable[[ModuleType], None]] = {
    "mutoscope.opening": _use_tiny_engine,
    "mutoscope.tasks": _shrink,
}


if "CHAOS_POINTS" in os.environ:
    from chaos.inject import points

    AFTER |= {point.module: points.wrap for point in points.POINTS}
    AFTER["mutoscope.database"] = points.watch_commits


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, AFTER[name])
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, after: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._after = after

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._after(module)

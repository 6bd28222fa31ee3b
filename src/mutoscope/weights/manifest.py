"""What a folder of weights is, written beside them: source, revision, licence, and each file's digest there and here.

The file is JSON but is not called so, because a checkpoint's own settings are its .json files, and this is not of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mutoscope.weights.errors import WeightsError

NAME = "mutoscope.manifest"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Licence:
    """The terms under which weights are given: what they are called, and where they can be read."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: `digest` and `source_bytes` as the source has it, `sha256` and `num_bytes` as it lies here.

    `converted` says in words how the two differ; empty when they don't. Where the source stated no digest, `digest` is
    the sha256 of what came.
    """

    digest: str
    source_bytes: int
    sha256: str
    num_bytes: int
    converted: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of one folder. Times are ISO 8601, UTC."""

    source: str
    revision: str
    licence: Licence
    accepted_at: str
    updated_at: str
    complete: bool
    files: dict[str, Kept] = field(default_factory=dict)

    def with_file(self, path: str, kept: Kept) -> Manifest:
        """The same, and this file."""
        return replace(self, files={**self.files, path: kept})


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None when it has none. Raises WeightsError for one that can't be read."""
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WeightsError(f"{path} is damaged; remove it and pull again.") from error
    try:
        if found.pop("format") != _FORMAT:
            raise WeightsError(f"{path} was written by another version of Mutoscope; remove it and pull again.")
        found["licence"] = Licence(**found["licence"])
        found["files"] = {name: Kept(**entry) for name, entry in found["files"].items()}
        return Manifest(**found)
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged; remove it and pull again.") from error


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into its folder, whole or not at all."""
    path = folder / NAME
    part = path.with_name(f".{NAME}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, **asdict(manifest)}, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

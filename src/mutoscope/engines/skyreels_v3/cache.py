"""What a prompt and a picture became, kept so that it is not computed again: embeddings, and posteriors without a draw.

Exact: an entry is found by all that its bytes depend on, and by whose it is, so that one caller's never serves another.
Kept in memory and in a folder that several processes may share; the least recently used go first. Knows no request.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from mutoscope.engines import Pixels
from mutoscope.engines.skyreels_v3.conditioning import Posterior
from mutoscope.engines.skyreels_v3.pipeline import Rules
from mutoscope.engines.skyreels_v3.spec import TEXT_TOKENS

_DIGEST_BYTES = 32

Tensors = Mapping[str, Tensor]


class Cache:
    """Tensors by key, in host memory and, where there is a `folder`, on disk; both bounded in bytes."""

    def __init__(self, folder: Path | None, folder_bytes: int, memory_bytes: int) -> None:
        self._folder = folder if folder_bytes else None
        self._folder_bytes = folder_bytes
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[str, Tensors] = OrderedDict()

    def get(self, key: str) -> Tensors | None:
        """The tensors of a key, in host memory; None where there are none, or the file is damaged."""
        found = self._memory.get(key) or self._read(key)
        if found is not None:
            self._remember(key, found)
            self._touch(key)
        return found

    def put(self, key: str, tensors: Tensors) -> None:
        """Keep copies. A disk that can't take them is no error: they are computed again."""
        contiguous = torch.contiguous_format
        copies = {name: tensor.cpu().clone(memory_format=contiguous) for name, tensor in tensors.items()}
        self._remember(key, copies)
        with suppress(OSError):
            self._write(key, copies)

    def _remember(self, key: str, tensors: Tensors) -> None:
        self._memory[key] = tensors
        self._memory.move_to_end(key)
        while self._memory and sum(map(_size, self._memory.values())) > self._memory_bytes:
            self._memory.popitem(last=False)

    def _read(self, key: str) -> Tensors | None:
        if self._folder is None:
            return None
        path = self._folder / key
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if data[:_DIGEST_BYTES] != _digest(key, data[_DIGEST_BYTES:]):
            with suppress(OSError):
                path.unlink()
            return None
        found: Tensors = load(data[_DIGEST_BYTES:])
        return found

    def _write(self, key: str, tensors: Tensors) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = save(dict(tensors))
        part = self._folder / f".{key}.{os.getpid()}"
        try:
            part.write_bytes(_digest(key, data) + data)
            part.replace(self._folder / key)  # whole or not at all; what a power cut leaves has another digest
        finally:
            part.unlink(missing_ok=True)
        self._make_room(self._folder)

    def _make_room(self, folder: Path) -> None:
        files = []
        for entry in os.scandir(folder):
            with suppress(FileNotFoundError):  # another process makes room, too
                files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
        taken = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if taken <= self._folder_bytes:
                return
            Path(path).unlink(missing_ok=True)
            taken -= size

    def _touch(self, key: str) -> None:
        if self._folder is not None:
            with suppress(OSError):
                os.utime(self._folder / key)


def key_of(*parts: str | bytes) -> str:
    """A name for these parts and no others."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def recalling(rules: Rules, cache: Cache, whose: Sequence[str], device: torch.device, counts: Counter[str]) -> Rules:
    """Rules that look into the cache before they read a prompt or encode a picture, and give the same either way.

    `whose` names the caller, and all that the numbers depend on besides prompt and picture. Hits and misses are added
    to `counts`. A prompt that is found never touches the text encoder.
    """

    def look(kind: str, content: bytes, compute: Callable[[], Tensors]) -> Tensors:
        key = key_of(*whose, kind, content)
        found = cache.get(key)
        counts[f"{kind}_{'misses' if found is None else 'hits'}"] += 1
        if found is None:
            found = compute()
            cache.put(key, found)
        return {name: tensor.to(device) for name, tensor in found.items()}

    def embed(encoder: Any, ids: Sequence[int]) -> Tensor:
        def compute() -> Tensors:
            return {"rows": rules.embed(encoder, ids)[:, : len(ids)]}

        rows = look("prompt", np.asarray(ids, "<i8").tobytes(), compute)["rows"]  # (1, ids, text_dim)
        return functional.pad(rows, (0, 0, 0, TEXT_TOKENS - rows.shape[1]))

    def encode(vae: Any, picture: Pixels) -> Posterior:
        def compute() -> Tensors:
            posterior = rules.encode(vae, picture)
            return {"mean": posterior.mean, "std": posterior.std}

        found = look("reference", f"{picture.shape}".encode() + picture.tobytes(), compute)
        return Posterior(found["mean"], found["std"])

    return replace(rules, embed=embed, encode=encode)


def _digest(key: str, data: bytes) -> bytes:
    return sha256(key.encode() + data).digest()


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())

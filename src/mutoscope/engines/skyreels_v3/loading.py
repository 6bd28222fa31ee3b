"""From weight files to a network: tensors are read through memory maps, file beside file, straight to where they lie.

So the host holds no more of a network than the tensors that are on their way, or, when it is to stay there in the
precision of its file, the file's own pages. Knows files and networks, but not which model it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

_FILES_AT_ONCE = 4


def files_in(folder: Path) -> list[Path]:
    """A folder's weight files, of which some may be missing: those that its index names, or else all there are."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        return sorted({folder / name for name in json.loads(index.read_text()).get("weight_map", {}).values()})
    return sorted(folder.glob("*.safetensors"))


def fill(
    network: nn.Module,
    folder: Path,
    device: torch.device,
    precision_of: Callable[[str], torch.dtype],
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Give a network on the meta device its tensors, on `device` and each in its precision.

    `aliases` are names in files and what the network calls them. Tensors of no file stay on the meta device.
    """
    names = aliases or {}

    def read(path: Path) -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            return {
                names.get(name, name): file.get_tensor(name).to(device=device, dtype=precision_of(name))
                for name in file.keys()  # noqa: SIM118 - no mapping
            }

    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="weights") as pool:
        for tensors in pool.map(read, files_in(folder)):
            network.load_state_dict(tensors, strict=False, assign=True)
    network.eval().requires_grad_(False)

"""From options to networks that are ready: loaded, placed as planned, with the device's attention kernel, in a crew.

Knows devices and what is free on them; no request and no picture.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from mutoscope.engines.skyreels_v3 import checkpoint
from mutoscope.engines.skyreels_v3.attention import PACKAGES, choose
from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.cost import Clip
from mutoscope.engines.skyreels_v3.crew import Crew
from mutoscope.engines.skyreels_v3.heap import return_what_is_freed
from mutoscope.engines.skyreels_v3.memory import Placement
from mutoscope.engines.skyreels_v3.offload import apply_placement
from mutoscope.engines.skyreels_v3.pipeline import Rules
from mutoscope.engines.skyreels_v3.placement import Plan, next_placement, plan_of, plan_placement
from mutoscope.engines.skyreels_v3.sampling import LoopRules
from mutoscope.engines.skyreels_v3.spec import REFERENCE_SLOTS, Options

LARGEST = Clip(1280, 720, 10, REFERENCE_SLOTS)
"""What a placement must have room for: the largest clip of the contract."""

_MEMINFO = Path("/proc/meminfo")
_HOST_SHARE = 0.8  # of the memory that is free on the host may be pinned


@dataclass(frozen=True)
class Built:
    """Networks ready to render, and how they came to be."""

    networks: Networks
    rules: Rules
    placement: Placement
    attention: str
    crew: Crew | None = None

    def close(self) -> None:
        """End the other processes, where there are any."""
        if self.crew is not None:
            self.crew.end()


def plan(options: Options, device: torch.device) -> Plan:
    """Where each part will lie. On a CPU everything is where it is; a pin is heeded all the same.

    Raises PlacementError when nothing fits, or what is pinned does not.
    """
    if device.type != "cuda":
        return plan_of(LARGEST, options.placement or "resident", options.gpus, options.placement is not None)
    free = min(torch.cuda.mem_get_info(rank)[0] for rank in range(options.gpus))
    return plan_placement(LARGEST, free, host_bytes(), options.gpus, options.placement)


def plan_after(failed: Plan, options: Options, device: torch.device) -> Plan | None:
    """What to try once when a plan ran out of memory; None when there is nothing that takes less."""
    return next_placement(failed, LARGEST, host_bytes() if device.type == "cuda" else None, options.gpus)


def build(options: Options, device: torch.device, chosen: Plan) -> Generator[str, None, Built]:
    """Load the networks and place them, yielding what is about to be done. With several GPUs, start the crew.

    Raises CheckpointError for another model, ValueError for an attention kernel that can't be had.
    """
    if device.type == "cpu":
        return_what_is_freed()
    attention = attention_of(options, device)
    crew = Crew(options.gpus, partial(_build_rank, options, chosen.placement)) if options.gpus > 1 else None
    try:
        networks = yield from _load(options, device, chosen.placement, attention)
        if crew is None:
            return Built(networks, Rules(), chosen.placement, attention)
        yield "joining the other GPUs"
        crew.join(networks)
    except BaseException:
        if crew is not None:
            crew.end()
        raise
    rules = Rules(loop=LoopRules(predict=crew.predict), decode=crew.decode)
    return Built(networks, rules, chosen.placement, attention, crew)


def device_of(options: Options, rank: int = 0) -> torch.device:
    """The device of a rank: the one asked for, or else the accelerator, or else the CPU."""
    if options.device and options.gpus == 1:
        return torch.device(options.device)
    kind = torch.device(options.device).type if options.device else _accelerator()
    return torch.device(kind, rank) if kind == "cuda" else torch.device(kind)


def name_of(device: torch.device) -> str:
    """What computes: two devices of one name round alike."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def host_bytes() -> int:
    """Memory of this machine that may be pinned: pages of files that were read, as weights are, can be had back."""
    found = re.search(r"MemAvailable: +(\d+) kB", _MEMINFO.read_text()) if _MEMINFO.exists() else None
    free = int(found[1]) * 1024 if found else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(free * _HOST_SHARE)


def _build_rank(options: Options, placement: Placement, rank: int) -> Networks:
    """A follower's networks: the text is read by the leader alone."""
    device = device_of(options, rank)
    work = _load(options, device, placement, attention_of(options, device), has_text_encoder=False)
    while True:
        try:
            next(work)
        except StopIteration as end:
            networks: Networks = end.value
            return networks


def _load(
    options: Options, device: torch.device, placement: Placement, attention: str, has_text_encoder: bool = True
) -> Generator[str, None, Networks]:
    # Resident networks go to the device part by part; any other placement starts from host memory.
    start = device if placement == "resident" else torch.device("cpu")
    networks = yield from checkpoint.load(
        options.checkpoint, options.precision, options.mode, start, options.compiled, has_text_encoder
    )
    if placement != "resident":
        yield "placing the weights"
        networks = apply_placement(networks, placement, device)
    networks.transformer.set_attention_backend(attention)
    return networks


def check_compiler(options: Options, device: torch.device) -> None:
    """Raises ValueError when blocks are to be compiled, and what compiles for the device is not there."""
    if not options.compiled:
        return
    if device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise ValueError("compiled is True, which needs a C++ compiler on a CPU, and there is neither g++ nor clang++.")
    if device.type == "cuda" and find_spec("triton") is None:
        raise ValueError("compiled is True, which needs the package triton on a GPU, and it is not installed.")


def attention_of(options: Options, device: torch.device) -> str:
    """The name of the attention kernel for a device. Raises ValueError for one that can't be had."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    packages = [name for name in PACKAGES if find_spec(name) is not None]
    return choose(capability, packages, options.precision == "bfloat16", options.attention).name


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator()
    return str(found) if found is not None and torch.accelerator.is_available() else "cpu"

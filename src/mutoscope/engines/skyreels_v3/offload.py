"""Carries a placement out: weights to the device, weights that visit it, weights rounded to a byte.

Blocks stream in from pinned host memory on a stream of their own, each while the one before computes, into two sets of
buffers: what lies on the device does not depend on the allocator. diffusers' group offloading has the same idea, but
hangs it on the network's own forward, which this engine does not call. Knows networks, but no clip and no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.memory import Placement


def apply_placement(networks: Networks, placement: Placement, device: torch.device) -> Networks:
    """The networks, loaded into host memory, placed for `device`. The old ones are no longer of use.

    Once for each load: another placement needs the networks loaded again. Raises ImportError where rounding is asked
    for without torchao.
    """
    networks.vae.to(device)
    if networks.text_encoder is not None:
        if placement == "resident":
            networks.text_encoder.to(device)
        else:
            Visitors([networks.text_encoder], device)
    if placement == "blocks offloaded":
        _stream_blocks(networks.transformer, device)
    else:
        if placement in ("int8 weights", "fp8 weights"):
            _round(networks.transformer.blocks, placement, device)
        networks.transformer.to(device)
    return replace(networks, device=device)


class Visitors:
    """Modules whose large weights are on the device only while they compute, called one after another.

    The weights of linear layers and tables visit; norms and the like stay there. Two modules' weights are there at
    once, the second's on its way. `keep_away` are submodules that someone else looks after.
    """

    # Parameters of every mode get these tensors, so that none may be an inference tensor.
    @torch.inference_mode(False)
    def __init__(self, modules: Sequence[nn.Module], device: torch.device, keep_away: Sequence[nn.Module] = ()) -> None:
        """Raises ValueError when the modules' weights differ in shape."""
        self._device = device
        self._stream = None if device.type == "cpu" else torch.Stream(device)
        others = {id(parameter) for module in keep_away for parameter in module.parameters()}
        self._weights = [[each for each in _large(module) if id(each) not in others] for module in modules]
        if len({tuple(weight.shape for weight in weights) for weights in self._weights}) > 1:
            raise ValueError("the modules that visit are not alike")
        visiting = others | {id(weight) for weights in self._weights for weight in weights}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                if id(tensor) not in visiting:
                    tensor.data = tensor.data.to(device)
        for weights in self._weights:
            for weight in weights:
                weight.data = weight.data.cpu() if self._stream is None else weight.data.cpu().pin_memory()
        self._home = [[weight.data for weight in weights] for weights in self._weights]
        self._rooms: list[_Room] = []
        for number, module in enumerate(modules):
            module.register_forward_pre_hook(self._arrive(number), with_kwargs=True)
            module.register_forward_hook(self._leave(number), always_call=True)

    @property
    def num_bytes(self) -> int:
        """On the device now."""
        return sum(tensor.nbytes for room in self._rooms for tensor in room.tensors)

    def _arrive(self, number: int) -> Any:
        @torch.inference_mode(False)
        def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            self._fetch(number)
            room = self._rooms[number % 2]
            if room.arrived is not None:
                torch.accelerator.current_stream(self._device).wait_event(room.arrived)
            for weight, tensor in zip(self._weights[number], room.tensors, strict=True):
                weight.data = tensor
            if number + 1 < len(self._weights):
                self._fetch(number + 1)
            return tuple(self._here(each) for each in given), {key: self._here(each) for key, each in named.items()}

        return hook

    def _leave(self, number: int) -> Any:
        @torch.inference_mode(False)
        def hook(module: nn.Module, given: Any, found: Any) -> None:
            for weight, home in zip(self._weights[number], self._home[number], strict=True):
                weight.data = home
            if self._rooms:
                self._rooms[number % 2].leave(self._device)
            if number + 1 == len(self._weights):
                self._rooms = []

        return hook

    def _fetch(self, number: int) -> None:
        if not self._rooms:
            self._rooms = [_Room() for _ in range(min(2, len(self._weights)))]
        self._rooms[number % 2].take(number, self._home[number], self._device, self._stream)

    def _here(self, given: Any) -> Any:
        return given.to(self._device) if isinstance(given, Tensor) else given


class _Room:
    """Buffers for one module's weights."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.arrived: Any = None
        self._left: Any = None
        self._guest: int | None = None

    def take(self, guest: int, weights: Sequence[Tensor], device: torch.device, stream: Any) -> None:
        if self._guest == guest:
            return
        self._guest = guest
        if not self.tensors:
            self.tensors = [torch.empty_like(weight, device=device) for weight in weights]
            if stream is not None:
                stream.wait_stream(torch.accelerator.current_stream(device))  # their memory may still be in use
        if stream is not None and self._left is not None:
            stream.wait_event(self._left)
        with torch.no_grad(), nullcontext() if stream is None else stream:
            for tensor, weight in zip(self.tensors, weights, strict=True):
                tensor.copy_(weight, non_blocking=True)
        if stream is not None:
            self.arrived = stream.record_event()

    def leave(self, device: torch.device) -> None:
        self._guest = None
        if device.type != "cpu":
            self._left = torch.accelerator.current_stream(device).record_event()


def _stream_blocks(transformer: Any, device: torch.device) -> None:
    """The transformer's blocks visit; what is around them stays. The text's projections visit on their own.

    They are called once a prompt, for the keys and values that are the same at every step.
    """
    blocks = list(transformer.blocks)
    projections = [each for block in blocks for each in (block.attn2.to_k, block.attn2.to_v)]
    for projection in projections:
        Visitors([projection], device)
    Visitors(blocks, device, keep_away=projections)
    for name, child in transformer.named_children():
        if name != "blocks":
            child.to(device)
    transformer.scale_shift_table.data = transformer.scale_shift_table.data.to(device)


def _round(blocks: Sequence[nn.Module], placement: Placement, device: torch.device) -> None:
    """Round the blocks' large matrices to a byte a weight, with a scale for each row (torchao), block by block."""
    torchao: Any = import_module("torchao.quantization")
    config = torchao.Int8WeightOnlyConfig if placement == "int8 weights" else torchao.Float8WeightOnlyConfig
    for block in blocks:
        torchao.quantize_(block.to(device), config(set_inductor_config=False))


def _large(module: nn.Module) -> Iterator[nn.Parameter]:
    seen: set[int] = set()
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            for parameter in part.parameters(recurse=False):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

"""Several processes, one device each, that render one video together: this one leads, the others follow.

The leader runs the pipeline as it would alone; a crew gives it `predict` and `decode` that have the others take part.
Followers know no prompt, schedule or task: they load the network, and do the pass or the decode that they are told to,
block by block, as long as they are told to go on. So a pass can be left at each block, with nobody in the middle of a
trade. When a rank fails or dies, the rest are ended at once, and the leader raises RankFailed. Followers end with their
leader, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mutoscope.engines.skyreels_v3.checkpoint import Networks
from mutoscope.engines.skyreels_v3.decoding import decode
from mutoscope.engines.skyreels_v3.numerics import TextKeys, rotary_angles
from mutoscope.engines.skyreels_v3.parallel import SharedNetwork, Shares
from mutoscope.engines.skyreels_v3.relay import Relay
from mutoscope.engines.skyreels_v3.sampling import predict

_HOST = "127.0.0.1"
_LOAD_SECONDS = 1800.0  # until the slowest rank has its weights
_TRADE = timedelta(minutes=10)  # a trade that takes longer is stuck
_BLAME_SECONDS = 3.0  # for the rank that failed to be found out
_LEAVE_SECONDS = 5.0  # for the others to end by themselves
_TEXTS = 2  # prompts kept by followers: with and without guidance

Build = Callable[[int], Networks]
"""Makes a rank's networks, on its own device, as the leader's are. Followers need no text encoder."""

Blank = tuple[tuple[int, ...], torch.dtype]
"""A tensor to come: its shape and type."""


class RankFailed(RuntimeError):
    """Another rank failed, or died; it says which and how. The crew is over."""


@dataclass(frozen=True, slots=True)
class _Predict:
    latents: Blank
    timestep: Blank
    text: int
    keys: list[tuple[Blank, Blank]] | None  # of a text that followers don't have yet


@dataclass(frozen=True, slots=True)
class _Decode:
    latents: Blank


_GO, _STOP = "go", "stop"
Order = _Predict | _Decode | str


class Crew:
    """`size` ranks, this process being rank 0. Making it starts the others, which load while this one does."""

    def __init__(self, size: int, build: Build) -> None:
        """`build` is pickled for the followers. Raises ValueError for fewer than 2 ranks."""
        if size < 2:
            raise ValueError(f"a crew of {size}: several devices are 2 or more")
        self.size = size
        self._failure = ""
        self._has_failed = threading.Event()
        self._watcher: threading.Thread | None = None
        self._is_under_way = False
        self.is_over = False
        self._texts: list[tuple[int, weakref.ref[Tensor]]] = []
        self._next_text = 0
        self._network: SharedNetwork | None = None
        self._relay: Relay | None = None
        self._store = _store(size, 0, is_master=True)
        context = multiprocessing.get_context("spawn")
        self._orders: list[Connection] = []
        self._reports: list[Connection] = []
        self.processes: list[Any] = []
        for rank in range(1, size):
            orders, self_orders = context.Pipe(duplex=False)
            self_reports, reports = context.Pipe(duplex=False)
            process = context.Process(
                target=_follow, args=(rank, size, self._store.port, build, orders, reports), daemon=True
            )
            process.start()
            orders.close()
            reports.close()
            self._orders.append(self_orders)
            self._reports.append(self_reports)
            self.processes.append(process)

    def join(self, networks: Networks) -> None:
        """Wait until every rank is ready. The networks' self-attention is shared from then on. Raises RankFailed."""
        try:
            for rank, (report, process) in enumerate(zip(self._reports, self.processes, strict=True), start=1):
                if not wait([report, process.sentinel], _LOAD_SECONDS):
                    raise RankFailed(f"{self._name(rank)} did not start within {_LOAD_SECONDS:.0f} s.")
                if found := _read(report):
                    raise RankFailed(f"{self._name(rank)} did not start: {found}.")
            _init_group(self._store, 0, self.size, networks.device)
            self._network = SharedNetwork(networks.transformer, networks.numerics, Shares(0, self.size))
            self._relay = Relay(networks.vae, 0, self.size)
        except BaseException:
            self.end()
            raise
        self._watcher = threading.Thread(target=self._watch, name="crew", daemon=True)
        self._watcher.start()

    def predict(
        self, network: Any, latents: Tensor, timestep: Tensor, text: Sequence[TextKeys], angles: Tensor
    ) -> Generator[float, None, Tensor]:
        """`sampling.predict` by all ranks together. `network` is the leader's own. Raises RankFailed."""
        number, is_new = self._number_of(text)
        blanks = [(_blank(key), _blank(value)) for key, value in text] if is_new else None
        with self._together():
            self._tell(_Predict(_blank(latents), _blank(timestep), number, blanks))
            _share([latents, timestep, *((part for keys in text for part in keys) if is_new else ())])
            work = predict(self._network, latents, timestep, text, angles)
            while True:
                try:
                    fraction = next(work)
                except StopIteration as end:
                    found: Tensor = end.value
                    return found
                try:
                    yield fraction
                except GeneratorExit:
                    self._tell(_STOP)
                    raise
                self._tell(_GO)

    def decode(self, vae: Any, latents: Tensor) -> Generator[Tensor]:
        """`decoding.decode` by all ranks together; `vae` is the leader's own. Raises RankFailed."""
        frames = latents.shape[2]
        self._texts.clear()
        with self._together():
            self._tell(_Decode(_blank(latents)))
            _share([latents])
            ahead = min(self.size, frames)  # that may be in the relay at once
            for _ in range(ahead):
                self._tell(_GO)
            work = decode(vae, latents, self._relay)
            for arrived in range(1, frames + 1):
                decoded = next(work)
                if arrived + ahead <= frames:
                    self._tell(_GO)
                try:
                    yield decoded
                except GeneratorExit:
                    # What the others were told to pass on must be taken before they can stop.
                    for _ in range(min(frames, arrived + ahead) - arrived):
                        next(work)
                    if arrived + ahead < frames:
                        self._tell(_STOP)
                    raise
                del decoded

    def end(self) -> None:
        """End the other processes and the group. Harmless when they have ended."""
        if self.is_over:
            return
        self.is_over = True
        for connection in self._orders:
            connection.close()  # which ends the others, where they listen
        if not self._has_failed.is_set() and not self._is_under_way:
            wait_until = time.monotonic() + _LEAVE_SECONDS
            for process in self.processes:
                process.join(max(0.0, wait_until - time.monotonic()))
        for process in self.processes:
            process.kill()
            process.join()
        if self._watcher is not None:
            self._watcher.join()
        for connection in self._reports:
            connection.close()
        if self._network is not None:
            with suppress(Exception):  # of a group whose other ends are gone
                dist.destroy_process_group()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """A piece of work with all ranks. Whatever goes wrong in it ends the crew; leaving it early does not."""
        if self._is_under_way:
            self.end()
            raise RankFailed("The video before was neither finished nor closed.")
        if self.is_over:
            raise RankFailed(self._failure or "The crew has ended.")
        self._is_under_way = True
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:
            is_theirs = self._has_failed.wait(_BLAME_SECONDS)
            self.end()
            if is_theirs:
                raise RankFailed(self._failure) from error
            raise
        finally:
            self._is_under_way = False

    def _tell(self, order: Order) -> None:
        for connection in self._orders:
            connection.send(order)

    def _number_of(self, text: Sequence[TextKeys]) -> tuple[int, bool]:
        """The number that followers know a text by, and whether they have yet to get it."""
        first = text[0][0]
        for number, known in self._texts:
            if known() is first:
                return number, False
        self._next_text += 1
        self._texts = [*self._texts, (self._next_text, weakref.ref(first))][-_TEXTS:]
        return self._next_text, True

    def _watch(self) -> None:
        """Until one of the others reports, which it does only when it fails, or ends."""
        ranks = {report: rank for rank, report in enumerate(self._reports, start=1)}
        failed = [found for found in wait([*ranks]) if isinstance(found, Connection)]
        if self.is_over:
            return
        rank = ranks[failed[0]]
        self._failure = f"{self._name(rank)} failed: {_read(failed[0])}."
        self._has_failed.set()
        for process in self.processes:  # which frees this one from a trade with them
            process.kill()
        group = dist.group.WORLD
        if group is not None and dist.get_backend() != "gloo":
            with suppress(Exception):
                group.abort()

    def _name(self, rank: int) -> str:
        return f"GPU {rank + 1} of the {self.size} that render one video together"


def _follow(rank: int, size: int, port: int, build: Build, orders: Connection, reports: Connection) -> None:
    """A follower's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader decides when it is over
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        networks = build(rank)
        reports.send("")
        _init_group(_store(size, port, is_master=False), rank, size, networks.device)
        with suppress(EOFError), torch.inference_mode():
            _obey(networks, Shares(rank, size), orders)
        dist.destroy_process_group()
        return
    except BaseException as error:
        traceback.print_exc()
        with suppress(OSError):
            reports.send(f"{type(error).__name__}: {error}")
    os._exit(1)  # with no regard for a trade that the others no longer take part in


def _obey(networks: Networks, shares: Shares, orders: Connection) -> None:
    network = SharedNetwork(networks.transformer, networks.numerics, shares)
    relay = Relay(networks.vae, shares.rank, shares.size)
    head_dim, device = networks.transformer.config.attention_head_dim, networks.device
    texts: dict[int, list[TextKeys]] = {}
    while True:
        match orders.recv():
            case _Predict(latents=blank, timestep=moment, text=number, keys=keys):
                latents, timestep = _empty(blank, device), _empty(moment, device)
                if keys is not None:
                    texts = dict([*texts.items()][1 - _TEXTS :])
                    texts[number] = [(_empty(key, device), _empty(value, device)) for key, value in keys]
                _share([latents, timestep, *((part for pair in texts[number] for part in pair) if keys else ())])
                _, _, frames, height, width = latents.shape
                angles = rotary_angles(
                    head_dim, (frames, height // 2, width // 2), networks.numerics.angles, networks.device
                )
                work: Generator[Any, None, Any] = predict(network, latents, timestep, texts[number], angles)
                while next(work, None) is not None:
                    if orders.recv() == _STOP:
                        break
                del work, latents, timestep, angles
            case _Decode(latents=blank):
                texts = {}
                latents = _empty(blank, device)
                _share([latents])
                work = decode(networks.vae, latents, relay)
                for _ in range(latents.shape[2]):
                    if orders.recv() == _STOP:
                        break
                    next(work)
                relay.settle()
                del work, latents


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _store(size: int, port: int, is_master: bool) -> Any:
    """Where ranks find each other; port 0 is any that is free."""
    return dist.TCPStore(_HOST, port, size, is_master=is_master, wait_for_workers=False)  # type: ignore[attr-defined]


def _init_group(store: Any, rank: int, size: int, device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index or 0)
    dist.init_process_group(
        dist.get_default_backend_for_device(device),
        store=store,
        rank=rank,
        world_size=size,
        timeout=_TRADE,
        device_id=None if device.type == "cpu" else device,
    )


def _share(tensors: Sequence[Tensor]) -> None:
    """From the leader to all."""
    for tensor in tensors:
        dist.broadcast(tensor if tensor.is_contiguous() else tensor.contiguous(), 0)


def _blank(tensor: Tensor) -> Blank:
    return tuple(tensor.shape), tensor.dtype


def _empty(blank: Blank, device: torch.device) -> Tensor:
    return torch.empty(blank[0], dtype=blank[1], device=device)


def _read(report: Connection) -> str:
    """What a follower said: nothing when it is ready."""
    try:
        found: str = report.recv()
    except (EOFError, OSError):
        return "its process ended"
    return found

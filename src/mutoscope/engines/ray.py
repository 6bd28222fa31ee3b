"""`ray:<engine>`: another engine's work, done by an actor on whichever node of a Ray cluster has room for it.

The worker stays where it is and keeps claim, lease, encoder and files; the cluster is lent the rendering only, and what
it loses is no more than a worker that was killed. An actor holds one loaded engine, on as many GPUs of one node as
render a video together, and lives as long as the worker. Events are fetched one by one, the next while the last is
encoded, so that no more than two are ever in the object store: Ray's own streaming would push ahead, and does not work
over ray:// addresses. Knows no task, row or setting.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mutoscope.engines import Engine, EngineLostError, Event, Image
from mutoscope.tasks import TaskError, VideoRequest

_LOOK_SECONDS = 1.0  # after which a signal is heard, while the cluster has no room
_GONE = (RayError, ConnectionError)


class ClusterError(Exception):
    """The Ray cluster can't be reached; says why."""


class OnRay:
    """The engine of the contract whose `name`, `version` and receipt are those of the engine inside.

    Making it waits for a place on the cluster and for the engine to be opened there, so that a worker claims nothing
    before it can render it.
    """

    def __init__(self, open_engine: Callable[[], Engine], *, address: str, num_gpus: int) -> None:
        """`open_engine` is pickled and called on a node. `address` is a Ray address ("auto": the cluster that this
        machine belongs to), `num_gpus` what a video takes. Raises ClusterError, and what `open_engine` raises there.
        """
        _connect(address)
        # One bundle, since an actor takes its GPUs from one: they are of one node, where links between them are fast.
        # While no node has them free, the pending group is what the cluster's autoscaler goes by.
        needs = {"CPU": 1, "GPU": num_gpus} if num_gpus else {"CPU": 1}
        self._group = placement_group([needs], strategy="STRICT_PACK")
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        self._actor = _ACTOR.options(num_cpus=1, num_gpus=num_gpus, scheduling_strategy=place).remote()
        with self._lost_if_gone():
            while not self._group.wait(_LOOK_SECONDS):
                pass
            ray.get(self._actor.open.remote(open_engine))
            self.name, self.version, self.longest_side = ray.get(self._actor.about.remote())

    def receipt(self) -> dict[str, Any]:
        """That of the engine inside, as it is where it runs."""
        with self._lost_if_gone():
            found: dict[str, Any] = ray.get(self._actor.receipt.remote())
        return found

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        """The events of the engine inside. Raises what it raises, and EngineLostError when its node or process is gone,
        for good: another OnRay finds another place."""
        actor, video = self._actor, uuid.uuid4().hex
        with self._lost_if_gone():
            try:
                ray.get(actor.begin.remote(video, request, list(images), scope))
                ahead = actor.next.remote(video)
                while (event := ray.get(ahead)) is not None:
                    if isinstance(event, TaskError):
                        raise event
                    ahead = actor.next.remote(video)
                    yield event
            finally:
                with contextlib.suppress(*_GONE):
                    actor.stop.remote(video)  # at the end of the step that it is at, if it is at one

    def close(self) -> None:
        """Give the place on the cluster back."""
        with contextlib.suppress(*_GONE):
            ray.kill(self._actor)
        with contextlib.suppress(*_GONE):
            remove_placement_group(self._group)

    @contextlib.contextmanager
    def _lost_if_gone(self) -> Iterator[None]:
        """Tell what the engine inside raised from what became of the cluster."""
        try:
            yield
        except RayTaskError as error:
            raise error.cause from None
        except ConnectionError as error:  # the way to the cluster, where that is a ray:// address
            ray.shutdown()  # so that the next one connects anew
            raise EngineLostError("the cluster can't be reached any more") from error
        except RayError as error:
            self.close()
            raise EngineLostError(f"the cluster lost it: {type(error).__name__}") from error


class _Rendering:
    """One engine, and the video under way."""

    def __init__(self) -> None:
        self._video = ""
        self._work: Iterator[Event] = iter(())

    def open(self, open_engine: Callable[[], Engine]) -> None:
        self._engine = open_engine()

    def about(self) -> tuple[str, str, int | None]:
        return self._engine.name, self._engine.version, self._engine.longest_side

    def receipt(self) -> dict[str, Any]:
        return self._engine.receipt()

    def begin(self, video: str, request: VideoRequest, images: list[Image], scope: str) -> None:
        self.stop(self._video)
        self._video = video
        self._work = self._engine.generate(request, images, scope)

    def next(self, video: str) -> Event | TaskError | None:
        """The next event; None at the end, or when the video was stopped. A TaskError is an answer, not a fault."""
        try:
            return next(self._work, None) if video == self._video else None
        except TaskError as error:
            return error

    def stop(self, video: str) -> None:
        if video == self._video:
            work, self._work, self._video = self._work, iter(()), ""
            close = getattr(work, "close", None)
            if close is not None:
                close()


# What is lost is given back and claimed anew, by whoever is free first; Ray must not try again by itself.
_ACTOR: Any = ray.remote(max_restarts=0, max_task_retries=0)(_Rendering)


def _connect(address: str) -> None:
    if ray.is_initialized():
        return
    in_main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says twice what it raises
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(f"{str(error).splitlines()[0].rstrip('.')}.") from error
    finally:
        if in_main:  # Ray puts its own in place, which ends the process in the middle of a task
            signal.signal(signal.SIGTERM, on_sigterm)

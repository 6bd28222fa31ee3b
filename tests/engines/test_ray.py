"""Engines on a Ray cluster: three nodes on this machine, real workers, and nodes that are killed under them."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutoscope.config import load_settings
from mutoscope.engines import EngineLostError, Event, Frames, Image, Step
from mutoscope.opening import open_engine
from mutoscope.tasks import InvalidRequestError, VideoRequest
from tests.installation import ANIMATIC, EXAMPLES, Installation

ray = pytest.importorskip("ray", reason="Ray can't be installed for this Python")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend

STORE_BYTES = 80 * 2**20  # of each node: four seconds of a 720p video would not fit
CHECKPOINT = Path(__file__).parents[1] / "golden" / "tiny-r2v"
CLIENT_PORT = 20_000 + os.getpid() % 10_000


class Nodes:
    """A cluster of a head, which renders nothing, and two nodes with room for one engine each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "ray_client_server_port": CLIENT_PORT}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self.add(num_gpus=1)  # as it says: nobody looks whether there is one
        self.add(num_gpus=1)
        self.address: str = self.cluster.address

    def add(self, **has: int) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **has))

    def kill_with(self, pid: int) -> None:
        """Kill the node that the process runs on, as a power cut would."""
        parents = {pid}
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            parents.add(pid)
        (node,) = [node for node in self.nodes if {info.process.pid for info in node.all_processes["raylet"]} & parents]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Nodes()
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()
    gc.collect()  # what Ray left open is warned of here, where that is allowed


def actors() -> list[int]:
    """The processes of this machine that hold an engine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.joinpath("cmdline").read_bytes().startswith(b"ray::_Rendering"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_cluster_that_cannot_be_reached_is_one_sentence(install: Any) -> None:
    done = install(ray_address="auto").run("worker", "--engine", "ray:animatic", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mutoscope: MUTOSCOPE_RAY_ADDRESS is 'auto': ")
    assert len(done.stderr.splitlines()) == 1
    done = install().run("worker", "--engine", "ray:none", check=False)
    assert (done.returncode, "There is no engine 'ray:none'" in done.stderr) == (2, True)


# The contract, through the cluster


class Chalk:
    """Draws frame after frame, notes in a file how far it is, and does as the prompt says."""

    name = "animatic"
    version = "chalk"
    longest_side = 333

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def receipt(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        yield Step(f"chalk for {scope}", 0.0)
        try:
            for number in range(request.num_frames):
                self._notes.write_text(f"{number}")
                if request.prompt == "refuse" and number == 3:
                    raise InvalidRequestError("No chalk.")
                if request.prompt == "fall" and number == 3:
                    raise ZeroDivisionError("the board")
                yield Frames(np.full((1, 720, 1280, 3), images[0].pixels[0, 0, 0] + number, np.uint8), 0.5)
        except GeneratorExit:
            self._notes.write_text("wiped")
            raise


IMAGE = Image(np.full((64, 64, 3), 7, np.uint8))


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chalk") / "notes"


@pytest.fixture(scope="module")
def chalk(nodes: Nodes, notes: Path) -> Iterator[Any]:
    from ray import cloudpickle

    from mutoscope.engines.ray import OnRay

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes know no tests
    engine = OnRay(lambda: Chalk(notes), address=nodes.address, num_gpus=0)
    yield engine
    engine.close()


def drawn(engine: Any, prompt: str = "", seconds: int = 1) -> Iterator[Event]:
    found: Iterator[Event] = engine.generate(VideoRequest(prompt, ("-",), "16:9", seconds), [IMAGE], "her")
    return found


def test_the_engine_inside_is_what_it_seems(chalk: Any) -> None:
    assert (chalk.name, chalk.version, chalk.longest_side) == ("animatic", "chalk", 333)
    assert chalk.receipt()["pid"] in actors()
    first, *frames = drawn(chalk)
    assert first == Step("chalk for her", 0.0)
    assert [int(event.pixels[0, 0, 0, 0]) for event in frames] == list(range(7, 32))


def test_no_more_is_drawn_than_is_taken(chalk: Any, notes: Path) -> None:
    work = drawn(chalk, seconds=5)
    for _ in range(40):  # 110 MB, more than the store of a node holds
        next(work)
    time.sleep(0.5)
    assert int(notes.read_text()) <= 40
    work.close()


def test_closing_it_ends_the_work_there(chalk: Any, notes: Path) -> None:
    work = drawn(chalk)
    next(work)
    next(work)
    work.close()
    assert len(list(drawn(chalk))) == 26  # after what was asked before
    work = drawn(chalk, seconds=5)
    next(work)
    next(work)
    work.close()
    chalk.receipt()
    assert notes.read_text() == "wiped"


def test_errors_are_those_of_the_engine_inside(chalk: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^No chalk\.$"):
        list(drawn(chalk, "refuse"))
    with pytest.raises(ZeroDivisionError, match=r"^the board$"):
        list(drawn(chalk, "fall"))
    assert len(list(drawn(chalk))) == 26


def test_a_process_that_is_killed_is_lost_for_good(chalk: Any) -> None:
    pid = chalk.receipt()["pid"]
    work = drawn(chalk)
    next(work)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineLostError):
        list(work)
    with pytest.raises(EngineLostError):
        chalk.receipt()
    until(lambda: not actors())


def test_gpus_that_render_together_are_of_one_node(nodes: Nodes, notes: Path) -> None:
    from mutoscope.engines.ray import OnRay

    with ThreadPoolExecutor() as pool:
        opening = pool.submit(OnRay, lambda: Chalk(notes), address=nodes.address, num_gpus=2)
        time.sleep(1.5)
        assert not opening.done()  # there are two GPUs, of two nodes
        nodes.add(num_gpus=2)
        engine = opening.result(60)
    assert engine.receipt()["gpus"] == "0,1"
    engine.close()
    until(lambda: not actors())
    nodes.cluster.remove_node(nodes.nodes.pop())


# SkyReels-V3


class Small(VideoRequest):
    """A request for 9 frames of 96×64 pixels, which the contract has no words for."""

    size = (96, 64)
    num_frames = 9


def test_skyreels_is_rendered_elsewhere_when_its_node_dies(nodes: Nodes, tmp_path: Path) -> None:
    settings = load_settings(
        home=tmp_path,
        skyreels_weights=CHECKPOINT,
        skyreels_precision="float32",
        skyreels_device="cpu",
        ray_address=nodes.address,
    )
    asked = Small("A paper boat drifts.", ("-",), seed=1)
    expected = list(open_engine("skyreels-v3", settings).generate(asked, [IMAGE]))
    engine = open_engine("ray:skyreels-v3", settings)
    assert engine.name == "skyreels-v3"
    work = engine.generate(asked, [IMAGE])
    assert any(isinstance(event, Step) and event.stage.startswith("denoising, step 2") for event in work)
    (pid,) = actors()
    nodes.kill_with(pid)
    killed_at = time.monotonic()
    with pytest.raises(EngineLostError):
        list(work)
    engine = open_engine("ray:skyreels-v3", settings)
    events = list(engine.generate(asked, [IMAGE]))
    print(f"SkyReels-V3 (tiny) was whole {time.monotonic() - killed_at:.1f} s after its node died")
    pairs = zip(
        (event.pixels for event in events if isinstance(event, Frames)),
        (event.pixels for event in expected if isinstance(event, Frames)),
        strict=True,
    )
    assert all(np.array_equal(*pair) for pair in pairs)
    assert engine.receipt()["placement"]
    engine.close()  # type: ignore[attr-defined]
    until(lambda: not actors())
    nodes.add()


# Workers


@pytest.fixture
def worker(nodes: Nodes) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts workers that render on the cluster, reached by an address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(installation: Installation, address: str, engine: str = "ray:animatic") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mutoscope", "worker", "--engine", engine]
        with installation.log.open("ab") as log:
            env = installation.env | {"MUTOSCOPE_RAY_ADDRESS": address}
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()  # whoever is killed keeps a place behind ray:// for half a minute
        process.wait(30)
    until(lambda: not actors())


def test_a_worker_that_waits_for_a_place_can_be_told_to_end(nodes: Nodes, install: Any, worker: Any) -> None:
    process = worker(install(skyreels_gpus=8), nodes.address, "ray:skyreels-v3")

    def is_waiting() -> bool:
        return any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values())

    until(is_waiting)
    process.terminate()
    assert process.wait(30) == 0
    until(lambda: not is_waiting())


def test_a_node_that_dies_in_mid_video_costs_a_loss_and_no_more(
    nodes: Nodes, install: Any, worker: Any, running: Installation, completed: dict[str, Any]
) -> None:
    installation: Installation = install(workers=0).start()
    process = worker(installation, nodes.address)
    inputs = {name: completed["input"][name] for name in ("prompt", "aspect_ratio", "duration", "seed")}
    inputs["images"] = [installation.upload(EXAMPLES / "chelsea.jpg")]

    def is_under_way(task: dict[str, Any]) -> bool:
        return bool(installation.result(task["id"])["progress"] > 0.4)

    canceled = installation.submit(ANIMATIC, **inputs)
    until(lambda: is_under_way(canceled))
    (pid,) = actors()
    installation.http.delete(f"/api/v3/predictions/{canceled['id']}")
    task = installation.submit(ANIMATIC, **inputs)
    until(lambda: is_under_way(task))
    assert installation.result(canceled["id"])["status"] == "cancelled"
    assert actors() == [pid]  # the engine was told to stop, and serves on

    nodes.kill_with(pid)
    killed_at = time.monotonic()
    until(lambda: installation.row(task["id"], "attempt, status") == (2, "running") and is_under_way(task))
    print(f"the video was under way again {time.monotonic() - killed_at:.1f} s after its node died")
    assert installation.wait(task["id"])["status"] == "completed"
    assert installation.row(task["id"], "attempt, failures, losses") == (2, 0, 1)
    assert [path.name for path in installation.home.glob("files/outputs/*.mp4")] == [f"{task['id']}-2.mp4"]
    receipt, local = (
        there.http.get(f"/api/v3/predictions/{one['id']}/receipt").json()["data"]
        for there, one in ((installation, task), (running, completed))
    )
    assert receipt["video_sha256"] == local["video_sha256"]
    assert process.poll() is None

    last = installation.submit(ANIMATIC, **inputs)
    until(lambda: is_under_way(last))
    process.terminate()
    assert process.wait(30) == 0  # by our own way of ending, not by Ray's
    assert installation.row(last["id"], "status, failures, losses") == ("queued", 0, 0)
    until(lambda: not actors())

    worker(installation, f"ray://127.0.0.1:{CLIENT_PORT}")
    assert installation.wait(last["id"])["status"] == "completed"

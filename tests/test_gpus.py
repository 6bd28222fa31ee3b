"""Which worker sees which GPU: the division, and what real worker processes find in their environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mutoscope.config import Settings, SettingsError, load_settings
from mutoscope.gpus import divide, named_gpus
from mutoscope.opening import open_store
from mutoscope.serving import launches_of
from mutoscope.supervisor import Launch, Supervisor
from tests.installation import Installation

CHECKPOINT = Path(__file__).parent / "golden" / "tiny-r2v"
NAMES = ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("count", "per_video", "groups"),
    [
        (1, 1, [["0"]]),
        (3, 1, [["0"], ["1"], ["2"]]),
        (4, 2, [["0", "1"], ["2", "3"]]),
        (5, 2, [["0", "1"], ["2", "3"]]),  # one is left over
        (5, 5, [NAMES]),
    ],
)
def test_neighbours_render_together_and_no_gpu_is_in_two_groups(
    count: int, per_video: int, groups: list[list[str]]
) -> None:
    assert divide(NAMES[:count], per_video) == groups


def test_too_few_gpus_for_one_video_are_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"^8 GPUs are to render each video together, and there are 5 here\.$"):
        divide(NAMES, 8)


@pytest.mark.parametrize(
    ("count", "variable", "names"),
    [
        (2, None, ["0", "1"]),
        (2, "3,1", ["3", "1"]),
        (2, "GPU-8f2e, GPU-11aa", ["GPU-8f2e", "GPU-11aa"]),
        (1, "2,-1,3", ["2"]),  # CUDA reads no further than what it does not know
        (0, "", []),
        (0, None, []),
    ],
)
def test_the_operator_s_own_choice_of_gpus_is_heeded(count: int, variable: str | None, names: list[str]) -> None:
    assert named_gpus(count, variable) == names


def settings_of(home: Path, **changes: object) -> Settings:
    return load_settings(home=home, skyreels_weights=CHECKPOINT, **changes)


def views(launches: list[Launch]) -> list[tuple[str, str]]:
    """Of each worker: the engines it renders with, and the GPUs it sees."""
    return [
        (" ".join(launch.command[5::2]), launch.environment.get("CUDA_VISIBLE_DEVICES", "as ours"))
        for launch in launches
    ]


def test_each_group_of_gpus_has_a_worker_and_animatics_have_their_own(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, skyreels_gpus=2)
    launches = launches_of(settings, None, ["4", "5", "6", "7"])
    assert views(launches) == [("animatic", "as ours"), ("skyreels-v3", "4,5"), ("skyreels-v3", "6,7")]
    assert {launch.environment["MUTOSCOPE_SKYREELS_GPUS"] for launch in launches} == {"2"}
    assert views(launches_of(settings, 2, [])) == [("animatic", "as ours"), *[("skyreels-v3", "as ours")] * 2]
    alone = settings_of(tmp_path, engines="skyreels-v3")
    assert views(launches_of(alone, None, ["0", "1"])) == [("skyreels-v3", "0"), ("skyreels-v3", "1")]


def test_without_gpus_or_without_the_model_there_is_one_worker(tmp_path: Path) -> None:
    assert views(launches_of(settings_of(tmp_path), None, [])) == [("animatic", "as ours"), ("skyreels-v3", "as ours")]
    on_cpu = settings_of(tmp_path, skyreels_device="cpu")
    assert views(launches_of(on_cpu, None, ["0", "1"]))[1:] == [("skyreels-v3", "as ours")]
    sandbox = settings_of(tmp_path, sandbox=True)
    assert views(launches_of(sandbox, None, ["0", "1"])) == [("animatic skyreels-v3", "as ours")]
    assert views(launches_of(load_settings(home=tmp_path), None, ["0", "1"])) == [("animatic", "as ours")]
    assert launches_of(settings_of(tmp_path), 0, []) == []


def test_a_pinned_gpu_can_t_be_shared_out(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'cuda:1', which names one GPU"):
        launches_of(settings_of(tmp_path, skyreels_device="cuda:1"), None, ["0", "1"])


def workers() -> list[psutil.Process]:
    """Our children that render with SkyReels-V3, the oldest first."""
    return [child for child in psutil.Process().children() if "skyreels-v3" in child.cmdline()]


@pytest.mark.slow
def test_worker_processes_see_their_own_gpus_and_no_other(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, skyreels_gpus=2, engines="skyreels-v3")
    store = open_store(settings)
    supervisor = Supervisor(store, launches_of(settings, None, ["1", "2", "5", "6"]))
    supervisor.start()
    try:
        until = time.monotonic() + 20
        while len(workers()) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        found = [worker.environ() for worker in workers()]
    finally:
        supervisor.stop()
        store.database.close()
    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in found) == ["1,2", "5,6"]
    assert {each["MUTOSCOPE_SKYREELS_GPUS"] for each in found} == {"2"}


@pytest.mark.slow
def test_serve_starts_one_worker_where_there_is_no_gpu(install: Callable[..., Installation]) -> None:
    installation = install(workers="auto", sandbox=False, skyreels_weights=CHECKPOINT, engines="skyreels-v3")
    installation.env["CUDA_VISIBLE_DEVICES"] = ""
    installation.start()
    assert "workers=1" in installation.log.read_text()
    assert installation.http.get("/healthz").status_code == 200

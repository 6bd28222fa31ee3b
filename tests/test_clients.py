"""WaveSpeed's command line, unchanged: only its base URL is ours. `make test` installs it into `tests/clients`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.installation import EXAMPLES, SKYREELS, Installation

CLIENTS = Path(__file__).parent / "clients"
CLI = CLIENTS / "node_modules" / "@wavespeed" / "cli" / "dist" / "cli.js"


class CommandLine:
    """The client with a home folder of its own, where it keeps its key and what it knows of the models."""

    def __init__(self, home: Path) -> None:
        assert CLI.is_file(), "`make test` installs the clients first"
        self.home = home
        self.env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "NO_COLOR": "1"}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        node = shutil.which("node")
        assert node is not None
        command = [node, str(CLI), *arguments]
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def cli(running: Installation, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Signed in to the shared server."""
    cli = CommandLine(tmp_path_factory.mktemp("client"))
    cli.run("config", "--base-url", running.url)
    assert "Signed in" in cli.run("login", "--api-key", running.key, "--no-browser").stderr
    return cli


@pytest.mark.slow
def test_login_refuses_a_key_that_is_not_known(running: Installation, tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    cli.run("config", "--base-url", running.url)
    done = cli.run("login", "--api-key", "wsk_" + "x" * 43, "--no-browser", check=False)
    assert done.returncode != 0


@pytest.mark.slow
def test_models_schema_price_and_balance(cli: CommandLine) -> None:
    assert SKYREELS in [model["model_id"] for model in cli.json("models")]
    assert cli.json("schema", SKYREELS)["required"] == ["prompt", "images"]
    price = cli.json("price", SKYREELS, "-i", "duration=6")
    assert (price["unit_price"], price["currency"]) == (0.24, "USD")
    assert cli.json("balance")["balance"] == 1_000_000


@pytest.mark.slow
def test_a_video_from_upload_to_deletion(cli: CommandLine, running: Installation) -> None:
    url = cli.json("upload", str(EXAMPLES / "chelsea.jpg"))["url"]
    inputs = ["-i", f'images=["{url}"]', "-i", "aspect_ratio=1:1", "-i", "duration=5"]
    made = cli.json("run", SKYREELS, "-p", "a cat looks up", *inputs, "--download", "./out.mp4")
    assert (cli.home / "out.mp4").read_bytes()[4:8] == b"ftyp"
    (listed,) = [item for item in cli.json("history")["items"] if _files(item["outputs"]) == _files(made["outputs"])]
    task_id = listed["id"]
    assert listed["status"] == "completed"
    assert listed["inputs"]["prompt"] == "a cat looks up"
    assert cli.json("show", task_id)["status"] == "completed"
    assert cli.json("delete", task_id) == {"deleted": [task_id]}
    assert "404" in cli.run("show", task_id, check=False).stderr
    assert running.http.get(f"/api/v3/predictions/{task_id}").status_code == 404


def _files(links: list[str]) -> list[str]:
    # A link into a bucket is signed anew each time that it is told.
    return [link.partition("?X-Amz-")[0] for link in links]


@pytest.mark.slow
def test_refusals_carry_our_sentence(cli: CommandLine) -> None:
    inputs = ["-i", 'images=["https://example.com/a.png"]', "-i", "duration=3"]
    done = cli.run("run", SKYREELS, "-p", "a cat", *inputs, check=False)
    assert done.returncode != 0
    assert "duration is 3: duration must be a whole number from 5 to 10" in done.stderr


@pytest.mark.slow
def test_a_client_that_sends_a_held_request_again_makes_one_task(install: Any, data_uri: str) -> None:
    installation = install(workers=0, sync_seconds=3).start()
    inputs = json.dumps({"prompt": "a cat", "images": [data_uri]})
    command = ["node", str(CLIENTS / "sync.cjs"), installation.url, installation.key, SKYREELS, inputs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Failed to submit prediction after 3 attempts" in done.stdout, done
    assert installation.http.get("/api/v3/predictions").json()["data"]["total"] == 1

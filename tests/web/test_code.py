"""The form as code: each snippet, as it is copied from the page, makes a video."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from playwright.sync_api import expect

from tests.installation import EXAMPLES, Installation
from tests.web.conftest import Visit

pytestmark = pytest.mark.slow

_PROMPT = "The cat's eyes; “slow” push in $HOME"
_PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def _run(key: str, command: list[str], text: str, folder: Path, **more: str) -> str:
    env = {**os.environ, "PATH": _PATH, "MUTOSCOPE_API_KEY": key, **more}
    done = subprocess.run(command, input=text, env=env, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _curl(key: str, text: str, folder: Path) -> None:
    submit, _, result = text.partition("\n\n#")
    task = json.loads(_run(key, ["bash"], submit, folder))["data"]
    found = json.loads(_run(key, ["bash"], "#" + result, folder, ID=task["id"]))["data"]
    assert (found["id"], found["input"]["prompt"]) == (task["id"], _PROMPT)


def _prints_video(command: list[str]) -> Callable[[str, str, Path], None]:
    def run(key: str, text: str, folder: Path) -> None:
        assert re.match(r"http://127\.0\.0\.1:\d+/\S+\.mp4", _run(key, command, text, folder))

    return run


def _saves_video(command: list[str]) -> Callable[[str, str, Path], None]:
    def run(key: str, text: str, folder: Path) -> None:
        _run(key, command, text, folder)
        assert (folder / "video.mp4").stat().st_size > 10_000

    return run


def _mcp(key: str, text: str, folder: Path) -> None:
    settings = json.loads(text)["mcpServers"]["mutoscope"]
    command = str(Path(sys.executable).with_name(settings["command"]))
    env = {name: value.replace("…", key) for name, value in settings["env"].items()}
    server = StdioServerParameters(command=command, args=settings["args"], env=env, cwd=folder)

    async def ask() -> None:
        async with Client(server, read_timeout_seconds=60) as client:
            result = await client.call_tool("list", {"page_size": 1})
            assert not result.is_error
            assert json.loads(result.content[0].text)["items"]  # type: ignore[union-attr]

    asyncio.run(ask())


_WAYS: dict[str, Callable[[str, str, Path], None]] = {
    "curl": _curl,
    "Python (wavespeed)": _prints_video([sys.executable]),
    "Python (openai)": _saves_video([sys.executable]),
    "JavaScript": _prints_video(["node", "--input-type=module"]),
    "Command line": _saves_video(["bash"]),
    "MCP": _mcp,
}


def test_every_snippet_runs_as_it_is_copied(running: Installation, visit: Callable[..., Visit], tmp_path: Path) -> None:
    here = visit(running, previews=False)
    page = here.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    here.choose(EXAMPLES / "chelsea.jpg")
    here.prompt.fill(_PROMPT)
    page.get_by_role("radio", name="480p").check()
    page.get_by_role("radio", name="Animatic free").check()
    page.get_by_role("link", name="Code").click()
    shown = page.get_by_label("key", exact=True)
    expect(shown).not_to_contain_text(running.key)
    page.get_by_role("button", name="Show").click()
    expect(shown).to_have_text(f"export MUTOSCOPE_API_KEY={running.key}")

    def copied(button: str) -> str:
        page.get_by_role("button", name=f"Copy: {button}", exact=True).click()
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    assert copied("key") == f"export MUTOSCOPE_API_KEY={running.key}"
    assert json.loads(copied("request"))["prompt"] == _PROMPT
    names = page.get_by_role("tab").all_text_contents()
    assert [name.strip() for name in names] == list(_WAYS)
    with ThreadPoolExecutor(len(_WAYS)) as threads:  # side by side: most of their time is that of interpreters' starts
        under_way = []
        for number, (name, run) in enumerate(_WAYS.items()):
            page.get_by_role("tab", name=name).click()
            text = copied(name)
            assert running.key not in text
            (folder := tmp_path / str(number)).mkdir()
            if name != "JavaScript" or shutil.which("node"):
                under_way.append(threads.submit(run, running.key, text, folder))
        for one in under_way:
            one.result()

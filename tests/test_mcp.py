"""`mutoscope mcp`, spoken to by the protocol's own client, as an assistant does: over standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import pytest
from mcp import Client, StdioServerParameters

from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation

Work = Callable[[Client], Awaitable[None]]


def with_tools(installation: Installation, work: Work) -> None:
    """Start the command, and do `work` with a client of it."""
    keys = {"MUTOSCOPE_SERVER": installation.url, "MUTOSCOPE_KEY": installation.key}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "mutoscope", "mcp"], env={**installation.env, **keys}
    )

    async def run() -> None:
        async with Client(command, read_timeout_seconds=60) as client:
            await work(client)

    with ThreadPoolExecutor(1) as thread:  # this one may have an event loop already: a browser's
        thread.submit(asyncio.run, run()).result()


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    (content,) = result.content
    assert not result.is_error, content
    found: dict[str, Any] = json.loads(content.text)  # type: ignore[union-attr]
    return found


async def refusal(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_video_is_made_of_local_files_with_progress(running: Installation, image: str, tmp_path: Path) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def work(client: Client) -> None:
        target = tmp_path / "cat.mp4"
        asked = {"prompt": "a cat, slow push in", "model": ANIMATIC, "aspect_ratio": "1:1", "resolution": "480p"}
        images = [str(EXAMPLES / "chelsea.jpg"), image]
        result = await client.call_tool(
            "generate", {**asked, "images": images, "save_to": str(target)}, progress_callback=hear
        )
        assert not result.is_error, result.content
        found = result.structured_content
        assert found is not None
        assert (found["status"], found["saved_to"]) == ("completed", str(target))
        with av.open(str(target)) as container:
            assert container.streams.video[0].frames == 121
        assert await call(client, "get", task_id=found["id"]) == running.result(found["id"])
        listed = await call(client, "list", search="slow push in", page_size=1)
        assert [task["id"] for task in listed["items"]] == [found["id"]]
        assert "completed already" in await refusal(client, "cancel", task_id=found["id"])
        assert running.result(found["id"])["outputs"]  # which did not delete it

    with_tools(running, work)
    stages = [message or "" for _, _, message in heard]
    assert stages[0] == "uploading image 1"
    assert any(stage.startswith("rendering (task ") for stage in stages)
    shares = [progress for progress, _, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.slow
def test_prices_cancelling_and_refusals(install: Callable[..., Installation], tmp_path: Path) -> None:
    installation = install(workers=0).start()
    waiting = installation.submit(ANIMATIC, prompt="a cat", images=["http://127.0.0.1:1/a.png"])["id"]

    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"generate", "price", "list", "get", "cancel"}
        assert all(tool.description for tool in tools.values())
        price = await call(client, "price", model=SKYREELS, duration=6)
        assert (price["price"], price["currency"]) == (0.24, "USD")
        assert (await call(client, "get", task_id=waiting))["status"] == "created"
        assert (await call(client, "cancel", task_id=waiting))["status"] == "cancelled"
        assert [task["status"] for task in (await call(client, "list", status="cancelled"))["items"]] == ["cancelled"]
        picture = str(EXAMPLES / "chelsea.jpg")
        nothing = str(tmp_path / "none.png")
        assert "is not a file" in await refusal(client, "generate", prompt="a cat", images=[nothing])
        away = str(tmp_path / "nowhere" / "a.mp4")
        assert "does not exist" in await refusal(client, "generate", prompt="a", images=[picture], save_to=away)
        assert "Unknown model" in await refusal(client, "generate", prompt="a", images=[picture], model="sora-2")
        assert "Task not found" in await refusal(client, "get", task_id="0" * 32)
        assert "task_id" in await refusal(client, "cancel", task_id="../../keys")

    with_tools(installation, work)


def test_it_needs_a_key(running: Installation) -> None:
    done = running.run("mcp", "--server", running.url, check=False)
    assert done.returncode == 2
    assert "No API key: give --key, or set MUTOSCOPE_KEY." in done.stderr

"""A server's API as tools of the Model Context Protocol, over standard input and output: `mutoscope mcp`.

Needs the extra `mcp`. It runs where its user's files are, and asks a server by `client.py` for all that it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from mutoscope import __version__
from mutoscope.client import Client, ClientError, check_files, make_there
from mutoscope.models import MODELS, SKYREELS
from mutoscope.tasks import Resolution, Shape

_INSTRUCTIONS = (
    "Makes videos of 5 to 10 seconds of the people, animals, objects and places in 1 to 4 reference images. `generate` "
    "costs money, `price` says how much. If a call of `generate` is interrupted, its video is made all the same: "
    "`list` finds it, `cancel` ends it."
)
_READS = ToolAnnotations(read_only_hint=True)

ModelName = Annotated[str, Field(description=f"One of {', '.join(MODELS)}; the second is free.")]
TaskId = Annotated[
    str, Field(pattern=r"^[0-9a-f]{32}$", description="The id of a task, as `generate` and `list` say it.")
]
Seconds = Annotated[int, Field(ge=5, le=10, description="Length of the video in seconds.")]


def run(server: str, key: str) -> None:
    """Answer one client on standard input and output until it hangs up."""
    with Client(server, key) as client:
        tools_of(client).run("stdio")


def tools_of(client: Client) -> MCPServer[None]:
    """The tools, for a client that is open."""
    tools: MCPServer[None] = MCPServer("mutoscope", version=__version__, instructions=_INSTRUCTIONS, log_level="ERROR")

    @tools.tool()
    async def generate(
        prompt: Annotated[str, Field(description="What happens in the video: subjects, action, camera, light.")],
        images: Annotated[
            list[str], Field(min_length=1, max_length=4, description="Paths of files of this machine, or URLs.")
        ],
        context: Context[None, Any],
        model: ModelName = SKYREELS,
        aspect_ratio: Shape = "16:9",
        duration: Seconds = 5,
        resolution: Resolution = "720p",
        seed: Annotated[int, Field(ge=-1, description="-1 draws one.")] = -1,
        save_to: Annotated[str, Field(description="Path of an mp4 to write; without it, `outputs` has a URL.")] = "",
    ) -> dict[str, Any]:
        """Make a video of reference images and wait for it; answers with the finished task."""
        target = Path(save_to).expanduser() if save_to else None
        if target is not None and not target.parent.is_dir():
            raise ToolError(f"The folder {target.parent} does not exist.")
        sources = [_local(image) for image in images]
        inputs = {
            "prompt": prompt,
            "images": sources,
            "aspect_ratio": aspect_ratio,
            "duration": duration,
            "resolution": resolution,
            "seed": seed,
        }
        found: dict[str, Any] = {}
        with _told():
            check_files(sources)
            steps = make_there(client, model, inputs)
            while (step := await run_sync(next, steps, None, abandon_on_cancel=True)) is not None:
                progress, found = step
                name = f" (task {found['id']})" if found else ""
                await context.report_progress(progress.progress, 1.0, progress.stage + name)
            if target is not None:
                await run_sync(client.download, found["outputs"][0], target)
                found["saved_to"] = str(target)
        return found

    @tools.tool(annotations=_READS)
    def price(model: ModelName = SKYREELS, duration: Seconds = 5) -> dict[str, Any]:
        """What a video would cost, in dollars. Nothing is made."""
        with _told():
            return client.price(model, {"duration": duration})

    @tools.tool(name="list", annotations=_READS)
    def list_(
        status: Annotated[
            Literal["", "created", "processing", "completed", "failed", "cancelled"],
            Field(description="Only tasks that are so; created ones wait for their turn."),
        ] = "",
        search: Annotated[str, Field(max_length=200, description="Only tasks whose prompt contains this.")] = "",
        page: Annotated[int, Field(ge=1)] = 1,
        page_size: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> dict[str, Any]:
        """The tasks of the last 7 days, the newest first, with what they were made of."""
        with _told():
            return client.list(status=status, search=search, page=page, page_size=page_size, include_inputs=True)

    @tools.tool(annotations=_READS)
    def get(task_id: TaskId) -> dict[str, Any]:
        """A task as it stands; once it is completed, `outputs` has the URL of its mp4."""
        with _told():
            return client.result(task_id)

    @tools.tool(annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True))
    def cancel(task_id: TaskId) -> dict[str, Any]:
        """End a task that waits or runs: one that waits costs nothing, one that runs what was done of it."""
        with _told():
            found = client.result(task_id)
            if found["status"] not in ("created", "processing"):  # cancelling it would delete its video
                raise ToolError(f"This task is {found['status']} already: there is nothing to cancel.")
            return client.cancel(task_id)

    return tools


def _local(image: str) -> str:
    return str(Path(image).expanduser()) if image.startswith("~") else image


@contextmanager
def _told() -> Iterator[None]:
    """Have what goes wrong told as a sentence to whoever called the tool."""
    try:
        yield
    except ClientError as error:
        raise ToolError(str(error)) from error
    except OSError as error:
        raise ToolError(f"{error.filename or 'A file'} can't be used: {error.strerror or error}.") from error

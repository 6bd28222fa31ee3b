"""The first minute with Mutoscope: start a server, send it the example images, and show where the video is.

Run by `make demo`. With --once it ends after the video; otherwise the server runs on until Ctrl+C.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mutoscope.client import Client, ClientError

HERE = Path(__file__).parent
HOST, PORT = "127.0.0.1", 8787
MODEL = "skywork-ai/skyreels-v3/reference-to-video"
REFERENCES = ("astronaut.jpg", "coffee.jpg", "rocket.jpg")
PROMPT = "An astronaut beside the launch pad at night, a cup of coffee in front of her, slow push in"

say = Console(highlight=False)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--once", action="store_true", help="end after the video")
    arguments.add_argument("--port", type=int, default=PORT)
    asked = arguments.parse_args()

    os.environ.setdefault("MUTOSCOPE_HOME", str(HERE.parent / ".demo"))
    address = f"http://{HOST}:{asked.port}"
    mutoscope = [sys.executable, "-m", "mutoscope"]
    key = subprocess.run(
        [*mutoscope, "keys", "create", "demo"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    try:  # another server there would answer in our server's place, and not know the key
        socket.create_server((HOST, asked.port)).close()
    except OSError:
        say.print(f"[red]Port {asked.port} is taken by another program: end it, or try ARGS='--port 8788'.[/red]")
        return 1
    server = subprocess.Popen([*mutoscope, "serve", "--sandbox", "--host", HOST, "--port", str(asked.port)])
    try:
        wait_until_ready(server, address)
        say.print(f"\n[bold]API key[/bold]  {key}\n[bold]Request[/bold]  {PROMPT}\n         {', '.join(REFERENCES)}\n")
        output = HERE.parent / "demo.mp4"
        make_video(Client(address, key), output)
        say.print(f"[bold]Video[/bold]    {output}")
        say.print(f"[bold]Page[/bold]     {address}/  (sign in with the key, or by the link above)", soft_wrap=True)
        say.print(f"[bold]API[/bold]      {address}/docs\n")
        if not asked.once:
            say.print("The server runs until Ctrl+C.")
            server.wait()
    except KeyboardInterrupt:
        pass
    except ClientError as error:
        say.print(f"[red]{error}[/red]")
        return 1
    finally:
        server.terminate()
        server.wait()
    return 0


def wait_until_ready(server: subprocess.Popen[bytes], address: str) -> None:
    while True:
        if server.poll() is not None:
            raise ClientError(f"The server could not be started at {address}; it says why above.")
        try:
            if httpx.get(f"{address}/healthz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)


def make_video(client: Client, output: Path) -> None:
    inputs = {"prompt": PROMPT, "images": [client.upload(HERE / name) for name in REFERENCES], "seed": 7}
    task_id = client.submit(MODEL, inputs)["id"]
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=say) as bar:
        line = bar.add_task("waiting", total=1.0)
        for found in client.wait(task_id):
            bar.update(line, description=found["stage"] or found["status"], completed=found["progress"])
    client.download(found["outputs"][0], output)


if __name__ == "__main__":
    sys.exit(main())

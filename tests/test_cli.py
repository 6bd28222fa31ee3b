"""The command line as a person meets it: real processes, their output and their exit codes."""

from __future__ import annotations

import http.server
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from mutoscope import __version__
from mutoscope.cli import main
from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation

PICTURE = str(EXAMPLES / "chelsea.jpg")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that nothing runs on."""
    installation = Installation(tmp_path_factory.mktemp("cli") / "home")
    yield installation
    installation.close()


Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ask(home: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command line in this process, which is ten times as quick: for what ends without work."""

    def ask(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["mutoscope", *arguments])
        monkeypatch.setenv("MUTOSCOPE_HOME", str(home.home))
        for name, value in settings.items():
            monkeypatch.setenv(f"MUTOSCOPE_{name.upper()}", value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code if isinstance(code, int) else 0, said.out, said.err)

    return ask


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one sentence that a failed command says."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("mutoscope: ")
    assert line.endswith(".")
    return line.removeprefix("mutoscope: ")


def rendered(path: Path) -> dict[str, str]:
    """The tags of a square 5 s video, once it is sure that it is one."""
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.width, stream.height, stream.frames) == (960, 960, 121)
        return dict(container.metadata)


COMMANDS = [
    [], ["serve"], ["worker"], ["render"], ["models"], ["doctor"], ["keys"], ["keys", "create"], ["keys", "list"],
    ["keys", "revoke"], ["tasks"], ["tasks", "list"], ["tasks", "show"], ["tasks", "cancel"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(ask: Ask, command: list[str]) -> None:
    done = ask(*command, "-h" if len(command) == 2 else "--help")
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", done.stdout)
    said, _, options = text.partition(" Options ")
    assert re.match(r" Usage: .* \w[\w ,:`]+\.", said)
    assert "Show this message and exit." in options
    assert done.stderr == ""


def test_the_version(home: Installation) -> None:
    assert home.run("--version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["render"], ["keys", "create"], ["serve", "--port", "x"], ["serve", "--port", "70000"],
     ["serve", "--workers", "-1"], ["serve", "--workers", "many"], ["serve", "--gpus-per-video", "0"],
     ["tasks", "list", "--limit", "0"], ["--nothing"],
     ["render", "a", "-r", PICTURE, "-o", "o.mp4", "--duration", "x"]],
)  # fmt: skip
def test_a_command_line_that_cannot_be_read_ends_with_2(ask: Ask, arguments: list[str]) -> None:
    done = ask(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"mutoscope: .+ See `.+ --help`\.\n", done.stderr)


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("LEASE_SECONDS", "soon", "serve"),
        ("ALLOW_NETWORKS", "here", "worker"),
        ("PUBLIC_URL", "video.example", "doctor"),
    ],
)
def test_a_bad_setting_is_named(ask: Ask, name: str, text: str, command: str) -> None:
    assert refused(ask(command, **{name: text}), 2).startswith(f"MUTOSCOPE_{name} is '{text}'")


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nonsense", 2, "MUTOSCOPE_DATABASE_URL is no URL"),
        ("oracle://x", 2, "MUTOSCOPE_DATABASE_URL names oracle: it must be sqlite or postgresql"),
        ("sqlite:////proc/none/x.db", 1, "/proc/none can't be used"),
        (f"sqlite:///{PICTURE}", 1, "The database can't be used.*not a database"),
    ],
)
def test_a_database_that_cannot_be_used(ask: Ask, url: str, code: int, said: str) -> None:
    assert re.match(said, refused(ask("tasks", "list", database_url=url), code))


# Keys


def test_keys_are_created_listed_and_revoked(home: Installation) -> None:
    done = home.run("keys", "create", "the name of a person with a very long name [indeed] who needs a key")
    assert re.fullmatch(r"wsk_[A-Za-z0-9_-]{43}\n", done.stdout)
    assert done.stderr == ""
    key = done.stdout.strip()
    listed = home.run("keys", "list").stdout
    assert key not in listed
    (line,) = [line for line in listed.splitlines() if key[:8] + "…" in line]
    key_id = line.split()[0]
    assert re.fullmatch(r"[0-9a-f]{12}", key_id)
    assert "[indeed]" in listed
    revoked = home.run("keys", "revoke", key_id)
    assert (revoked.stdout, revoked.stderr) == ("", f"Key {key_id} is revoked.\n")
    for unknown in (key_id, "000000000000", "tests"):
        sentence = refused(home.run("keys", "revoke", unknown, check=False), 1)
        assert sentence.startswith(f"There is no active key with the id {unknown}; ")


# Tasks


def test_tasks_are_listed_shown_and_canceled(install: Callable[..., Installation], data_uri: str) -> None:
    installation = install(workers=0)
    assert "id" in installation.run("tasks", "list").stdout
    installation.start()
    ids = [
        installation.submit(
            prompt=f"[bold]take {number}[/bold] :cat: \x1b[2J of a long story, told at length", images=[data_uri]
        )["id"]
        for number in range(3)
    ]
    listed = installation.run("tasks", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()[1:] if re.match(r" ?[0-9a-f]{32}", line)] == ids[::-1]
    assert "[bold]take" in listed
    only = installation.run("tasks", "list", "--limit", "1").stdout
    assert ids[2] in only
    assert ids[1] not in only

    shown = installation.run("tasks", "show", ids[0]).stdout
    for expected in ("queued", ANIMATIC, "[bold]take 0[/bold] :cat:  [2J of a long story", "16:9, 5 s, seed "):
        assert expected in shown
    assert "\x1b" not in shown + listed
    canceled = installation.run("tasks", "cancel", ids[0])
    assert (canceled.stdout, canceled.stderr) == ("", f"Task {ids[0]} is canceled.\n")
    assert installation.result(ids[0])["status"] == "cancelled"
    again = installation.run("tasks", "cancel", ids[0])
    assert (again.returncode, again.stderr) == (0, canceled.stderr)
    for command in ("show", "cancel"):
        assert refused(installation.run("tasks", command, "nothing", check=False), 1) == "There is no task nothing."


def test_an_ended_task_is_shown_with_its_file_or_its_error(running: Installation, completed: dict[str, Any]) -> None:
    shown = running.run("tasks", "show", completed["id"]).stdout
    assert f"output    {running.home}/files/outputs/{completed['id']}-1.mp4\n" in shown
    assert completed["input"]["images"][0] in shown
    assert "had ended already: succeeded" in running.run("tasks", "cancel", completed["id"]).stderr
    failed = running.wait(running.submit(prompt="a", images=[f"{running.url}/none"])["id"])
    shown = running.run("tasks", "show", failed["id"]).stdout
    assert re.search(r"^status +failed$", shown, re.M)
    assert failed["error"] in shown


# Models and doctor


def test_models(home: Installation) -> None:
    text = home.run("models").stdout
    assert re.search(rf"{SKYREELS}\s+\$0\.04 per second\s+engine skyreels-v3", text)
    assert re.search(rf"{ANIMATIC}\s+free\s+engine animatic", text)
    flat = re.sub(r"\s+", " ", text)
    for field in ("a text of 1 to 5,000 characters (required)", "one of 16:9, 9:16, 1:1 (default 16:9)",
                  "a whole number from 5 to 10 (default 5)"):  # fmt: skip
        assert flat.count(field) == 2


def test_doctor(home: Installation) -> None:
    done = home.run("doctor")
    assert done.returncode == 0
    for subject in ("mutoscope", "home", "database", "files", "animatic", "skyreels-v3"):
        assert re.search(rf"^(ok|note)\s+{subject}\s", done.stdout, re.MULTILINE), done.stdout


def test_doctor_tells_what_is_in_the_way(home: Installation) -> None:
    before = dict(home.env)
    home.env |= {"MUTOSCOPE_FILES_URL": "ftp://bucket", "MUTOSCOPE_DATABASE_URL": f"sqlite:///{PICTURE}"}
    try:
        done = home.run("doctor", check=False)
    finally:
        home.env = before
    assert done.returncode == 1
    assert re.search(r"^bad\s+files\s.*must be file:///folder", done.stdout, re.MULTILINE)
    assert re.search(r"^bad\s+database\s.*not a database", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr


# Serve


def test_a_port_that_is_taken_is_told(home: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(home.run("serve", "--port", str(port), check=False), 1)
    assert sentence.startswith("Address already in use")
    assert str(port) in sentence


def test_an_address_that_is_not_ours_is_told(home: Installation) -> None:
    assert "192.0.2.1" in refused(home.run("serve", "--host", "192.0.2.1", check=False), 1)


# Render


@pytest.mark.slow
def test_render_here(home: Installation, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    done = home.run("render", "a cat, slow push in", "-r", PICTURE, "-o", str(output), "--shape", "1:1", "--seed", "7")
    assert done.stdout == f"{output}\n"
    assert re.search(
        r"^5 s of 1:1 video by the animatic engine, seed 7, [\d.]+ MB, made in [\d.]+ s$", done.stderr, re.M
    )
    tags = rendered(output)
    assert (tags["engine"], tags["seed"], tags["title"]) == ("animatic", "7", "a cat, slow push in")
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
def test_render_there_uploads_local_files(running: Installation, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    arguments = ("render", "a cat", "-r", PICTURE, "-o", str(output), "--shape", "1:1", "--server", running.url + "/")
    done = running.run(*arguments, "--key", running.key)
    assert done.stdout == f"{output}\n"
    seed = re.search(r"seed (\d+),", done.stderr)
    assert seed is not None
    assert rendered(output)["seed"] == seed[1]
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["", "-r", PICTURE], 2, 'prompt is ""'),
        (["a", "-r", "none.jpg"], 1, "none.jpg is not a file, and not a URL."),
        (["a", *["-r", PICTURE] * 5], 2, "images is 5 items long"),
        (["a", "-r", PICTURE, "--shape", "4:3"], 2, 'aspect_ratio is "4:3"'),
        (["a", "-r", PICTURE, "--duration", "4"], 2, "duration is 4"),
        (["a", "-r", PICTURE, "--seed", "-2"], 2, "seed is -2"),
        (["a", "-r", PICTURE, "--engine", "none"], 2, "There is no engine 'none' in this installation."),
        (["a", "-r", PICTURE, "--engine", "skyreels-v3"], 2, "SkyReels-V3 can't run here: no weights in "),
        (["a", "-r", PICTURE, "--engine", "none", "--server", "http://h"], 2, "There is no engine 'none'"),
        (["a", "-r", PICTURE, "--server", "http://h"], 2, "--server needs a key"),
        (["a", "-r", PICTURE, "--server", "http://127.0.0.1:1", "--key", "k"], 1, "The server at http://127.0.0.1:1"),
        (["a", "-r", PICTURE, "--server", "127.0.0.1", "--key", "k"], 1, "The server at "),
        (["a", "-r", PICTURE, "--server", "http://h:x", "--key", "k"], 1, "The server's address or the key"),
        (["a", "-r", PICTURE, "--server", "http://h", "--key", "é"], 1, "The server's address or the key"),
        (["a", "-r", str(EXAMPLES / "README.md")], 1, "Image 1"),
        (["a", "-r", "http://127.0.0.1:1/a.png"], 1, "Image 1 (127.0.0.1)"),
    ],
)
def test_what_cannot_be_rendered(ask: Ask, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    output = tmp_path / "o.mp4"
    assert refused(ask("render", *arguments, "-o", str(output)), code).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_told_before_any_work(ask: Ask, tmp_path: Path) -> None:
    for output, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "o.mp4", "does not exist"),
        (Path("/"), "is a f"),
    ):
        done = ask("render", "a", "-r", PICTURE, "-o", str(output))
        assert said in refused(done, 2)


def test_a_server_says_why_it_refuses(ask: Ask, running: Installation, tmp_path: Path) -> None:
    arguments = ("render", "a", "-r", PICTURE, "-o", str(tmp_path / "o.mp4"), "--server", running.url)
    assert refused(ask(*arguments, "--key", "wsk_wrong"), 1).startswith("Invalid authentication")
    images = ("-r", f"{running.url}/none.png")
    done = ask("render", "a", *images, *arguments[4:], "--key", running.key)
    assert refused(done, 1).startswith("Image 1 (127.0.0.1): the server answered 404")
    assert list(tmp_path.iterdir()) == []


def test_something_else_answers(ask: Ask, tmp_path: Path) -> None:
    """A web server that is no Mutoscope."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(int(self.headers["authorization"].split()[1]))
            self.end_headers()
            self.wfile.write(b'["hello"]')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for status in ("200", "404"):
            arguments = ("render", "a", "-r", "http://h/a.png", "-o", str(tmp_path / "o.mp4"), "--server", url)
            sentence = refused(ask(*arguments, "--key", status), 1)
            assert sentence == f"What answers at {url} is not a Mutoscope server."
        server.shutdown()


def test_the_key_may_come_from_the_environment(ask: Ask, running: Installation, tmp_path: Path) -> None:
    arguments = ("render", "a", "-r", PICTURE, "-o", str(tmp_path / "o.mp4"), "--server", running.url)
    assert refused(ask(*arguments, api_key="wsk_wrong"), 1).startswith("Invalid authentication")


def test_nothing_of_torch_is_loaded(home: Installation) -> None:
    code = "import sys, mutoscope.api, mutoscope.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=home.env, check=False).returncode == 0


def test_a_key_works_on_the_server_that_shares_its_home(running: Installation) -> None:
    key = running.run("keys", "create", "x").stdout.strip()
    answer = httpx.get(f"{running.url}/api/v3/models", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    with closing(sqlite3.connect(running.home / "mutoscope.db")) as database:
        assert database.execute("SELECT count(*) FROM keys WHERE name = 'x'").fetchone() == (1,)

"""The documents tell of what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from mutoscope.cli import app
from mutoscope.models import MODELS, ReferenceToVideo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_every_setting_is_in_the_readme() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/document-settings", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_command_model_and_input_is_in_the_readme() -> None:
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"mutoscope {name}" in README
    for model in MODELS:
        assert model in README
    for field in ReferenceToVideo.model_fields:
        assert f"| `{field}` |" in README


def test_every_module_is_on_the_map() -> None:
    top = ROOT / "src" / "mutoscope"
    for path in top.iterdir():
        if path.name.startswith("_"):
            continue
        name = path.name + "/" if path.is_dir() else path.name
        assert f"`{name}`" in ARCHITECTURE, f"{name} is not in ARCHITECTURE.md"
    for path in (top / "api").glob("[!_]*.py"):
        assert f"`api/{path.name}`" in ARCHITECTURE

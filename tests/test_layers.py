"""Who may import whom, what the front never loads, and how large a module may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "mutoscope"
MODULES = sorted(path for path in SRC.rglob("*.py") if "migrations" not in path.parts)
CHAOS = sorted(SRC.parent.parent.joinpath("chaos").rglob("*.py"))

# From the edge to the core: a module may import what lies below it, and never its neighbours.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"mcp", "replay"},
    {"client", "serving", "doctor", "planning", "weights"},
    {"api", "worker", "supervisor", "gpus"},
    {"opening", "film"},
    {"bell", "commits", "copying", "estimates", "history", "housekeeping", "inspection", "metrics", "webhooks"},
    {"admission", "deliveries", "overview"},
    {"duties", "store", "uploads", "files", "keys", "references", "spritesheet", "video"},
    {"engines", "ledger", "turns", "usage"},
    {"schema"},
    {"database"},
    {"models"},
    {"tasks", "pricing", "config", "disk", "logs", "tracing"},
]


def layer_of(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports_of(path: Path) -> set[str]:
    """The top-level modules of ours that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mutoscope"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_data_moves_forward(path: Path) -> None:
    relative = path.relative_to(SRC)
    name = relative.parts[0].removesuffix(".py")
    if name == "__init__":
        return
    for imported in imports_of(path) - {name}:
        assert layer_of(imported) > layer_of(name), f"{relative} imports {imported}, which does not lie below it"


def test_api_and_worker_meet_only_in_rows_and_files() -> None:
    for path in SRC.joinpath("api").glob("*.py"):
        assert not imports_of(path) & {"worker", "supervisor", "serving"}, path
    assert "api" not in imports_of(SRC / "worker.py")


def test_migrations_follow_each_other() -> None:
    found = [path.name[:4] for path in sorted(SRC.joinpath("migrations", "versions").glob("*.py"))]
    assert found == [f"{number:04}" for number in range(1, len(found) + 1)]


@pytest.mark.parametrize("module", ["mutoscope.api", "mutoscope.cli"])
def test_the_front_loads_no_engine(module: str) -> None:
    program = f"import sys, {module}; print([m for m in sys.modules if m in ('torch', 'cv2', 'av')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES + CHAOS, ids=lambda path: str(path.relative_to(SRC.parent.parent)))
def test_a_module_says_what_it_is_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} opens without saying what it is"
    assert len(text.splitlines()) <= 400

"""The tests' own test: each deliberate fault of `mutations/` is put into a copy of the product, and must be caught."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from chaos import report
from chaos.invariants import Findings

_ROOT = Path(__file__).parent.parent
_LEAST_CAUGHT = 0.95
_FAILED = 1  # pytest's exit code when tests ran and some failed; any other is a fault of ours


@dataclass(frozen=True, slots=True)
class Mutation:
    """One patch: `what` it breaks, in a sentence, and the tests that are to notice."""

    patch: Path
    what: str
    tests: tuple[str, ...]

    def apply(self, copy: Path) -> None:
        """Change the copy of the product below this folder. Raises CalledProcessError where the patch does not fit."""
        subprocess.run(["git", "apply", str(self.patch)], cwd=copy, check=True, capture_output=True)


def mutations() -> list[Mutation]:
    """All there are, by name."""
    found = []
    for patch in sorted(Path(__file__).parent.joinpath("mutations").glob("*.patch")):
        what, tests = patch.read_text().splitlines()[:2]
        found.append(Mutation(patch, what, tuple(tests.removeprefix("Tests: ").split())))
    return found


def copy_product(folder: Path) -> None:
    """The sources as they are, below a folder outside of any repository."""
    shutil.copytree(_ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", help="the name of one")


def run(arguments: argparse.Namespace) -> bool:
    found = Findings()
    caught = 0
    chosen = [each for each in mutations() if arguments.only in ("", each.patch.stem)]
    for mutation in chosen:
        test = _caught_by(mutation)
        caught += bool(test)
        found.figures[mutation.what] = test.rpartition("/")[2].replace("|", "\\|") if test else "**not noticed**"
        print(f"{mutation.patch.stem}: {test or 'NOT NOTICED'}", flush=True)
    found.expect(caught >= _LEAST_CAUGHT * len(chosen), f"only {caught} of {len(chosen)} are caught")
    found.figures = {"faults": len(chosen), "caught": caught, **found.figures}
    what = "Each of these faults is put into a copy of the product, by itself; the test that notices it first is named."
    report.conclude(arguments, "mutations", "Deliberate faults, and the tests that catch them", what, found)
    return not found.broken


def _caught_by(mutation: Mutation) -> str:
    """The first test that fails with the fault and not without; empty where there is none."""
    with tempfile.TemporaryDirectory(prefix="mutoscope-mutation-") as folder:
        copy_product(Path(folder))
        mutation.apply(Path(folder))
        code, output = _pytest(Path(folder, "src"), *mutation.tests)
    failed = re.search(r"^(?:FAILED|ERROR) (\S+\.py::.+?)(?: - |$)", output, re.MULTILINE)
    if code != _FAILED or failed is None:
        return ""
    test = failed[1]
    sound, output = _pytest(_ROOT / "src", *mutation.tests)
    if sound != 0:
        print(f"{test} fails without the fault, too:\n{output[-2000:]}", flush=True)
        return ""
    return test


def _pytest(sources: Path, *tests: str) -> tuple[int, str]:
    paths = [str(sources), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout

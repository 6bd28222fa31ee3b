"""The deliberate faults of `chaos/mutations` still fit the sources; `python -m chaos mutations` has them caught."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from chaos.mutate import Mutation, copy_product, mutations


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("product")
    copy_product(folder)
    return folder


def test_there_are_twenty() -> None:
    assert len(mutations()) >= 20


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.patch.stem)
def test_it_fits_and_names_tests(mutation: Mutation, product: Path) -> None:
    assert mutation.what.endswith(".")
    assert mutation.tests
    root = Path(__file__).parent.parent
    assert [each for each in mutation.tests if not (root / each.partition("::")[0]).is_file()] == []
    fits = subprocess.run(["git", "apply", "--check", mutation.patch], cwd=product, capture_output=True, text=True)
    assert fits.returncode == 0, f"{fits.stderr}\nmend the patch, so that it breaks the same thing again"

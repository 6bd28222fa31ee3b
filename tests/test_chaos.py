"""Every experiment of `python -m chaos` can be asked for; what they show is theirs to show."""

from __future__ import annotations

import pytest
from chaos.__main__ import EXPERIMENTS, parse


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_can_be_asked_for(name: str) -> None:
    asked = parse([name, "--seed", "7", "--minutes", "2", "--no-report"])
    assert (asked.experiment, asked.seed, asked.minutes, asked.no_report) == (name, 7, 2.0, True)


def test_what_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err

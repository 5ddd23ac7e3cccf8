"""A comparison in documents and notebooks: the command's tables, rounded by their uncertainty."""

from pathlib import Path

import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.formatting import decimals, interval, mean_and_std
from tests.records import EXPORTED


def test_python_writes_what_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = roadmap.compare(EXPORTED)
    for kind, text in (("latex", comparison.to_latex()), ("markdown", comparison.to_markdown())):
        assert main(["compare", str(EXPORTED), f"--{kind}", str(tmp_path / kind)]) == 0
        assert (tmp_path / kind).read_text(encoding="utf-8") == text
    assert main(["compare", str(EXPORTED)]) == 0
    assert capsys.readouterr().out == f"{comparison}\n"
    shown = comparison._repr_markdown_()
    assert shown.startswith(comparison.to_markdown())
    assert comparison.agreements[0].verdict in shown


def test_numbers_are_rounded_by_their_uncertainty() -> None:
    assert [decimals(value) for value in (0.0, 0.99, 1.0, 9.9, 12.0, float("nan"))] == [2, 2, 1, 1, 0, 2]
    assert mean_and_std(92.9167, 2.1892) == "92.9 ± 2.2"
    assert mean_and_std(95.3611, 0.9393) == "95.36 ± 0.94"
    assert mean_and_std(95.3611, float("nan")) == "95.36"
    assert interval(87.47, 98.36) == "87.5 to 98.4"
    assert interval(-0.056, 1.31, "+") == "-0.06 to +1.31"
    assert interval(float("nan"), float("nan")) == ""

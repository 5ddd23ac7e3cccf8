"""``roadmap compare`` as a user types it."""

import csv
import json
from pathlib import Path

import pytest

import roadmap
from roadmap.__main__ import main
from tests.records import EXAMPLES, record, write

COMPARE = ["compare", str(EXAMPLES)]


def test_the_table_says_all_that_is_to_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMPARE) == 0
    text = capsys.readouterr().out
    (gelu,) = (line for line in text.splitlines() if line.startswith("enhanced  gelu "))
    assert gelu.split("  ")[2:] != []
    for part in (
        "95.89 ± 0.13",
        "95.57 to 96.21",
        "+0.94",
        "+0.26 to +1.63",
        "0.207",
        "undecided",
        "3 (1 to 18)",
        "0.001825",
    ):
        assert part in gelu
    for part in (
        "regime nano, data digits, epochs 30, batch_size 64, image_size 32, precision fp32",
        "Δ: to the step before\np: of 16 Welch's tests with moderated variances; corrected by Holm's method\n",
        "undecided; the paper's +2.69 does not fit",
        "no evidence of agreement with the paper: its gaps say nothing about ImageNet\ncorrelation of 16 gaps with",
    ):
        assert part in text
    assert "against  " not in text


def test_options_of_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, "--paired", "--equivalence", "1.5", "--correction", "bh", "--csv"]) == 0
    rows = {row["variant"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    table = roadmap.compare(EXAMPLES, paired=True, equivalence=1.5, correction="bh").table.set_index("variant")
    for name in ("delta_p", "delta_p_bh", "delta_r", "equal_p", "equal_p_corrected"):
        assert [float(row[name] or "nan") for row in rows.values()] == pytest.approx(table[name].tolist(), nan_ok=True)
    assert [row["outcome"] for row in rows.values()] == table["outcome"].tolist()
    assert set(table["outcome"]) == {"", "equal", "undecided"}
    assert main([*COMPARE, "--paired", "--equivalence", "1.5", "--correction", "bh"]) == 0
    text = capsys.readouterr().out
    for part in (
        "p (BH)",
        "p (equal)",
        "  equal  ",
        "equal: within ± 1.5 percentage points",
        "correlation over shared",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--equivalence", "-1"], "equivalence must be above 0 and at most 100 percentage points (got -1)"),
        (["--correction", "sidak"], "unknown correction 'sidak' (choose holm or bh)"),
        (["--by", "norm", "--paired"], "--by tests no gaps; leave out --paired, --equivalence and --correction"),
    ],
)
def test_options_that_are_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, *options]) == 2
    assert message in capsys.readouterr().err


def test_one_seed_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, record("kernel_7", 0, 80.0), record("gelu", 0, 81.0), record("gelu", 1, 9.0) | {"status": "failed"})
    assert main(["compare", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "one seed each, so there is no interval and no test: gaps may be noise" in text
    assert "95 %" not in text
    assert "caution: 1 unfinished run not included" in text


def test_outputs_for_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("kernel_7", "gelu")
    runs = str(write(tmp_path / "runs", *(record(name, seed, 80.0 + seed**2) for name in names for seed in (0, 1, 2))))
    for option in ("--json", "--csv", "--markdown", "--latex"):
        assert main(["compare", runs, option, str(tmp_path / option)]) == 0
        assert main(["compare", option, runs]) == 0
        assert capsys.readouterr().out == (tmp_path / option).read_text()
    groups = json.loads((tmp_path / "--json").read_text())
    with open(tmp_path / "--csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["top1"]) for row in rows] == pytest.approx([group["top1"] for group in groups])
    assert (groups[0]["parent"], groups[1]["parent"]) == (None, "kernel_7")
    assert groups[1]["seeds"] == [0, 1, 2]
    assert "| gelu " in (tmp_path / "--markdown").read_text()
    latex = (tmp_path / "--latex").read_text()
    assert latex.startswith("\\begin{tabular}")
    assert latex.isascii()
    assert "kernel\\_7" in latex


def test_where_sort_and_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, "--where", "recipe == 'enhanced' and seed < 2", "--sort=-top1", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)
    accuracies = [group["top1"] for group in groups]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {tuple(group["seeds"]) for group in groups} == {(0, 1)}
    assert main([*COMPARE, "--by", "norm", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "norm,runs,designs,top1,top1_std,top1_min,top1_max"
    assert main([*COMPARE, "--baseline", "gelu"]) == 0
    assert "Δ: to the variant named" in capsys.readouterr().out


def test_baselines_follow_a_users_own_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text("name: mine\nsteps: [step=kernel_7, step=layer_norm, step=gelu]\n")
    assert main([*COMPARE, "path=mine", "--config-dir", str(tmp_path), "--json"]) == 0
    parents = {group["variant"]: group["parent"] for group in json.loads(capsys.readouterr().out)}
    assert (parents["kernel_7"], parents["layer_norm"], parents["gelu"]) == (None, "kernel_7", "layer_norm")
    assert parents["kernel_9"] is None


def test_unequal_runs_are_refused_and_forced_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, record("kernel_7", 0, 80.0), record("gelu", 0, 81.0, epochs=60))
    for command in (["compare", str(tmp_path)], ["compare", str(tmp_path), "--by", "step"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("roadmap: these runs differ in epochs (60 and 30), so their accuracies")
        assert error.count("\n") == 1
        assert main([*command, "--force"]) == 0
        assert (
            "roadmap: these runs differ in epochs (60 and 30): their accuracies are not comparable"
            in capsys.readouterr().err
        )
    assert main(["compare", str(tmp_path), "--where", "epochs == 60"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run folders"),
        (["/dev/null/runs"], "no folder /dev/null/runs"),
        ([str(EXAMPLES), "--where", "seed > 7"], 'none of these 51 runs match --where "seed > 7"'),
        ([str(EXAMPLES), "--sort", "accuracy"], "--sort: unknown field 'accuracy' (choose activations_m, batch_size"),
        ([str(EXAMPLES), "--baseline", "gulu"], "no variant 'gulu' among these runs"),
        ([str(EXAMPLES), "--csv", "/dev/null/t.csv"], "cannot write /dev/null/t.csv: Not a directory"),
        ([str(EXAMPLES), "path=nosuch"], "unknown path 'nosuch' (choose paper)"),
        ([str(Path(__file__).parent)], "no run in "),
    ],
)
def test_wrong_requests_get_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, record("gelu", 0, 80.0))
    for number in range(7):
        (tmp_path / f"half{number}").mkdir()
        (tmp_path / f"half{number}" / "summary.json").write_text("{")
    assert main(["compare", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"roadmap: skipped {tmp_path}/half0/summary.json: ")
    assert lines[-1] == "roadmap: skipped 2 more; name fewer folders to list them"

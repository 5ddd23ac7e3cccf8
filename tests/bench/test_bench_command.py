"""``roadmap bench`` as a user types it, and its record beside the example runs."""

import csv
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roadmap.__main__ import main
from roadmap.bench import timing
from tests.records import example

PATH = """name: short
steps: [step=resnet50, step=gelu]
"""
FAST = ("batch_size=2", "bench.repeats=2", "bench.warmup=1", "bench.seconds=0")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A path of two steps, and where the records go."""
    root = tmp_path_factory.mktemp("bench")
    (root / "path").mkdir()
    (root / "path" / "short.yaml").write_text(PATH)
    return ["path=short", "--config-dir", str(root), f"runs_dir={root / 'runs'}", "device=cpu", *FAST]


@pytest.fixture(scope="module")
def record(arguments: list[str]) -> Path:
    """The record of a bench of both."""
    assert main(["bench", *arguments]) == 0
    (file,) = Path(arguments[3].removeprefix("runs_dir=")).glob("bench/*.json")
    return file


def test_record_has_every_row_and_its_settings(record: Path) -> None:
    found = json.loads(record.read_text())
    assert found["bench_id"] == record.stem
    assert [row["name"] for row in found["rows"]] == ["resnet50", "gelu"]
    assert found["settings"]["measure"] == ["inference", "training", "latency"]
    for row in found["rows"]:
        assert row["gmacs"] > 0
        assert {row[mode]["batch"] for mode in ("inference", "training")} == {2}
        assert row["latency"]["batch"] == 1
        assert row["training"]["peak_memory_gb"] is None or row["training"]["peak_memory_gb"] > 0
    assert found["device"] == "cpu"
    assert found["versions"]["torch"]


def test_counts_need_no_device_and_write_no_record(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments[:3], "device=meta", "regime=tiny", f"runs_dir={tmp_path}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [round(row["gmacs"], 2) for row in found["rows"]] == [4.09, 4.15]
    assert [row["published"]["gflops"] for row in found["rows"]] == ["4.09", "4.15"]
    assert not list(tmp_path.iterdir())


def test_rows_show_their_published_cells(capsys: pytest.CaptureFixture[str]) -> None:
    only = "bench.only=['ViT-S','ConvNeXt-S (iso.)']"
    assert main(["bench", "rows=table2", only, "device=meta"]) == 0
    _, _, vit, iso = capsys.readouterr().out.splitlines()
    assert vit.split()[1:] == ["4.60", "4.6", "22.05", "22", "8.25", "978.5", "1.00", "79.8"]
    assert iso.split()[2:] == ["4.29", "4.3", "22.31", "22", "8.20", "1038.7", "1.06", "79.7"]


def test_a_baseline_model_alone_is_measured_like_a_step(tmp_path: Path) -> None:
    alone = ["model=nano_vit", "bench.measure=[training]", f"runs_dir={tmp_path}", "device=cpu"]
    assert main(["bench", *alone, *FAST]) == 0
    (file,) = tmp_path.glob("bench/*.json")
    (row,) = json.loads(file.read_text())["rows"]
    assert row["design"]["library"] == "timm"
    assert row["training"]["images_per_second"]["median"] > 0
    assert row["training"]["relative"] == {"median": 1.0, "low": 1.0, "high": 1.0}


def test_table_and_csv_have_the_same_rows(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = [*arguments, "bench.only=[gelu]", "bench.measure=[latency]", f"runs_dir={tmp_path}"]
    assert main(["bench", *only, "--csv"]) == 0
    printed = capsys.readouterr()
    (line,) = csv.DictReader(io.StringIO(printed.out))
    assert line["name"] == "gelu"
    assert float(line["latency_milliseconds"]) > 0
    assert "[1/1] latency of gelu: batch 1" in printed.err
    assert f"record: {tmp_path}/bench/path+short-cpu-" in printed.err


def test_failing_network_is_reported_and_others_are_measured(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = timing.build_network

    def greedy(composed: Any) -> nn.Module:
        if composed.variant == "gelu":
            raise torch.OutOfMemoryError("no room")
        return build(composed)

    monkeypatch.setattr(timing, "build_network", greedy)
    assert main(["bench", *arguments, "bench.measure=[inference]", f"runs_dir={tmp_path}"]) == 1
    printed = capsys.readouterr()
    assert "gelu, inference: out of memory for one image" in printed.out
    assert printed.err.endswith("roadmap: 1 of 2 networks could not be measured; see the notes\n")
    (file,) = tmp_path.glob("bench/*.json")
    rows = json.loads(file.read_text())["rows"]
    assert rows[0]["inference"]["images_per_second"]["median"] > 0
    assert rows[1]["inference"] == {"error": "out of memory for one image"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("precision=fp8", "unknown precision 'fp8' (choose bf16, fp16 or fp32)"),
        ("compile=7 device=meta", "compile must be true or false or auto (got 7)"),
        ("device=tpu", "device=tpu is not available on this machine (choose auto or cpu)"),
        ("runs_dir=/dev/null", "cannot write to /dev/null/bench: Not a directory; choose another runs_dir"),
        ("--json --csv", "argument --csv: not allowed with argument --json; see `roadmap bench --help`"),
        ("fast", "invalid override 'fast' (must be group=option or setting=value)"),
    ],
)
def test_invalid_requests_are_refused(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "step=gelu", *words.split()]) == 2
    assert capsys.readouterr().err == f"roadmap: {sentence}\n"


# the example runs of both steps and of a third, which the bench does not have
RUNS = [str(example(step)) for step in ("resnet50", "gelu", "layer_norm")]


@pytest.mark.parametrize(("x", "label"), [("inference", "images per second in inference"), ("latency", "milliseconds")])
def test_figure_plots_accuracy_by_speed(x: str, label: str, record: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    assert main(["figure", *RUNS, "--kind", "tradeoff", "--bench", str(record), "--x", x, "-o", str(file)]) == 0
    words = " ".join(" ".join(ET.parse(file).getroot().itertext()).split())
    for part in (label, "measured on", "1 of 3 designs left out, without ", "resnet50", "gelu"):
        assert part in words
    assert "layer_norm" not in words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("figure RUNS -o a.png --kind tradeoff --x latency", "or name a record of `roadmap bench` with --bench)"),
        ("figure RUNS -o a.png --kind tradeoff --bench BENCH --x gmacs", "unknown x 'gmacs' (choose inference, train"),
        ("figure RUNS -o a.png --kind curves --bench BENCH", "--bench does not go with --kind curves"),
        ("figure RUNS -o a.png --kind tradeoff --bench RUNS", "no bench in "),
        ("report OTHER --bench BENCH -o a.html", "no bench matches these runs: "),
    ],
)
def test_conflicting_bench_options_are_refused(
    words: str, sentence: str, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUNS": str(example("gelu")), "OTHER": str(example("kernel_7")), "BENCH": str(record)}
    assert main([places.get(word, word) for word in words.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_report_plots_accuracy_against_speed(record: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", *RUNS[:2], "--bench", str(record), "-o", str(page)]) == 0
    shown = html.unescape(page.read_text(encoding="utf-8"))
    charts = re.findall(r'<script type="application/json">([^<]*)</script>', shown)
    (speed_chart,) = [chart for chart in charts if "measured inference throughput" in chart]
    points = [row for rows in json.loads(speed_chart)["datasets"].values() for row in rows if "top1" in row]
    median = {
        row["name"]: row["inference"]["images_per_second"]["median"] for row in json.loads(record.read_text())["rows"]
    }
    assert {row["name"]: row["x"] for row in points} == {name: pytest.approx(speed) for name, speed in median.items()}
    assert "Inference measured on " in shown

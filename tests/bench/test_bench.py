"""Interleaved timing, medians, running out of memory, records and the table of the bench."""

import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from roadmap.bench import timing
from roadmap.bench.command import text
from roadmap.bench.models import BenchSettings, compose_bench
from roadmap.bench.reading import bench_table, load_bench, speeds, with_speeds
from roadmap.bench.record import add_summaries, environment, measured, median_and_quartiles, write_record
from roadmap.bench.timing import NetworkTimer, fit_batch, interleave, peak_memory, time_interleaved
from roadmap.errors import RequestError, WorkError
from roadmap.runtime.device import process_memory_gb

CPU = torch.device("cpu")
SETTINGS = BenchSettings(
    measure=("inference",), batch_size=8, warmup=1, repeats=4, seconds=0.0, only=None, reference=None
)


@pytest.fixture(scope="module", autouse=True)
def nothing_old_to_collect() -> Iterator[None]:
    """A bench looks for garbage before each network, and there is much to look through in a test's process."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build what ``timer`` asks for instead of a network of a config."""
    monkeypatch.setattr(timing, "build_network", lambda config: config.make())


class Small(nn.Module):
    """Has memory for so many images, and says what it sees."""

    def __init__(self, most: int = 100, seen: Callable[[Tensor], object] = len):
        super().__init__()
        self.most, self.seen, self.head = most, seen, nn.Conv2d(3, 10, 4)

    def forward(self, batch: Tensor) -> Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("no room")
        self.seen(batch)
        return self.head(batch).flatten(1)


def timer(make: Callable[[], nn.Module] = Small, mode: Any = "inference", *, compiled: bool = False) -> NetworkTimer:
    how = {"channels_last": True, "compile": compiled, "checkpoint_stages": 0, "pointwise_linear": "auto"}
    settings = SimpleNamespace(image_size=4, precision="fp32", **how)
    config: Any = SimpleNamespace(make=make, settings=settings)
    return NetworkTimer(config, mode, 8, CPU)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_each_network_gets_the_batch_that_fits(mode: str) -> None:
    def broken() -> nn.Module:
        raise TypeError("no such layer\nand more")

    timers = {"large": timer(lambda: Small(3), mode), "small": timer(Small, mode)}
    timers |= {"none": timer(lambda: Small(0), mode), "broken": timer(broken, mode)}
    found = time_interleaved(timers, SETTINGS)
    assert [found[name].get("batch") for name in found] == [2, 8, None, None]  # 8, 4, 2
    assert found["none"] == {"error": "out of memory for one image"}
    assert found["broken"] == {"error": "TypeError: no such layer"}
    assert [len(found[name]["seconds"]) for name in ("large", "small")] == [4, 4]


def test_batch_is_halved_until_it_fits() -> None:
    asked = []

    def attempt(batch: int) -> int:
        asked.append(batch)
        return len(torch.empty(batch, 2**48 if batch > 1 else 1))

    assert fit_batch(attempt, 5, CPU) == (1, 1)
    assert asked == [5, 2, 1]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        fit_batch(lambda batch: torch.empty(2**50), 2, CPU)


def test_interleaving_cancels_drift() -> None:
    """A machine that becomes slower with every turn: one network takes 2 s and the other 3 s, by a fresh machine."""
    order: list[str] = []

    def timed(seconds: float, name: str) -> float:
        order.append(name)
        return seconds * (1 + 0.01 * len(order))

    taken = interleave({"two": partial(timed, 2.0, "two"), "three": partial(timed, 3.0, "three")}, repeats=100)
    assert order[:6] == ["three", "two", "two", "three", "three", "two"]
    rows = [{"name": name, "inference": {"batch": 6, "seconds": taken[name]}} for name in taken]
    add_summaries(rows, "inference", "three")
    assert rows[0]["inference"]["relative"]["median"] == pytest.approx(1.5, rel=0.005)


def test_medians_quartiles_and_ratios_equal_hand_computation() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "latency": {"batch": 1, "seconds": [0.1, 0.2, 0.4]}},
        {"name": "b", "latency": {"batch": 2, "seconds": [0.2, 0.2, 0.2]}},
        {"name": "c", "latency": {"error": "out of memory for one image"}},
    ]
    add_summaries(rows, "latency", "a")
    a, b, c = (row["latency"] for row in rows)
    assert a["milliseconds"] == pytest.approx({"median": 200, "low": 150, "high": 300})
    assert a["images_per_second"] == pytest.approx({"median": 5, "low": 3.75, "high": 7.5})
    assert b["relative"] == pytest.approx({"median": 2, "low": 1.5, "high": 3})  # in images, for any batch
    assert c == {"error": "out of memory for one image"}
    values = list(np.random.default_rng(0).uniform(size=10))
    low, median, high = np.percentile(values, [25, 50, 75])
    assert median_and_quartiles(values) == pytest.approx({"median": median, "low": low, "high": high})


def test_only_short_steps_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def clock(seconds: float, work: Callable[[], object], device: torch.device) -> float:
        before = len(calls)
        work()
        return seconds * (len(calls) - before)

    for seconds, wanted in ((0.03, 7), (0.2, 1), (5.0, 1)):
        monkeypatch.setattr(timing, "clock", partial(clock, seconds))
        one = timer(lambda: Small(seen=lambda batch: calls.append(len(batch))))
        one.fit(0.2)
        assert one.calls == wanted
        assert one.measure(resident=True, warmup=1) == pytest.approx(seconds)
    assert set(calls) == {8}


def test_only_latency_waits_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, wanted in (("latency", ["step", "wait"] * 2), ("inference", ["step", "step"])):
        events: list[str] = []
        monkeypatch.setattr(timing, "synchronise", lambda device, events=events: events.append("wait"))
        one = timer(lambda events=events: Small(seen=lambda batch: events.append("step")), mode)  # type: ignore[misc]
        one.calls = 2
        one.measure(resident=True, warmup=0)
        assert events == ["wait", *wanted, "wait"]


@pytest.mark.parametrize(("memory", "builds", "steps"), [(2**40, 3, 1 + 2 + 1 + 4), (1, 2 + 4, 1 + 2 + 4 * 2)])
def test_networks_are_rebuilt_unless_all_fit_into_memory(
    memory: int, builds: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Small] = []
    seen: list[int] = []

    def make() -> nn.Module:
        built.append(Small(seen=lambda batch: seen.append(len(batch))))
        return built[-1]

    monkeypatch.setattr(timing, "total_memory", lambda device: memory)
    monkeypatch.setattr(timing, "peak_memory", lambda work, device: (work(), 0.1))
    time_interleaved({"one": timer(make)}, SETTINGS)
    assert (len(built), len(seen)) == (builds, steps)


def test_out_of_memory_in_the_rounds_is_reported() -> None:
    calls: list[int] = []

    def out_in_the_rounds(batch: Tensor) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(WorkError, match="cpu ran out of memory in the rounds though each network had room before"):
        time_interleaved({"one": timer(lambda: Small(seen=out_in_the_rounds))}, SETTINGS)


def test_code_is_compiled_for_the_measured_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of another batch size before it would otherwise get it code for any size."""
    asked: list[object] = []

    def compiled(network: nn.Module, **how: object) -> nn.Module:
        asked.append(how)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    found = time_interleaved({"one": timer(compiled=True)}, SETTINGS)
    assert asked == [{"dynamic": False}] * 2
    assert found["one"]["peak_memory_gb"] is None  # the compiler's would be in it


def test_gpu_peak_memory_excludes_earlier_allocations(monkeypatch: pytest.MonkeyPatch) -> None:
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * 2**30)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * 2**30)
    assert peak_memory(lambda: len(reset), torch.device("cuda")) == (1, 5.0)


@pytest.mark.skipif(process_memory_gb("VmHWM") is None, reason="only Linux reports the peak")
def test_cpu_peak_memory_excludes_earlier_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        one = torch.ones(48 * 2**20 // 4)
        two = one + 1
        del one, two
        torch.ones(64 * 2**20 // 4)

    torch.ones(300 * 2**20 // 4)  # a higher peak before
    _, peak = peak_memory(work, CPU)
    assert peak is not None
    # Linux counts pages in lots, a core at a time
    assert 94 <= peak * 1024 < 112
    monkeypatch.setattr(timing, "reset_peak_memory", lambda device: False)
    assert peak_memory(work, CPU) == (None, None)


OWN = """name: own
rows:
  - {label: ours, change: [step=gelu], image_size: 32}
  - {label: wide, change: [step=gelu, design.width=8], image_size: 64, why: wider}
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of rows and a path of the user's own."""
    folder = tmp_path_factory.mktemp("conf")
    for group, content in (("rows/own", OWN), ("path/short", "name: short\nsteps: [step=gelu, step=layer_norm]\n")):
        file = folder / f"{group}.yaml"
        file.parent.mkdir()
        file.write_text(content)
    return folder


@pytest.fixture(scope="module")
def record(conf: Path) -> dict[str, Any]:
    """A real bench of two rows on this machine."""
    fast = ["bench.repeats=2", "bench.warmup=1", "bench.seconds=0", "bench.batch_size=2"]
    overrides = ["rows=own", *fast, "bench.reference=wide 64", "bench.measure=[inference,training]"]
    return measured(compose_bench(overrides, [str(conf)]), overrides, CPU)


def changed(record: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(record))
    return copied


def test_rows_are_measured_with_their_overrides(record: dict[str, Any]) -> None:
    ours, wide = record["rows"]
    assert (ours["name"], ours["image_size"], wide["name"], wide["image_size"]) == ("ours 32", 32, "wide 64", 64)
    assert wide["design"] == ours["design"] | {"width": 8}
    assert record["settings"]["batch_size"] == 2
    assert environment(CPU).items() <= record.items()
    ratios = [a / b for a, b in zip(wide["training"]["seconds"], ours["training"]["seconds"], strict=True)]
    assert ours["training"]["relative"]["median"] == pytest.approx(sum(ratios) / 2)
    assert "latency" not in ours


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("rows=own step=gelu", "step=gelu conflicts with rows=, which defines the networks; leave out one of them"),
        ("rows=own bench.only=[swin]", "no 'swin' in rows own (choose ours 32 or wide 64"),
        ("path=short bench.reference=resnet50", "no 'resnet50' in path short (choose gelu or layer_norm)"),
        ("rows=tabel1", "unknown rows 'tabel1' (choose own, paper"),
        ("bench.measure=[speed]", "unknown bench.measure[0] 'speed' (choose inference, latency or training)"),
        ("bench.repeats=1", "bench.repeats must be at least 2 (got 1)"),
    ],
)
def test_invalid_requests_are_refused(overrides: str, sentence: str, conf: Path) -> None:
    with pytest.raises(RequestError) as error:
        compose_bench(overrides.split(), [str(conf)])
    assert sentence in str(error.value)


def test_all_networks_have_one_batch_size(conf: Path) -> None:
    bench = compose_bench(["path=short"], [str(conf)])
    assert [entry.composed.settings.batch_size for entry in bench.entries] == [32, 32]
    assert bench.reference == "gelu"
    for overrides, wanted in ((["batch_size=5"], 5), (["bench.batch_size=7"], 7)):
        (alone,) = compose_bench(["step=gelu", *overrides]).entries
        assert (alone.name, alone.composed.settings.batch_size) == ("gelu", wanted)


def test_records_are_files_and_tables(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    file = write_record(record, tmp_path / "bench")
    write_record(record | {"bench_id": "another"}, tmp_path / "bench")
    assert json.loads(file.read_text()) == record
    assert set(load_bench(tmp_path)["bench_id"]) == {record["bench_id"], "another"}
    table, ours = load_bench(file), record["rows"][0]
    assert table["training_images_per_second"][0] == ours["training"]["images_per_second"]["median"]
    assert table["training_images_per_second_high"][0] == ours["training"]["images_per_second"]["high"]
    assert list(table["inference_batch"]) == [2, 2]
    assert "latency_milliseconds" not in table


def run(design: dict[str, Any], image_size: int = 32, layer_scale: float | None = 1e-6) -> dict[str, Any]:
    network = {"layer_scale": layer_scale}
    return {"design": design, "image_size": image_size, "definition": {"recipe": {"network": network}}}


def test_speeds_match_design_image_size_and_layer_scale(record: dict[str, Any]) -> None:
    ours, wide = (row["design"] for row in record["rows"])
    runs = pd.DataFrame([run(ours), run(wide, 64), run(wide), run(ours, layer_scale=None)], index=[3, 1, 4, 2])
    runs.loc[9] = [ours, 32, {}]  # a record that does not say
    table, words = with_speeds(runs, bench_table([record]), "inference_images_per_second", "speed")
    rates = [row["inference"]["images_per_second"]["median"] for row in record["rows"]]
    assert list(table["speed"][:2]) == rates
    assert table["speed"][2:].isna().all()
    assert words.startswith("inference measured on ")
    assert words.endswith(", fp32, batch 2")
    with pytest.raises(RequestError, match=r"none of its 2 networks has their design at image size 32; run `roadmap"):
        with_speeds(runs[2:], bench_table([record]), "inference_images_per_second", "speed")


def test_latest_bench_wins_and_two_machines_are_refused(record: dict[str, Any]) -> None:
    later, half = changed(record) | {"ended": "2999-01-01T00:00:00+00:00"}, changed(record)
    later["rows"][0]["training"]["images_per_second"]["median"] = 1e6
    half["rows"][0]["precision"] = "bf16"
    found, _ = speeds(bench_table([later, record]), "training_images_per_second")
    assert 1e6 in found.values()
    for benches, column, words in (
        (
            [record, record | {"device": "NVIDIA H100"}],
            "training_images_per_second",
            "on 2 machines, .* and NVIDIA H100",
        ),
        ([half], "training_images_per_second", r"in 2 ways, bf16, .* and fp32, "),
        ([record], "latency_milliseconds", r"no latency in these benches; measure it: bench.measure=\[latency\]"),
    ):
        with pytest.raises(RequestError, match=words):
            speeds(bench_table(benches), column)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RequestError, match="is not a record of `roadmap bench`"):
        load_bench(tmp_path / "a.json")
    with pytest.raises(RequestError, match=r"no bench in .*b.json; name files or folders"):
        load_bench(tmp_path / "b.json")


def test_text_reports_deviations_from_the_request(record: dict[str, Any]) -> None:
    odd = changed(record)
    ours, wide = odd["rows"]
    ours["training"]["batch"] = 1
    wide["training"] = {"error": "out of memory for one image"}
    ours["published"] = {"gflops": "45.0", "v100": "774.7", "top1": "82.1"}
    wide["published"] = {"gflops": f"{wide['gmacs']:.1f}", "v100": "1549.4"}
    ours["why"] = wide["why"] = "counted otherwise"
    lines = text(odd).splitlines()
    assert lines[0].endswith("batch 2, fp32, channels_last")
    assert "45.0*" in lines[3]
    assert lines[3].split()[-3:] == ["774.7", "0.50", "82.1"]
    assert "ours 32, training: batch 1 instead of 2, to fit into memory" in lines
    assert "wide 64, training: out of memory for one image" in lines
    assert [line for line in lines if line.startswith("*")] == ["* ours 32: counted otherwise"]

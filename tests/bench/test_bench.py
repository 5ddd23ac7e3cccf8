"""Interleaved timing, medians, running out of memory, clocks, records and text of the bench."""

import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from roadmap.bench.environment import environment
from roadmap.bench.interleaved_timing import NetworkTimer, all_fit, time_interleaved
from roadmap.bench.memory import peak_memory
from roadmap.bench.models import compose_bench
from roadmap.bench.reading import bench_table, load_bench, speeds, with_speeds
from roadmap.bench.record import measured, write_record
from roadmap.bench.settings import BenchSettings
from roadmap.bench.summaries import add_summaries, median_and_quartiles, relative
from roadmap.bench.text import text
from roadmap.bench.timing import clock, fit_batch, interleave
from roadmap.errors import RequestError, WorkError

CPU = torch.device("cpu")
SETTINGS = BenchSettings(
    measure=("inference",), batch_size=8, warmup=1, repeats=4, seconds=0.0, only=None, reference=None
)
MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def nothing_old_to_collect() -> Iterator[None]:
    """A bench looks for garbage before each network, and there is much to look through in a test's process."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Small(nn.Module):
    """Has memory for so many images, and says what it sees."""

    def __init__(self, most: int = 100, seen: Callable[["Small", Tensor], object] = lambda network, batch: None):
        super().__init__()
        self.most, self.seen, self.head = most, seen, nn.Conv2d(3, 10, 4)

    def forward(self, batch: Tensor) -> Tensor:
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("no room")
        self.seen(self, batch)
        return self.head(batch).flatten(1)


def turn(make: Callable[[], nn.Module], **changes: Any) -> NetworkTimer:
    fields: dict[str, Any] = {"mode": "inference", "image_size": 4, "precision": "fp32", "channels_last": True}
    fields |= {"compiled": False, "batch": 8, "device": CPU, "clock": clock(CPU), "params": 490}
    return NetworkTimer(make, **(fields | changes))


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_each_network_gets_the_batch_that_fits(mode: str) -> None:
    said: list[str] = []
    timers = {"large": turn(lambda: Small(3), mode=mode), "small": turn(Small, mode=mode)}
    timers["none"] = turn(lambda: Small(0), mode=mode)
    found = time_interleaved(timers, SETTINGS, said.append)
    assert [found[name].get("batch") for name in found] == [2, 8, None]  # 8, 4, 2
    assert found["none"] == {"error": "out of memory for one image"}
    assert [len(found[name]["seconds"]) for name in ("large", "small")] == [4, 4]
    assert said[2] == f"[3/3] {mode} of none: out of memory for one image"


def test_batch_is_halved_until_it_fits() -> None:
    asked = []

    def attempt(batch: int) -> int:
        asked.append(batch)
        return len(torch.empty(batch, 2**48 if batch > 1 else 1))

    assert fit_batch(attempt, 5, CPU) == (1, 1)
    assert asked == [5, 2, 1]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        fit_batch(lambda batch: torch.empty(2**50), 2, CPU)
    with pytest.raises(ZeroDivisionError):
        fit_batch(lambda batch: batch // 0, 2, CPU)


def test_errors_of_one_network_do_not_stop_the_others() -> None:
    def broken() -> nn.Module:
        raise TypeError("no such layer\nand more")

    found = time_interleaved({"broken": turn(broken), "fine": turn(Small)}, SETTINGS, lambda line: None)
    assert found["broken"] == {"error": "TypeError: no such layer"}
    assert len(found["fine"]["seconds"]) == 4


def test_interleaving_cancels_drift() -> None:
    """A machine that becomes slower with every turn: one network takes 2 s and the other 3 s, by a fresh machine."""
    passed, order = 0, []

    def timed(seconds: float, name: str) -> float:
        nonlocal passed
        order.append(name)
        passed += 1
        return seconds * (1 + 0.01 * passed)

    takes = {"two": partial(timed, 2.0, "two"), "three": partial(timed, 3.0, "three")}
    taken = interleave(takes, warmup=1, repeats=100)
    assert order[:6] == ["three", "two", "two", "three", "three", "two"]
    assert len(order) == 202
    two, three = ({"batch": 6, "seconds": taken[name]} for name in ("two", "three"))
    assert relative(two, three)["median"] == pytest.approx(1.5, rel=0.005)
    # one after the other the second would have seemed 2.5 times as slow
    assert pytest.approx(2.5) == 3 * (1 + 0.01 * 150) / (2 * (1 + 0.01 * 50))


def test_medians_quartiles_and_ratios_equal_hand_computation() -> None:
    rows = [
        {"name": "a", "against": None, "latency": {"batch": 1, "seconds": [0.1, 0.2, 0.4]}},
        {"name": "b", "against": "c", "latency": {"batch": 1, "seconds": [0.1, 0.1, 0.1]}},
        {"name": "c", "against": None, "latency": {"error": "out of memory for one image"}},
        {"name": "d", "against": "b", "latency": {"batch": 1, "seconds": [0.2, 0.2, 0.4]}},
    ]
    add_summaries(rows, ["latency"], "a")
    a, b, c, d = (row["latency"] for row in rows)
    assert a["milliseconds"] == pytest.approx({"median": 200, "low": 150, "high": 300})
    assert a["images_per_second"] == pytest.approx({"median": 5, "low": 3.75, "high": 7.5})
    assert b["relative"] == pytest.approx({"median": 2, "low": 1.5, "high": 3})
    assert "against" not in b  # to one that did not run
    assert d["against"] == pytest.approx({"median": 2, "low": 2, "high": 3})
    assert c == {"error": "out of memory for one image"}
    values = list(np.random.default_rng(0).uniform(size=10))
    low, median, high = np.percentile(values, [25, 50, 75])
    assert median_and_quartiles(values) == pytest.approx({"median": median, "low": low, "high": high})


def test_throughput_is_in_images_for_any_batch() -> None:
    assert relative({"batch": 8, "seconds": [2.0, 4.0]}, {"batch": 2, "seconds": [1.0, 1.0]})["median"] == 1.5


def test_only_short_steps_are_repeated() -> None:
    def fake(seconds: float) -> Callable[[Callable[[], object]], float]:
        def timed(work: Callable[[], object]) -> float:
            before = len(calls)
            work()
            return seconds * (len(calls) - before)

        return timed

    calls: list[int] = []
    for seconds, wanted in ((0.03, 7), (0.2, 1), (5.0, 1)):
        one = turn(lambda: Small(seen=lambda network, batch: calls.append(len(batch))), clock=fake(seconds))
        one.fit(0.2)
        assert one.calls == wanted
        assert one.measure(resident=True, warmup=1) == pytest.approx(seconds)
    assert set(calls) == {8}


@pytest.mark.parametrize("mode", ["inference", "latency"])
def test_only_latency_synchronises_after_each_image(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("roadmap.bench.interleaved_timing.synchronise", lambda device: events.append("wait"))
    one = turn(lambda: Small(seen=lambda network, batch: events.append("step")), mode=mode, calls=2)
    one.measure(resident=True, warmup=0)
    assert events == (["step", "wait"] * 2 if mode == "latency" else ["step", "step"])


def test_networks_are_rebuilt_unless_all_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for memory, builds, steps in ((2**40, 3, 1 + 2 + 1 + 4), (1, 2 + 4, 1 + 2 + 4 * 2)):
        built: list[Small] = []
        seen: list[int] = []

        def make(built: list[Small] = built, seen: list[int] = seen) -> nn.Module:
            built.append(Small(seen=lambda network, batch: seen.append(len(batch))))
            return built[-1]

        monkeypatch.setattr("roadmap.bench.interleaved_timing.total_memory", lambda device, memory=memory: memory)
        time_interleaved({"one": turn(make)}, SETTINGS, lambda line: None)
        assert (len(built), len(seen)) == (builds, steps)
    waiting = turn(Small, params=100 * MIB, mode="training", memory_gb=3.0)
    # 1.6 GiB of weights, gradients and moments each, 3 GiB at work
    assert all_fit({"a": waiting, "b": waiting}, 13 * 2**30)
    assert not all_fit({"a": waiting, "b": waiting}, 12 * 2**30)


def test_out_of_memory_in_the_rounds_is_reported() -> None:
    calls: list[int] = []

    def out_in_the_rounds(network: Small, batch: Tensor) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(WorkError, match="cpu ran out of memory in the rounds though each network had room before"):
        time_interleaved({"one": turn(lambda: Small(seen=out_in_the_rounds))}, SETTINGS, lambda line: None)


def test_code_is_compiled_for_the_measured_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of another batch size before it would otherwise get it code for any size."""
    asked: list[object] = []

    def compiled(network: nn.Module, **how: object) -> nn.Module:
        asked.append(how)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    found = time_interleaved({"one": turn(Small, compiled=True)}, SETTINGS, lambda line: None)
    assert asked == [{"dynamic": False}] * 2
    assert found["one"]["peak_memory_gb"] is None  # the compiler's would be in it


class FakeEvent:
    """A CUDA event that reads the log's length as its time."""

    log: list[str]

    def __init__(self, enable_timing: bool):
        assert enable_timing
        self.at = -1

    def record(self) -> None:
        self.log.append("record")
        self.at = len(self.log)

    def elapsed_time(self, other: "FakeEvent") -> float:
        self.log.append("read")
        return 1000.0 * (other.at - self.at)


def test_gpu_is_timed_with_events(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(FakeEvent, "log", log, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: log.append(f"wait for {device}"))
    assert clock(torch.device("cuda:1"))(lambda: log.append("step")) == 2.0
    wait = "wait for cuda:1"
    assert log == [wait, "record", "step", "record", wait, "read"]


def test_gpu_peak_memory_excludes_earlier_allocations(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([7 * 2**30])
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * 2**30)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(peaks))
    gpu = torch.device("cuda")
    with peak_memory(gpu) as peak:
        assert reset == [gpu]
    assert peak.gb == 5.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells the peak")
def test_cpu_peak_memory_excludes_earlier_work() -> None:
    torch.ones(300 * MIB // 4)  # a higher peak before
    with peak_memory(CPU) as peak:
        one = torch.ones(48 * MIB // 4)
        two = one + 1
        del one, two
        torch.ones(64 * MIB // 4)
    assert peak.gb is not None
    # Linux counts pages in lots, a core at a time
    assert 94 <= peak.gb * 1024 < 112


def test_unknown_cpu_peak_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with peak_memory(CPU) as peak:
        pass
    assert peak.gb is None


def test_environment_lists_hardware_and_versions() -> None:
    found = environment(CPU)
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert torch.backends.cpu.get_cpu_capability() in found["processor"]


OWN = """name: own
rows:
  - {label: ours, change: [step=gelu], image_size: 32}
  - {label: wide, change: [step=gelu, design.width=8], image_size: 64, why: wider}
against: {wide 64: ours 32}
"""
PATH = """name: short
steps: [step=gelu, step=layer_norm]
"""


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of rows and a path of the user's own."""
    folder = tmp_path_factory.mktemp("conf")
    for group, text_ in (
        ("rows/own", OWN),
        ("path/short", PATH),
        ("rows/astray", OWN.replace("64: ours 32", "64: x")),
    ):
        file = folder / f"{group}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text_)
    return folder


@pytest.fixture(scope="module")
def record(conf: Path) -> dict[str, Any]:
    """A real bench of two rows on this machine."""
    fast = ["bench.repeats=2", "bench.warmup=1", "bench.seconds=0", "bench.batch_size=2"]
    overrides = ["rows=own", *fast, "bench.reference=wide 64", "bench.measure=[inference,training]"]
    return measured(compose_bench(overrides, [str(conf)]), overrides, CPU, lambda line: None)


def test_rows_are_measured_with_their_overrides(record: dict[str, Any]) -> None:
    ours, wide = record["rows"]
    assert (ours["name"], ours["image_size"], wide["name"], wide["image_size"]) == ("ours 32", 32, "wide 64", 64)
    assert wide["design"] == ours["design"] | {"width": 8}
    assert record["settings"]["batch_size"] == 2
    for mode in ("inference", "training"):
        for row in (ours, wide):
            assert len(row[mode]["seconds"]) == 2
            assert row[mode]["images_per_second"]["median"] > 0
    assert wide["training"]["relative"]["median"] == 1.0
    ratios = [a / b for a, b in zip(wide["training"]["seconds"], ours["training"]["seconds"], strict=True)]
    assert ours["training"]["relative"]["median"] == pytest.approx(sum(ratios) / 2)
    assert "latency" not in ours


def test_rows_are_selected_and_pairs_must_exist(conf: Path) -> None:
    bench = compose_bench(["rows=own", "bench.only=[ours 32]"], [str(conf)])
    assert [entry.name for entry in bench.entries] == ["ours 32"]
    with pytest.raises(RequestError, match=r"no 'x' in rows own, whose against \(choose ours 32 or wide 64"):
        compose_bench(["rows=astray"], [str(conf)])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("rows=own step=gelu", "step=gelu conflicts with rows=, which defines the networks; leave out one of them"),
        ("rows=own bench.only=[swin]", "no 'swin' in rows own (choose ours 32 or wide 64"),
        ("path=short bench.reference=resnet50", "no 'resnet50' in path short (choose gelu or layer_norm)"),
        ("rows=tabel1", "unknown rows 'tabel1' (choose astray, own, paper"),
        ("bench.measure=[speed]", "unknown bench.measure[0] 'speed' (choose inference, latency or training)"),
        ("bench.measure=[]", "bench.measure must not be empty; for counts only, use device=meta"),
        ("bench.repeats=1", "bench.repeats must be at least 2 (got 1)"),
        ("bench.seconds=-1", "bench.seconds must be at least 0 (got -1)"),
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


def test_benches_of_one_second_have_different_files(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    file = write_record(record, str(tmp_path))
    bench = compose_bench(["step=gelu", "bench.repeats=2", "bench.seconds=0", "bench.measure=[latency]"])
    other, again = (measured(bench, [], CPU, lambda line: None) for _ in range(2))
    files = {write_record(one, str(tmp_path)) for one in (other, again)}
    assert len({*files, file}) == 3
    assert json.loads(file.read_text()) == record
    table = load_bench(tmp_path)
    assert sorted(set(table["bench_id"])) == sorted(one["bench_id"] for one in (record, other, again))
    assert len(load_bench(file)) == 2


def test_table_equals_the_records(record: dict[str, Any]) -> None:
    table = bench_table([record])
    ours = record["rows"][0]
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
    later = json.loads(json.dumps(record)) | {"ended": "2999-01-01T00:00:00+00:00"}
    later["rows"][0]["training"]["images_per_second"]["median"] = 1e6
    found, _ = speeds(bench_table([later, record]), "training_images_per_second")
    assert 1e6 in found.values()
    other = record | {"device": "NVIDIA H100 80GB HBM3"}
    with pytest.raises(
        RequestError, match=r"measured on 2 machines, .*threads? and NVIDIA H100 80GB HBM3, and cannot be"
    ):
        speeds(bench_table([record, other]), "training_images_per_second")
    half = json.loads(json.dumps(record))
    half["rows"][0]["precision"] = "bf16"
    with pytest.raises(RequestError, match=r"measured in 2 ways, bf16, .* and fp32, "):
        speeds(bench_table([half]), "training_images_per_second")
    with pytest.raises(RequestError, match=r"no latency in these benches; measure it: bench.measure=\[latency\]"):
        speeds(bench_table([record]), "latency_milliseconds")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot read .* as a bench"),
        ("[]", "is not a record of `roadmap bench`"),
        ("{}", "bench_id or rows is missing"),
    ],
)
def test_other_files_are_refused(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RequestError, match=sentence):
        load_bench(tmp_path / "a.json")
    with pytest.raises(RequestError, match=r"no bench .*b.json; name a file or a folder"):
        load_bench(tmp_path / "b.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"no bench in .*empty"):
        load_bench(tmp_path / "empty")


def test_text_reports_deviations_from_the_request(record: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(record))
    ours, wide = changed["rows"]
    ours["training"]["batch"] = 1
    wide["training"] = {"error": "out of memory for one image"}
    ours["published"] = {"tables": "1, 12", "rows": "2", "gflops": "45.0", "v100": "774.7", "top1": "82.1"}
    wide["published"] = {"tables": "1", "rows": "1", "gflops": f"{wide['gmacs']:.1f}", "v100": "1549.4"}
    ours["why"] = wide["why"] = "counted otherwise"
    wide["against"] = None
    ours["against"], ours["inference"]["against"] = "wide 64", {"median": 2.0, "low": 1.25, "high": 2.5}
    lines = text(changed).splitlines()
    assert lines[0].endswith("batch 2, fp32, channels_last")
    assert "45.0*" in lines[3]
    assert lines[3].split()[-3:] == ["774.7", "0.50", "82.1"]
    assert "3 rows of the paper's Tables 1, 12: 2 networks" in lines
    assert "ours 32, training: batch 1 instead of 2, to fit into memory" in lines
    assert "wide 64, training: out of memory for one image" in lines
    assert [line for line in lines if line.startswith("*")] == ["* ours 32: counted otherwise"]
    assert lines[-1].split() == ["wide", "64", "/", "ours", "32", "2.000", "(1.250–2.500)", "-"]

"""Properties of records, run folders and paths, checked with hypothesis."""

import contextlib
import copy
import io
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadmap import load_history, load_runs
from roadmap.__main__ import main
from roadmap.errors import RequestError
from roadmap.schema.design import AXES, Design
from roadmap.steps.path_file import PathFile, with_parents
from tests.records import example, make_sweep, summary_of

ROOT = Path(__file__).parent.parent
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
HINTS = get_type_hints(Design)
WORDS = [name for name in AXES.values() if get_origin(HINTS[name]) is Literal]
sensible = st.fixed_dictionaries(
    {
        "depths": st.tuples(*[st.integers(1, 3)] * 4),
        "width": st.integers(1, 20),
        "kernel": st.sampled_from([1, 3, 5, 7]),
        **{name: st.sampled_from(get_args(HINTS[name])) for name in WORDS},
    }
)


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert str(error)


@few
@given(sensible, st.dictionaries(st.sampled_from([*AXES.values(), "stage_ratio", ""]), anything, max_size=3))
def test_any_design_is_valid_or_one_error_line(values: dict[str, Any], odd: dict[str, Any]) -> None:
    try:
        design = Design.from_mapping(values | odd)
    except RequestError as error:
        one_line(error)
        return
    again = Design.from_mapping(json.loads(json.dumps(design.to_dict())))
    assert again == design
    assert hash(again) == hash(design)


damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 7)), min_size=1, max_size=20)),
)


def damaged(content: bytes, how: tuple[str, Any]) -> bytes:
    if how[0] == "cut":
        return content[: int(how[1] * len(content))]
    changed = bytearray(content)
    for place, bit in how[1]:
        changed[int(place * len(changed))] ^= 1 << bit
    return bytes(changed)


@few
@given(damage, st.sampled_from(["summary.json", "metrics.jsonl"]))
def test_a_damaged_record_does_not_affect_other_runs(how: tuple[str, Any], name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        for number in (0, 1):
            shutil.copytree(example("gelu", number), Path(place, f"run-{number}"))
        file = Path(place, "run-0", name)
        file.write_bytes(damaged(file.read_bytes(), how))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs, history = load_runs(place), load_history(place)
    assert 1 in set(runs["seed"])
    whole = load_history(example("gelu", 1))
    assert len(history[history["run_id"] == whole["run_id"].iloc[0]]) == len(whole)


def places_in(record: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of keys to every value in a record."""
    inner = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in inner:
        yield (*place, key)
        yield from places_in(value, (*place, key))


@st.composite
def odd_records(draw: st.DrawFn, record: Any) -> Any:
    """Return the record with one value replaced by any other, or deleted."""
    changed = copy.deepcopy(record)
    # values near the root are rarer and matter more
    depth = draw(st.integers(1, 6))
    *path, last = draw(st.sampled_from([place for place in places_in(record) if len(place) <= depth]))
    node = changed
    for key in path:
        node = node[key]
    if draw(st.booleans()):
        node[last] = draw(anything)
    else:
        del node[last]
    return changed


PLANNED = [summary_of("gelu"), summary_of("kernel_7")]


def run_command(*arguments: str) -> None:
    """Run a command on odd files: it succeeds or writes one-line errors, without a traceback."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = main(list(arguments))
    assert status in (0, 1, 2)
    assert "Traceback" not in said.getvalue()
    assert all(line.startswith(("roadmap: ", "skipped ")) for line in said.getvalue().splitlines())


@few
@given(st.data(), st.sampled_from(["sweep.json", "plan.jsonl"]))
def test_an_odd_plan_is_read_or_one_error_line(data: st.DataObject, name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        file = (
            make_sweep(Path(place), "made-nano-digits-1", PLANNED, study={"name": "orders", "keep_others": False})
            / name
        )
        lines = [json.loads(line) for line in file.read_text().splitlines()] if name == "plan.jsonl" else []
        record = data.draw(odd_records(lines or json.loads(file.read_text())))
        text = "\n".join(map(json.dumps, record)) if lines else json.dumps(record)
        file.write_text(text)
        run_command("status", place, "--list", "missing,failed")
        run_command("status", place)


entries = st.one_of(
    anything,
    st.sampled_from(["step=gelu", "kernel=k3", "a", ""]),
    st.dictionaries(st.sampled_from(["change", "label", "section", "adopted", "name", "odd"]), anything, max_size=4),
)


@settings(few, max_examples=150)
@given(st.one_of(anything, st.fixed_dictionaries({"name": anything, "steps": st.lists(entries, max_size=4)})))
def test_any_path_is_rows_or_one_error_line(node: Any) -> None:
    try:
        path = PathFile.of(node)
    except RequestError as error:
        one_line(error)
        return
    rows = list(with_parents(path.steps))
    assert [row for row, _ in rows] == list(path.steps)
    assert all(parent is None or parent.adopted for _, parent in rows)


@pytest.mark.parametrize(("lines", "training_seconds"), [(12, 240), pytest.param(200, 12, marks=pytest.mark.long)])
def test_random_command_lines_end_well(lines: int, training_seconds: int) -> None:
    """In a process of its own, which is forked for each line; 12 lines have no training that has to be stopped."""
    command = [sys.executable, "tests/faults/fuzz_commands.py", "--seed", "1"]
    command += ["--lines", str(lines), "--training-seconds", str(training_seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{lines} lines, 0 with faults" in done.stdout

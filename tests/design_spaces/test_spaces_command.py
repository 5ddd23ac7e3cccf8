"""``roadmap figure --kind edf`` and ``--kind scatter`` as a user types them, on made-up runs in real folders."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from records import EXAMPLES, make_sweep, record, write

from roadmap.__main__ import main


def runs_of(kernel: int, count: int) -> list[dict]:
    """Designs of one kernel and several widths, two seeds each."""
    base = record("separate_downsampling", 0, 90.0)["design"]
    source = np.random.default_rng(kernel)
    return [
        record(
            "separate_downsampling",
            seed,
            94 - kernel / 4 + source.normal(),
            design=base | {"kernel": kernel, "width": width},
        )
        for width in range(8, 8 + count)
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kernels' runs in a folder each, and together under a sweep each."""
    folder = tmp_path_factory.mktemp("spaces")
    for kernel, count in ((3, 10), (7, 12)):
        records = runs_of(kernel, count)
        for number, made in enumerate(records):
            made["run_id"] = f"{kernel:05}{number:05}"
        write(folder / f"k{kernel}", *records)
        write(folder / "both", *records)
        make_sweep(folder / "both", f"random-k{kernel}", records)
    return folder


def words(file: Path) -> str:
    return " ".join(" ".join(ET.parse(file).getroot().itertext()).split())


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["FOLDER/k3", "FOLDER/k7"], ["k3", "k7"]),
        (["FOLDER/both", "--by", "kernel"], ["kernel=3", "kernel=7"]),
        (["FOLDER/both/sweeps/random-k3", "FOLDER/both/sweeps/random-k7"], ["random-k3", "random-k7"]),
    ],
)
def test_two_spaces_however_they_are_named(
    arguments: list[str], names: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument.replace("FOLDER", str(folder)) for argument in arguments]
    assert main(["figure", "--kind", "edf", *arguments, "-o", str(tmp_path / "a.svg")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in out[2:4]] == [[names[0], "10", "2"], [names[1], "12", "2"]]
    assert out[4].startswith(f"median of {names[1]} minus median of {names[0]}: +")
    assert out[-1] == f"figure: {tmp_path / 'a.svg'}"
    text = words(tmp_path / "a.svg")
    for part in (f"{names[0]} (10 designs, 2 seeds each)", "358 images to train on", "recipe enhanced, 30 epochs"):
        assert part in text


def test_a_scatter_of_all_designs(folder: Path, tmp_path: Path) -> None:
    assert main(["figure", "--kind", "scatter", str(folder / "both"), "-o", str(tmp_path / "a.svg")]) == 0
    text = words(tmp_path / "a.svg")
    for part in ("Error of 22 designs", "width (channels)", "kernel (pixels)", "2 seeds each", "Of 6 designs drawn"):
        assert part in text


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("--kind edf", "no run folders; name them as in"),
        ("--kind edf FOLDER/both --by sweeps", "--by: unknown field 'sweeps' (choose"),
        ("--kind edf FOLDER/k3 kernel=k3", "kernel=k3 does not go with --kind edf; select runs with --where"),
        ("--kind edf FOLDER/both --where kernel>9", 'none of these 44 runs match --where "kernel>9"'),
        ("--kind scatter FOLDER/both --by kernel", "--by does not go with --kind scatter, only with --kind edf"),
        ("--kind scatter FOLDER/both --where width==9&kernel==3", "these designs differ in nothing"),
        ("--kind edf FOLDER/nowhere", "no folder "),
        (f"--kind edf {EXAMPLES}", "these runs differ in recipe (enhanced and original)"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(
    request_: str, sentence: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word.replace("FOLDER", str(folder)) for word in request_.split()]
    assert main(["figure", *arguments, "-o", str(tmp_path / "a.png")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1

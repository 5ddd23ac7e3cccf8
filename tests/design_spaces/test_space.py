"""Designs drawn from a space, and ``roadmap figure --kind edf`` and ``--kind scatter`` of them."""

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from records import EXAMPLES, make_sweep, record, write
from scipy import stats

from roadmap.__main__ import main
from roadmap.config import config_dir
from roadmap.config.compose import compose
from roadmap.design_spaces.space import Space, sample
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops
from roadmap.networks.network import Network
from roadmap.schema.design import Design
from roadmap.schema.recipe import NetworkRecipe

BASE = compose(["step=separate_downsampling"]).design  # of nano: 24 channels, 1, 1, 3 and 1 blocks


def space(**changes: Any) -> Space:
    defaults = yaml.safe_load((config_dir() / "study" / "random.yaml").read_text())
    return Space.from_mapping(defaults | changes)


def drawn(**changes: Any) -> list[Design]:
    return sample(space(**changes), BASE, 32, 10, layer_scale=True)


def test_default_draws_distinct_designs_within_the_band() -> None:
    designs = drawn()
    assert len(set(designs)) == 20
    for design in designs:
        with torch.device("meta"):
            network = Network(
                design,
                NetworkRecipe(weight_init="trunc_normal", layer_scale=1e-6, stochastic_depth=0.0, head_init_scale=1.0),
                10,
            )
        assert 0.0015 <= cost(network, 32).gmacs <= 0.003
        assert design.replace(depths=BASE.depths, width=BASE.width, kernel=BASE.kernel) == BASE
        assert min(design.depths) >= 1
        assert max(design.depths) <= 4
        assert design.width in range(8, 41, 4)
        assert design.kernel in (3, 5, 7)


def test_the_seed_decides() -> None:
    assert drawn() == drawn()
    assert set(drawn(seed=1)) != set(drawn())


def test_its_overrides_compose_to_the_design() -> None:
    asked = space(n=1)
    (design,) = sample(asked, compose(["step=separate_downsampling"]).design, 32, 10, layer_scale=True)
    assert asked.overrides(design) == ["design.depths=[4,3,4,4]", "design.width=16", "design.kernel=3"]
    assert compose(["step=separate_downsampling", *asked.overrides(design)]).design == design


def test_all_designs_within_the_band_are_found() -> None:
    everything = [
        BASE.replace(depths=(1, b, c, 2), width=width) for b in (1, 2) for c in (1, 2, 3) for width in range(10, 31)
    ]
    fitting = {d for d in everything if count_flops(d, 32, 10, True).params_m <= 0.5}
    chosen = {"depths": [1, [1, 2], {"low": 1, "high": 3}, 2], "width": {"low": 10, "high": 30}, "kernel": None}
    assert 20 < len(fitting) < len(everything)
    assert set(drawn(space=chosen, gmacs=None, params_m=[None, 0.5], n=len(fitting))) == fitting
    with pytest.raises(RequestError, match=f"{len(fitting)} of 126 fit"):
        drawn(space=chosen, gmacs=None, params_m=[None, 0.5], n=len(fitting) + 1)


def test_what_does_not_go_together_is_left_out() -> None:
    axes = {"conv": ["dense", "depthwise"], "depthwise_position": ["middle", "first"]}
    pairs = {(design.conv, design.depthwise_position) for design in drawn(space=axes, gmacs=None, n=3)}
    assert pairs == {("dense", "middle"), ("depthwise", "middle"), ("depthwise", "first")}
    with pytest.raises(RequestError, match="3 of 4 fit; others are invalid: depthwise_position=first"):
        drawn(space=axes, gmacs=None, n=4)


def test_every_design_is_as_probable() -> None:
    """Of nine designs three are drawn, 300 times."""
    axes = {"kernel": [3, 5, 7], "width": [8, 16, 24]}
    counts = Counter((d.kernel, d.width) for seed in range(300) for d in drawn(space=axes, gmacs=None, n=3, seed=seed))
    assert len(counts) == 9
    assert stats.chisquare([*counts.values()]).pvalue > 0.01


def test_log_gives_each_octave_its_share() -> None:
    """In a space too large to go through, and in a small one by the first design drawn."""
    octaves = {"low": 4, "high": 63, "log": True}
    large = {"width": octaves, "depths": {"low": 1, "high": 6}}
    many = [d.width for d in drawn(space=large, gmacs=None, n=600)]
    firsts = [drawn(space={"width": octaves}, gmacs=None, n=1, seed=seed)[0].width for seed in range(200)]
    for widths in (many, firsts):
        shares = Counter(width.bit_length() for width in widths)
        assert sorted(shares) == [3, 4, 5, 6]
        assert stats.chisquare([*shares.values()]).pvalue > 0.01


def test_a_large_space_ends_with_the_share_that_fits() -> None:
    axes = {"depths": {"low": 1, "high": 30}, "kernel": [4]}
    with pytest.raises(RequestError, match=r"0 of 19,\d+ fit; others are invalid: design.kernel must be odd"):
        drawn(space=axes, n=200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"foo": [1]}}, "unknown key study.space.foo (choose depths, stem"),
        ({"space": {"width": None}}, "study.space has no field that varies"),
        ({"space": {"norm": ["bath"]}}, "unknown design.norm 'bath' (choose batch or layer)"),
        ({"space": {"norm": {"low": 1, "high": 2}}}, "study.space.norm is not a number and cannot have a range"),
        ({"space": {"width": {"low": 9, "high": 3}}}, "study.space.width has no values"),
        ({"space": {"width": {"lo": 9, "high": 30}}}, "unknown key study.space.width.lo (choose low, high"),
        ({"space": {"depths": [1, 2, 3]}}, "study.space.depths must have one entry or 4 (got 3)"),
        ({"space": 3}, "study.space must be a mapping (got 3)"),
        ({"gmacs": [3, 2]}, "study.gmacs must be [least, most] (got [3, 2])"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        drawn(**changes)
    assert message in str(raised.value)


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
        ("--kind edf EXAMPLES", "these runs differ in recipe (enhanced and original)"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(
    request_: str, sentence: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word.replace("FOLDER", str(folder)).replace("EXAMPLES", str(EXAMPLES)) for word in request_.split()]
    assert main(["figure", *arguments, "-o", str(tmp_path / "a.png")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1

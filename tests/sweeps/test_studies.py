"""Studies: which sets of changes, orders and combinations each of them asks for."""

import itertools
from functools import cache
from pathlib import Path

import pytest

from roadmap.config.build import network_cost
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.steps.path import compose_path
from roadmap.sweeps.planning import plan_sweep
from roadmap.sweeps.studies import Study, study_of

# a path takes Hydra more than a second
cached_path = cache(lambda words, folders: compose_path(words, folders))


@pytest.fixture(autouse=True)
def paths_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "roadmap.sweeps.studies.compose_path", lambda words, folders: cached_path(tuple(words), tuple(folders))
    )


SMALL = ["gelu", "depthwise_conv", "move_up_depthwise"]


def study(*overrides: str) -> Study:
    chosen = [word for word in overrides if not word.startswith("study")]
    return study_of(compose(overrides).study, chosen)


def sets(found: Study) -> set[frozenset[str]]:
    return {frozenset(design.changes or ()) for design in found.designs}


def test_leave_one_out_is_the_end_without_each_change() -> None:
    found = study("study=leave_one_out")
    everything = set(found.changes or ())
    assert len(found.designs) == 14
    assert found.designs[0].composed.variant == "separate_downsampling"
    missing = {frozenset(everything - one) for one in sets(found)}
    lone = everything - {"depthwise_conv"}
    assert missing == {
        frozenset(),
        *(frozenset({name}) for name in lone),
        frozenset({"depthwise_conv", "move_up_depthwise"}),
    }
    (note,) = found.notes
    assert note == "depthwise_conv leaves with move_up_depthwise, to be a valid design"


def test_add_one_in_is_the_start_plus_each_change() -> None:
    found = study("study=add_one_in", "study.changes=[gelu,move_up_depthwise]")
    assert sets(found) == {frozenset(), frozenset({"gelu"}), frozenset({"depthwise_conv", "move_up_depthwise"})}
    (note,) = found.notes
    assert note == "move_up_depthwise comes with depthwise_conv, to be a valid design"


def test_random_orders_are_feasible_distinct_and_the_same_again() -> None:
    found = study("study=orders", "study.n=12")
    assert found.orders is not None
    assert len(set(map(tuple, found.orders))) == 12
    for order in found.orders:
        assert sorted(order) == sorted(found.changes or ())
        assert order.index("depthwise_conv") < order.index("move_up_depthwise")
    beginnings = {frozenset(order[:length]) for order in found.orders for length in range(14)}
    assert sets(found) == beginnings
    assert len(found.designs) == len(beginnings)
    assert study("study=orders", "study.n=12").orders == found.orders
    assert study("study=orders", "study.n=12", "study.seed=1").orders != found.orders


def test_all_orders_of_some_changes_are_all_their_sets() -> None:
    found = study("study=orders", "study.orders=all", f"study.changes=[{','.join(SMALL)}]", "study.keep_others=true")
    assert sets(found) == {
        frozenset(names)
        for count in range(4)
        for names in itertools.combinations(SMALL, count)
        if "move_up_depthwise" not in names or "depthwise_conv" in names
    }
    assert {design.composed.design.norm for design in found.designs} == {"layer"}


def test_given_orders() -> None:
    words = [f"study.changes=[{','.join(SMALL)}]", "study=orders"]
    found = study(*words, "study.orders=[[depthwise_conv,gelu,move_up_depthwise]]")
    assert [design.composed.variant for design in found.designs] == [
        "resnet50",
        "resnet50 conv=depthwise",
        "resnet50 conv=depthwise activation=gelu",
        "resnet50 conv=depthwise depthwise_position=first activation=gelu",
    ]


def test_factorial_is_what_hydra_composes() -> None:
    found = study(
        "study=factorial", "step=gelu", "study.axes={conv:[dense,depthwise],depthwise_position:[middle,first]}"
    )
    assert [design.composed.variant for design in found.designs] == [
        "gelu conv=dense depthwise_position=middle",
        "gelu depthwise_position=middle",
        "gelu",
    ]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("1 of 4 combinations are left out: depthwise_position=first does not go with")
    assert_composed(found)


def assert_composed(found: Study) -> None:
    """Each design is what Hydra composes from its overrides."""
    for design in found.designs:
        composed = compose(design.composed.overrides)
        assert (composed.values, composed.variant) == (design.composed.values, design.composed.variant)


def test_factorial_of_recipe_and_size_is_what_hydra_composes() -> None:
    found = study(
        "study=factorial", "data=imagefolder", "data.root=x", "study.axes={recipe:[original,enhanced],size:[t,s]}"
    )
    rates = {design.composed.variant: design.composed.recipe.network.stochastic_depth for design in found.designs}
    assert rates == {
        "resnet50 size=t": 0.0,
        "resnet50 size=s": 0.0,
        "resnet50 size=t recipe=enhanced": 0.1,
        "resnet50 size=s recipe=enhanced": 0.4,
    }


def test_a_plan_has_all_designs_of_a_seed_before_the_next_and_no_run_twice() -> None:
    words = ["study=add_one_in", "study.changes=[gelu,gelu]", "seeds=[3,1,3]", "workers=2", "hydra/launcher=basic"]
    plan = plan_sweep(words, [])
    assert [(request.variant, request.values["seed"]) for request in plan.requests] == [
        ("resnet50", 3),
        ("resnet50 activation=gelu", 3),
        ("resnet50", 1),
        ("resnet50 activation=gelu", 1),
    ]
    # what `roadmap train` takes, without what is about the sweep
    assert plan.requests[1].overrides == ("step=resnet50", "activation=gelu", "seed=3")
    assert compose(plan.requests[1].overrides).experiment().run_id == plan.requests[1].experiment().run_id


ORDERS = f"study=orders study.changes=[{','.join(SMALL)}]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", r"roadmap sweep needs a study \(choose study=leave_one_out, "),
        ("study=leave_two_out", r"unknown study 'leave_two_out' \(choose"),
        ("study=leave_one_out study.changes=[glu]", r"unknown change 'glu' \(choose enhanced_recipe, "),
        ("study=leave_one_out study.n=3", "unknown setting 'study.n'"),
        (f"{ORDERS} study.orders=[[gelu]]", "must name each of depthwise_conv, move_up_depthwise, gelu once"),
        (
            f"{ORDERS} study.orders=[[gelu,move_up_depthwise,depthwise_conv]]",
            r"move_up_depthwise \+ gelu: depthwise_pos",
        ),
        (f"{ORDERS} study.orders=some", r"unknown study.orders 'some' \(choose all or random\)"),
        (f"{ORDERS} study.n=4", "study.n=4: only 3 valid orders of these 3 changes were found"),
        (f"{ORDERS} step=gelu", "step= does not go with study=orders"),
        ("study=factorial study.axes={epochs:[1,2]}", r"'epochs' is not a toggle of a design \(choose stage_ratio, "),
        ("study=factorial study.axes={kernel:k3}", "study.axes.kernel must be a list of options"),
        ("study=factorial study.axes={kernel:[k3,k4]}", r"unknown kernel 'k4' \(choose"),
        ("study=factorial", "study.axes is not set"),
        ("study=factorial study.axes={depthwise_position:[first]}", "1 of 1 combinations are left out"),
    ],
)
def test_invalid_sweeps_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        plan_sweep(words.split(), [])


def test_a_path_of_the_users_own_has_its_own_changes(tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text(
        "name: mine\nsteps:\n  - step=gelu\n  - {change: kernel=k11, name: huge}\n"
    )
    plan = plan_sweep(["study=leave_one_out", "path=mine"], [str(tmp_path)])
    assert [design.changes for design in plan.study.designs] == [("huge",), ()]


def test_random_designs_are_what_hydra_composes() -> None:
    found = study("study=random", "study.n=3", "step=separate_downsampling", "study.space.norm=[batch,layer]")
    assert len(found.designs) == 3
    assert_composed(found)
    for design in found.designs:
        assert 0.0015 <= network_cost(design.composed).gmacs <= 0.003

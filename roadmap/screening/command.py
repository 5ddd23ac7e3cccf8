"""``roadmap attribution … study=screening``: the main effects of a screening design from logged runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roadmap.cli.arguments import one_kind
from roadmap.errors import RequestError
from roadmap.sweeps.planning import plan_sweep
from roadmap.sweeps.studies import Study

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from roadmap.screening.effects import MainEffects


def screened(runs: "pd.DataFrame", overrides: Sequence[str], config_dirs: Sequence[str]) -> "tuple[MainEffects, Study]":
    """Return the effects of the screening design that ``overrides`` describe, and its study.

    Without overrides the path has the regime and data of the runs. Raises RequestError if the runs have several.
    """
    if "study=screening" not in overrides:
        raise RequestError("main effects need the overrides of their sweep, such as study=screening study.n=32")
    runs, overrides = one_kind(runs, list(overrides))
    study = plan_sweep(overrides, config_dirs).study
    return effects_of(runs, study), study


def effects_of(runs: "pd.DataFrame", study: Study) -> "MainEffects":
    """Return the effects of a study's screening design."""
    from roadmap.screening.effects import main_effects

    assert study.screening is not None
    return main_effects(runs, study.screening, [design.composed for design in study.designs], study.steps)


def draw(found: "MainEffects", study: Study) -> "alt.VConcatChart":
    """Return the chart of the effects."""
    from roadmap.comparison.step_table import networks, subtitle
    from roadmap.screening.plots import effects_chart

    names = networks(study.steps, " to ")
    words = subtitle(found.runs, study.steps)
    return effects_chart(found, title=f"What each change is worth on average, from {names}", subtitle=words)

"""Names of groups of runs."""

import json

import pandas as pd

# What two groups of one name may differ in, in the order in which it is said.
DIFFERING = ("regime", "recipe", "epochs", "batch_size", "image_size", "precision")


def group_key(definition: dict) -> str:
    """Return a key that is equal for runs that differ only in the seed."""
    return json.dumps({key: value for key, value in definition.items() if key != "seed"}, sort_keys=True)


def group_names(groups: pd.DataFrame) -> list[str]:
    """Return a name for each row of ``groups``: its variant, and what distinguishes it from others of that variant.

    Rows that differ in none of regime, recipe, epochs and the like are numbered.
    """
    names = groups["variant"].astype(str)
    for key in DIFFERING:
        twice = names.duplicated(keep=False)
        if twice.any() and groups[key].nunique() > 1:
            word = groups[key].astype(str) if key in ("regime", "recipe") else key + " " + groups[key].astype(str)
            names = names.where(~twice, names + ", " + word)
    number = names.groupby(names).cumcount() + 1
    return list(names.where(~names.duplicated(keep=False), names + " (" + number.astype(str) + ")"))

"""Select, sort and group runs by expressions over the fields of their records."""

import re
from typing import Any

import pandas as pd

from roadmap.errors import RequestError
from roadmap.formatting import flatten_dict, listed
from roadmap.runs.identity import group_keys

NESTED = ("design", "definition", "versions", "seeds")


def with_columns(runs: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return ``runs`` with a column per axis of their designs, and per dotted setting that ``text`` names.

    Axes are ``kernel``, ``norm`` or ``depths`` (as ``3-3-9-3``); a dotted setting is ``recipe.optimizer.lr``.
    """
    designs = [design if isinstance(design, dict) else {} for design in runs["design"]]
    axes = pd.DataFrame(designs, index=runs.index).map(
        lambda value: "-".join(map(str, value)) if isinstance(value, list) else value
    )
    columns = [axes[[name for name in axes if name not in runs]]]
    if "." in text:
        dotted = pd.DataFrame([flatten_dict(definition) for definition in runs["definition"]], index=runs.index)
        columns.append(dotted[[name for name in map(str, dotted) if "." in name and name in text]])
    return pd.concat([runs, *columns], axis=1)


def where(runs: pd.DataFrame, expression: str) -> pd.DataFrame:
    """Return the runs that match a pandas expression such as ``regime == 'tiny' and seed < 3``.

    Raises RequestError for an expression that is invalid, names an unknown field, or is not a condition.
    """
    chosen = evaluated(runs, expression, "--where")
    if not isinstance(chosen, pd.Series) or chosen.dtype != bool:
        raise RequestError(f'--where "{expression}" is not a condition; write it as "seed < 3"')
    return runs[chosen]


def evaluated(runs: pd.DataFrame, expression: str, option: str) -> Any:
    """Return the value of an expression for each run: a Series, unless the expression names no field.

    Raises RequestError, naming ``option``, for an expression that is invalid or names an unknown field.
    """
    table = with_columns(runs, expression)
    table = table.drop(columns=[name for name in NESTED if name in table])
    for name in sorted((name for name in map(str, table) if "." in name), key=len, reverse=True):
        expression = re.sub(rf"(?<![\w.`]){re.escape(name)}(?![\w.`])", f"`{name}`", expression)
    try:
        # no variables within reach of @
        return table.eval(expression, engine="python", local_dict={}, global_dict={})
    except pd.errors.UndefinedVariableError as error:
        raise _unknown(option, str(error).split("'")[1], table) from error
    # from Python's parser, pandas' parser, or the comparison of text with a number
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RequestError(f'cannot read {option} "{expression}": {reason}; write it as "seed < 3"') from error


def ordered(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows sorted by a column, in descending order for ``-column``; missing values last.

    Raises RequestError for an unknown column.
    """
    name = column.removeprefix("-")
    if name not in table or name in NESTED:
        raise _unknown("--sort", name, table)
    return table.sort_values(name, ascending=not column.startswith("-"), kind="stable", ignore_index=True)


def grouped(runs: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return one row per combination of the fields in ``by`` (``norm,kernel``), over finished runs of all designs.

    The columns are the number of ``runs`` and ``designs``, and the mean, standard deviation over runs, minimum and
    maximum of ``top1`` after the last epoch in percent. Raises RequestError for an unknown field.
    """
    keys = [name.strip() for name in by.split(",")]
    table = with_columns(runs, by)
    for key in keys:
        if key not in table or key in NESTED:
            raise _unknown("--by", key, table)
    table["identity"] = group_keys(table["definition"])
    finished = table[(table["status"] == "finished") & table["top1"].notna()]
    groups = finished.groupby(keys, sort=True, dropna=False)
    return groups.agg(
        runs=("top1", "size"),
        designs=("identity", "nunique"),
        top1=("top1", "mean"),
        top1_std=("top1", "std"),
        top1_min=("top1", "min"),
        top1_max=("top1", "max"),
    ).reset_index()


def _unknown(option: str, name: str, table: pd.DataFrame) -> RequestError:
    names = sorted(str(column) for column in table if column not in NESTED)
    return RequestError(f"{option}: unknown field '{name}' (choose {listed(names)})")

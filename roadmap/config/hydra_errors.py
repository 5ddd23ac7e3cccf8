"""What Hydra and OmegaConf object to, as one sentence: value, place, what would be right."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from yaml import YAMLError

from roadmap.config.conf_dir import group_options
from roadmap.config.overrides import key_of
from roadmap.config.settings import ConfigSettings
from roadmap.config.trust import trusted
from roadmap.errors import RequestError, first_line
from roadmap.formatting import listed
from roadmap.schema.design import AXES

OTHER_GROUPS = ("regime", "step", "recipe", "size", "model", "data", "logger", "path", "rows", "study", "experiment")
WITHIN_A_LIST = re.compile(r"invalid literal for int\(\) with base 10: '(.*)'|^Index '(.*)' \(str\) is not an int")
# Hydra's plugins that come with our extras.
PLUGINS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=ray": "ray",
}


@contextmanager
def hydra_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a RequestError of one sentence; configs are data meanwhile."""
    try:
        with trusted():
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(one_sentence(error)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"a config cannot be read: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise RequestError(
            "a config is nested too deep, or holds itself by an alias (*name) in its file; write it out"
        ) from error
    except (ValueError, TypeError) as error:
        sentence = None if isinstance(error, RequestError) else _of_values(str(error), overrides)
        if sentence is None:
            raise
        raise RequestError(sentence) from error


def _of_values(text: str, overrides: Sequence[str]) -> str | None:
    """The ValueErrors and TypeErrors of Hydra and OmegaConf that a command line can bring about."""
    # for `kernel=7`: Hydra takes option names that look like words only
    if "Config group override" in text:
        return _not_a_word(overrides) or text
    # for `seeds.x=1` and `seeds.x.y=1`: OmegaConf takes what follows a list's name for a number in it
    if found := WITHIN_A_LIST.search(text):
        name = found[1] or found[2]
        key = next((key for key in map(key_of, overrides) if name in key.split(".")[1:]), name)
        node = key.partition(f".{name}")[0]
        return f"unknown setting '{key}'; {node} is a list: write {node}=[…]"
    return None


def near(key: str, error: BaseException | None = None) -> str:
    """What a setting that there is not may have meant: one of a like name, or the settings that OmegaConf has there."""
    siblings = getattr(error, "parent_node", None)
    if "." in key and siblings:
        # of a.b.c it may be b that there is not
        place = key.rpartition(f".{getattr(error, 'key', '')}")[0] or key.rpartition(".")[0]
        return f"{place} has {', '.join(map(str, siblings))}"
    known = [] if "." in key else [*ConfigSettings.__struct_fields__, *OTHER_GROUPS, *AXES]
    alike = get_close_matches(key, known, n=1)
    return f"did you mean {alike[0]}?" if alike else "`roadmap train --cfg job` shows every setting"


def _not_a_word(overrides: Sequence[str]) -> str | None:
    for override in overrides:
        group, _, option = override.partition("=")
        options = sorted(group_options(group), key=_by_number)
        if options and option not in options:
            return f"unknown {group} '{option}' (choose {listed(options)})"
    return None


def _by_number(name: str) -> list[tuple[str, int]]:
    """For sorting: k9 before k11."""
    return [(word, int(digits or 0)) for word, digits in re.findall(r"(\D*)(\d*)", name)]


def one_sentence(error: Exception) -> str:
    """Hydra's and OmegaConf's messages, which take several lines, as one: value, place, what would be right."""
    # Hydra leaves it to the cause to say what a file of the user's own is about
    text = str(error) or str(error.__cause__ or type(error).__name__)
    if missing := re.search(r"Could not find '((?:hydra/)?[^'/]+)/(.+?)'", text):
        if extra := PLUGINS.get(f"{missing[1]}={missing[2]}"):
            mend = f"pip install 'convnext-roadmap[{extra}]'"
            return f"{missing[1]}={missing[2]} is a plugin that is not installed; {mend}"
        options = sorted(re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE), key=_by_number)
        return f"unknown {missing[1]} '{missing[2]}' (choose {listed(options)})"
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return f"unknown setting '{unknown[1]}'; {near(unknown[1], error.__cause__)}"
    if merging := re.search(r"Error merging override (.+)", text):
        return f"cannot set '{merging[1]}': {first_line(error.__cause__ or error)}"
    if isinstance(error, OverrideParseException):
        name, _, value = error.override.partition("=")
        # as our own run folders have in their names
        quoted = f"quote a value with = in it: \"{name}='{value}'\"" if "=" in value else ""
        return f"invalid override '{error.override}' ({quoted or 'must be group=option or setting=value'})"
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{missing[1]} is not set (add {missing[1]}=…)"
    # OmegaConf wraps what a resolver raises
    if raised := re.search(r"RequestError raised while resolving interpolation: (.+)", text):
        return raised[1]
    if isinstance(error, InterpolationKeyError) and (key := re.search(r"Interpolation key '([^']+)'", text)):
        return f"the chosen options want {key[1]}, which the config does not have"
    return " ".join(text.split())

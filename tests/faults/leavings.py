"""What a command line left behind that it should not have."""

import re
from collections.abc import Iterator
from pathlib import Path

from roadmap.runs.reading import read_runs

OUTPUTS = ("-o", "--output", "--json", "--csv", "--markdown", "--latex")
STREAMS = ("stdout", "stderr", "home", "tmp")


def contents(place: Path) -> dict[str, bytes]:
    """Every file below, by its name, and every empty folder, by its name and a slash."""
    found = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_file() and not path.is_symlink():
            found[name] = path.read_bytes()
        elif path.is_dir() and not any(path.iterdir()):
            found[f"{name}/"] = b""
    return {name: content for name, content in found.items() if name.rstrip("/") not in STREAMS}


def mess(words: list[str], place: Path, before: dict[str, bytes], status: int | None) -> list[str]:
    """What a line that began in ``place/line`` changed, left half-written, or left though its request was wrong."""
    after = contents(place)
    new = [name for name in sorted(after) if before.get(name) != after[name] and f"{name}/" not in before]
    # W&B's package makes these when it is imported, as timm does, and its client writes a log of its own
    new = [name for name in new if not re.match(r"tmp/tmp\w+wandb-\w+/|home/.cache/wandb/", name)]
    gone = [name for name in before if name not in after and not any(one.startswith(name) for one in after)]
    allowed = tuple(_allowed(words))
    found = [f"{name!a} was written" for name in new if "" not in allowed and not name.startswith(allowed)]
    found += [f"{name!a} was removed" for name in gone if "trained/" not in name]
    partial = [name for name in new if Path(name).name.startswith(".") and not name.endswith("/")]
    found += [f"{name!a} is half-written" for name in partial if f"line/{Path(name).name}" != name]
    runs = {Path(name).parent for name in new if Path(name).name in ("metrics.jsonl", "summary.json")}
    runs |= {Path(name).parent.parent for name in new if ".hydra/" in name or "checkpoints/" in name}
    whole = {Path(name).parent for name in before}
    for run in runs - whole:
        if skipped := read_runs([str(place / run)])[1]:
            found.append(f"{skipped[0]} (left by the line)")
    # Hydra notes what a multirun was asked for before its first job is looked at
    rest = [name for name in new if not name.startswith("line/trained") and "/.multirun/" not in name]
    if status == 2 and rest:
        found.append(f"the request was wrong, and {rest[0]!a} was written")
    return found


def _allowed(words: list[str]) -> Iterator[str]:
    """Where a line may write, as beginnings of names; an empty one: anywhere, since its words do not say plainly."""
    command = words[0] if words else ""
    yield "line/runs/"
    for word, following in zip(words, [*words[1:], ""], strict=False):
        key, _, value = word.lstrip("+").partition("=")
        if key in ("runs_dir", "hydra.sweep.dir"):
            yield "" if set(value) & set("$'\"\\{~") else _place(value.strip())
        if word in OUTPUTS:
            # an evaluation's predictions lie beside its record
            yield _place(following).removesuffix(Path(following).suffix if command == "evaluate" else "")
        elif word.startswith(("-o", "--output=", "--json=", "--csv=")):
            yield ""
        if command == "evaluate" and not word.startswith("-"):
            yield _place(word)  # its records go to the runs


def _place(name: str) -> str:
    if name.startswith(".."):
        return ""
    return f"line/{Path(name).parts[0]}" if Path(name).parts else "line/"

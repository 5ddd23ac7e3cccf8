"""Every command and link of the README and the docs: parsed by the real parsers, composed with the real configs."""

import itertools
import re
import shlex
import shutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import roadmap
from roadmap.__main__ import COMMANDS, main
from roadmap.cli.arguments import Parser
from roadmap.config.compose import compose, options_of
from roadmap.config.overrides import key_of
from roadmap.evaluation.task import EVALUATION_ONLY, evaluation_request
from tests.records import EXAMPLES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# has a test of its own, which applies its changes first
ELSEWHERE = ("your_own_change.md",)
# other programs, which are not checked
NOT_OURS = ("flock", "time", "cat", "zcat", "wandb", "pip", "uv", "git", "cd", "squeue", "scancel", "rsync")
# engines whose launcher is not installed for tests
NOT_INSTALLED = ("engine=ray_local", "engine=ray_cluster")


@dataclass(frozen=True)
class Command:
    """A command on a page, and the line after it."""

    page: str
    line: str
    answer: str


@cache
def commands() -> list[Command]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for kind, body in FENCE.findall(text):
            lines = re.sub(r"\\\n\s*", " ", body).splitlines() if kind in ("", "console", "bash", "sh") else []
            for line, answer in itertools.zip_longest(lines, lines[1:], fillvalue=""):
                if line.startswith("$ "):
                    found.append(Command(page.name, line[2:], answer))
        rows = [line for line in text.splitlines() if line.startswith("|")]
        cells = [cell for row in rows for cell in re.findall(r"`([^`]+)`", row)]
        found += [
            Command(page.name, cell, "")
            for cell in cells
            if re.match(r"(roadmap|torchrun|sbatch|python|make) \S", cell)
        ]
    # a command on two pages is checked once
    found = [command for command in found if command.page not in ELSEWHERE]
    return list({(command.line.split("  #")[0].strip(), command.answer): command for command in found}.values())


def words_of(line: str) -> list[str]:
    """Split a command into words, with its placeholders filled in."""
    line = re.sub(r"(=|\s)(…|\.\.\.)", r"\1anything", line.replace("'…", "'anything"))
    return shlex.split(line, comments=True)


def roadmap_words(words: list[str]) -> list[str] | None:
    """Return the words after ``roadmap``, however it is started; None for another program."""
    if Path(words[0]).name == "roadmap":
        return words[1:]
    if words[0] == "sbatch":
        script, *rest = [word for word in words[1:] if not word.startswith("-")]
        assert (ROOT / script).is_file()
        return ["run", *rest]
    if "-m" in words and words[words.index("-m") + 1] == "roadmap":
        return words[words.index("-m") + 2 :]
    return None


class ParsedError(Exception):
    """Carries the options that a command's parser returned."""


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options of a command line from the command's own parser."""
    for name in ("parse_args", "parse_intermixed_args"):
        real = getattr(Parser, name)

        def stop(self: Parser, *given: Any, real: Any = real) -> None:
            raise ParsedError(vars(real(self, *given)))

        monkeypatch.setattr(Parser, name, stop)
    with pytest.raises(ParsedError) as caught:
        import_module(f"roadmap.{COMMANDS[words[0]][0]}").main(words[1:])
    monkeypatch.undo()
    return dict(caught.value.args[0])


@cache
def my_conf() -> str:
    """Return a folder with the config files that pages show."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    for page in PAGES:
        for kind, text in FENCE.findall(page.read_text(encoding="utf-8")):
            name = re.search(r"^# my_conf/(\S+)$", text, flags=re.MULTILINE)
            if kind == "yaml" and name:
                (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / name[1]).write_text(text, encoding="utf-8")
    return str(folder)


def alternatives(overrides: list[str]) -> list[list[str]]:
    """Return the overrides with the first and with the last value of each sweep."""
    sweeps = {}
    for word in overrides:
        override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override() and "glob" not in word:
            sweeps[word] = [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
    rest = [word for word in overrides if word not in sweeps and "glob" not in word]
    return [[*rest, *(values[place] for values in sweeps.values())] for place in ((0, -1) if sweeps else (0,))]


@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command.page}: {command.line[:60]}")
def test_documented_commands_parse_and_compose(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(command.line)
    ours = roadmap_words(words)
    if ours is None:
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        else:
            assert words[0] in NOT_OURS
        return
    if ours == ["--help"]:
        return
    assert ours[0] in COMMANDS
    options = parsed(ours, monkeypatch)
    given = options.get("overrides") or options.get("runs") or []
    overrides = [word for word in given if "=" in word and "://" not in word and word not in NOT_INSTALLED]
    folders = [my_conf() if folder == "my_conf" else folder for folder in _listed(options.get("config_dir"))]
    if ours[0] == "evaluate" and "pretrained" not in command.line:
        evaluation_request(overrides)
        return
    overrides = [word for word in overrides if key_of(word) not in EVALUATION_ONLY]
    if "pretrained" in command.line:
        overrides = [word for word in overrides if not word.startswith("pretrained=")]
    for some in alternatives(overrides):
        hydras = [word for word in some if word.startswith(("hydra", "engine="))]
        plain = [word for word in some if word not in hydras]
        if any("study.space" in word or word == "study=search" for word in plain):
            options_of(plain, folders)
        else:
            assert command.answer.startswith("roadmap: ") or compose(plain, folders)
        if engines := [word for word in hydras if word.startswith("engine=")]:
            compose([*plain, *engines], folders)


def _listed(folders: Any) -> list[str]:
    return folders if isinstance(folders, list) else [folders] if folders else []


# errors about records that the reader has made by then
OF_OWN_RECORDS = ("--bench runs/bench", "roadmap figure runs/ ")


@pytest.mark.parametrize(
    "command",
    [
        one
        for one in commands()
        if one.answer.startswith("roadmap: ")
        and one.line.startswith("roadmap")
        and not any(words in one.line for words in OF_OWN_RECORDS)
    ],
    ids=lambda command: command.line,
)
def test_documented_errors_are_the_real_ones(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "runs" / "examples", tmp_path / "runs" / "examples")
    assert main(words_of(command.line)[1:]) in (1, 2)
    assert capsys.readouterr().err.splitlines()[-1] == command.answer


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [_anchor(heading) for heading in headings], link


def _anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the Python blocks on the committed runs."""
    blocks = [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == "python"]
    if not blocks:
        return
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLES, tmp_path / "runs")
    state = roadmap.build("regime=tiny", "step=separate_downsampling").state_dict()
    for block in blocks:
        exec(compile(block, page.name, "exec"), {"state_dict": dict(state)})

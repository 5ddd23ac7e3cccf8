"""Random command lines, and the config files that they name."""

import random

from roadmap.__main__ import COMMANDS
from roadmap.config import config_dir
from roadmap.config.compose import compose
from roadmap.config.composition import composition
from roadmap.config.groups import options_in
from roadmap.formatting import flatten_dict

PATHS = {
    "two": "name: two\nsteps:\n  - {change: step=gelu, label: g}\n  - kernel=k3\n",
    "nameless": "steps:\n  - step=gelu\n",
    "stepless": "name: x\n",
    "empty": "",
    "text": "just words\n",
    "list": "- step=gelu\n",
    "none": "name: x\nsteps: null\n",
    "numbers": "name: 1\nsteps: [1, 2]\n",
    "nested": "name: x\nsteps: [[step=gelu]]\n",
    "unknown_key": "name: x\nsteps: [{chnge: step=gelu}]\n",
    "no_change": "name: x\nsteps: [{label: a}]\n",
    "bad_change": "name: x\nsteps: [{change: [1, null]}]\n",
    "twice": "name: x\nsteps: [step=gelu, step=gelu]\n",
    "adopted": "name: x\nsteps: [{change: step=gelu, adopted: perhaps}]\n",
    "unclosed": "name: [x\n",
    "tab": "name: x\nsteps:\n\t- step=gelu\n",
    "outside": "name: ../../out\nsteps: [step=gelu]\n",
    "label": "name: x\nsteps: [{change: step=gelu, label: [a, b]}, {change: kernel=k5, label: {a: b}}]\n",
    "baselines": "name: x\nsteps: [step=gelu]\nbaselines: nano_swin\n",
    "baselines_number": "name: x\nsteps: [step=gelu]\nbaselines: 7\n",
    "mapping": "name: {a: b}\nsteps: {a: step=gelu}\n",
    "binary": "\x00\x01",
    "wants": "name: x\nsteps: [step=gelu, 'kernel=${nope}', 'epochs=2']\n",
    "words": "name: x\nsteps: ['', '=', 'step', '~kernel', '+x=1']\n",
    "keys": "1: 2\nnull: 3\nname: x\nsteps: [step=gelu]\n",
}
REFUSED = {
    "anchor": "name: &a [*a]\nsteps: [step=gelu]\n",
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nname: x\nsteps: [*b]\n",
}
KERNELS = {
    "k13": "# @package design\nkernel: 13\n",
    "bare": "kernel: 13\n",
    "wrong": "# @package design\nkernel: [x\n",
    "elsewhere": "# @package a.b\nkernel: 13\n",
    "word": "# @package design\nkernel: thirteen\n",
}
ODD = [
    *("", " ", "-", "--", "-1", "0", "1", "7", "0.5", "nan", "inf", "-inf", "1e30", "1e-400", "9" * 40, "9" * 400),
    *("true", "null", "None", "[]", "[1", "[1,2,3]", "[[1],[2]]", "{}", "{a: 1}", "{a", "'", '"', "\\", "a b", "a,b"),
    *("${seed}", "${oc.env:HOME}", "${nope}", "${", "${oc.env:NOPE}", "${by_size:x,{}}", "???", "1_000", "0x10"),
    *("é", "日本", "\u2028", "\x1b[31mred", "🙂", "%s", "=", "==", "k7", "resnet50", "..", "../up", "/proc/nope/x"),
    *("$(touch pwned)", "`touch pwned`", "runs", "cpu", "cuda", "range(3)", "glob(*)"),
    *("choice(a,b)", "interval(0,1)", "shuffle(1,2)", "a" * 300, "x/y/z", "1:30", "@x", "~", "\t", "kernel=k7"),
]
SETTINGS = {
    "epochs": ["1"],
    "seed": ["0", "3"],
    "seeds": ["[0]"],
    "batch_size": ["64", "32"],
    "micro_batch_size": ["32", "64"],
    "recipe.batch_norm_images": ["16", "32"],
    "image_size": ["32", "40"],
    "device": ["cpu", "auto"],
    "precision": ["fp32", "bf16"],
    "channels_last": ["true", "false"],
    "num_workers": ["0", "1"],
    "runs_dir": ["runs", "other", "deep/er", "file.txt"],
    "resume": ["auto", "never"],
    "checkpoint_epochs": ["1", "2"],
    "checkpoint_minutes": ["1"],
    "save_predictions": ["true"],
    "match_gmacs": ["0.002"],
    "match_by": ["width", "depth"],
    "pretrained": ["null", "whole/a", "file.txt", "library"],
    "study.objectives": ["[top1]", "[top1,gmacs]", "[gmacs]"],
    "max_skipped_updates": ["1"],
    "workers": ["1"],
    "retries": ["0"],
    "data.holdout": ["0.2"],
    "data.root": ["runs", "nowhere"],
    "design.width": ["20"],
    "design.depths": ["[1,1,1,1]"],
    "design.kernel": ["3", "9"],
    "recipe.optimizer.lr": ["0.01"],
    "recipe.ema_decay": ["0.9"],
    "recipe.network.stochastic_depth": ["0.1"],
    "recipe.augment.mixup_alpha": ["0.2"],
    "regime.num_classes": ["10", "20"],
    "study.n": ["2"],
    "study.axes": ["{kernel:[k3,k5]}", "{norm:[batch,layer]}"],
    "study.gmacs": ["[0.001,0.003]"],
    "bench.batch_size": ["4"],
    "bench.only": ["[resnet50]"],
    "path.baselines": ["[nano_vit]"],
    "path.name": ["mine"],
    "corruptions": ["[fog]", "all"],
    "severities": ["[1]"],
    "weights": ["network", "averaged"],
    "which": ["best", "last"],
    "name": ["resnet18", "vit_b_16"],
}
GROUPS = {
    folder.name: sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
    for folder in config_dir().iterdir()
    if folder.is_dir()
}
GROUPS |= {group: [*GROUPS.get(group, []), *named] for group, named in options_in("networks.yaml").items()}
# every other setting: at the value that it has, and at odd ones
SETTINGS |= {
    key: ["true" if value is True else "false" if value is False else "null" if value is None else str(value)]
    for key, value in (flatten_dict(composition("evaluate")[0]) | flatten_dict(compose([]).values)).items()
    if key not in SETTINGS and key not in GROUPS and key != "compile"  # of compile every line would take a minute
}
KEYS = [*GROUPS, *GROUPS, *SETTINGS]
# large networks and data that is not here: parsed and refused, or costly without being more of a test
HEAVY = {"regime": ["tiny", "base", "nano_base"], "size": GROUPS["size"], "experiment": GROUPS["experiment"]}
HEAVY["model"] = [name for name in GROUPS["model"] if not name.startswith("nano")]
TWO = ["path=two", "--config-dir", "conf"]
# what makes a line of the command quick and right, before anything odd comes to it
QUICK = ["bench.repeats=2", "bench.seconds=0.001", "bench.measure=[latency]"]
CHEAP: dict[str, list[str]] = {
    "train": ["regime=nano", "data=digits", "epochs=1", "device=cpu"],
    "run": ["regime=nano", "epochs=1", "seeds=[0]", *TWO],
    "sweep": ["study=factorial", "study.axes={kernel:[k3,k5]}", "epochs=1", "seeds=[0]"],
    "bench": [*QUICK, "device=meta", "bench.only=[gelu]", *TWO],
    "steps": TWO,
    "compare": TWO,
    "figure": TWO,
    "report": TWO,
    "attribution": TWO,
}
AT_FOLDERS = ("compare", "figure", "report", "attribution", "status", "diff", "evaluate")
PLACES = [
    *("whole", "whole", "whole/a", "whole/b", "whole/a/summary.json", "whole/a/.hydra", "whole/sweeps"),
    *("damaged", "damaged", "damaged", "damaged/a", "damaged/b", "damaged/sweeps", "trained", "trained", "files"),
    *("empty", "nowhere", "file.txt", "", ".", "wandb://nobody", "conf", "files/bench.json", "a\x00b"),
]
BENCHES = ("whole/bench", "damaged/bench", "damaged", "files/bench.json", "whole/a/summary.json", "nowhere")
OUTPUTS = [
    *("out.png", "out.svg", "out.pdf", "out.html", "out.json", "out", "out.gif", "OUT.PNG", ".png", "out.png/"),
    *("no/where/out.png", "empty", "-", "", "file.txt/out.png", "a" * 300 + ".png", "ö 日本.png", "whole/out.html"),
]
OPTIONS = {
    "steps": [["--json"]],
    "train": [
        ["--cfg", "job"],
        ["--cfg", "hydra"],
        ["--cfg", "all"],
        ["--resolve"],
        ["--info"],
        ["-m"],
        ["--hydra-help"],
    ],
    "compare": [
        *([flag] for flag in ("--force", "--json", "--csv", "--markdown", "--latex", "--robustness")),
        *(
            ["--where", text]
            for text in ("seed == 0", "kernel > 3", "nope == 1", "seed ==", "__import__('os')", "top1")
        ),
        *(["--by", text] for text in ("kernel", "norm,kernel", "nope", "")),
        *(["--sort", text] for text in ("top1", "-top1", "nope")),
        *(["--baseline", text] for text in ("gelu", "nope")),
    ],
    "report": [["--bench", place] for place in BENCHES],
    "figure": [
        *(["--kind", kind] for kind in ("roadmap", "deltas", "tradeoff", "pareto", "curves", "robustness", "edf", "x")),
        *(["--kind", kind] for kind in ("attribution", "interactions", "scatter")),
        *(["--x", text] for text in ("params", "throughput", "nope")),
        *(["--metric", text] for text in ("train_loss", "nope")),
        *(["--kind", "tradeoff", "--x", "inference", "--bench", place] for place in BENCHES),
    ],
    "attribution": [["--json"], ["--csv"], ["--where", "seed == 0"]],
    "status": [["--json"], ["--list", "failed"], ["--list", "nope"]],
    "diff": [["--json"]],
    "evaluate": [["--force"], ["--json"]],
    "bench": [["--json"], ["--csv"]],
    "doctor": [["--json"]],
    "sweep": [["--dry-run"]],
}


def draw_line(draw: random.Random) -> list[str]:
    """A command line: what is quick and right, with a few words that may be neither."""
    if draw.random() < 0.03:
        return [
            draw_value(draw) if draw.random() < 0.7 else draw.choice(["--help", "-h"])
            for _ in range(draw.randint(0, 3))
        ]
    command = draw.choice([*COMMANDS, "train", "train", "compare", "figure", "run", "evaluate"])
    words = list(CHEAP.get(command, [])) if draw.random() < 0.97 else []
    if command == "bench" and not words:
        words = list(QUICK)
    if draw.random() < 0.01:
        words += ["--config-dir", "odd", f"path={draw.choice([*REFUSED])}"]
    if command in AT_FOLDERS:
        words = [
            draw.choice(PLACES) for _ in range(2 if command == "diff" else draw.choice([0, 1, 1, 1, 2, 3]))
        ] + words
    if command in ("figure", "report") or (command in ("attribution", "evaluate") and draw.random() < 0.3):
        words += ["-o", draw.choice(OUTPUTS)]
    if command == "train" and draw.random() < 0.15:
        words += ["runs_dir=trained"]
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        words += draw_option(command, draw) if draw.random() < 0.35 else [draw_word(draw)]
    if draw.random() < 0.1:
        draw.shuffle(words)
    # the system's own interface ends a word there
    return [command, *(word.replace("\x00", "") for word in words)]


def draw_option(command: str, draw: random.Random) -> list[str]:
    """An option of the command, or of another, with something after it or nothing."""
    if draw.random() < 0.2:
        flags = ["--config-dir", "--where", "-o", "--json", "--kind", "--by", "--bogus", "-x", "--", "--seed=1", "-cd"]
        value = draw.choice([*ODD, *PLACES]) if draw.random() < 0.7 else draw_value(draw)
        return [draw.choice(flags), value] if draw.random() < 0.7 else [draw.choice(flags)]
    return list(draw.choice(OPTIONS.get(command, [["--help"]])))


def draw_word(draw: random.Random) -> str:
    """An override: of a group or a setting, with a value that fits or one that does not, now and then bent."""
    if draw.random() < 0.12:
        return f"path={draw.choice([*PATHS, *PATHS, 'paper'])}"
    if draw.random() < 0.03:
        return f"kernel={draw.choice([*KERNELS])}"
    key = draw.choice(KEYS)
    if key in GROUPS:
        light = [option for option in GROUPS[key] if option not in HEAVY.get(key, [])] or GROUPS[key]
        value = draw.choice(light) if draw.random() < 0.6 else draw_value(draw)
    else:
        value = draw.choice(SETTINGS[key]) if draw.random() < 0.4 else draw_value(draw)
    bent = draw.random()
    if bent < 0.05:
        return f"~{key}" if bent < 0.03 else f"~{key}={value}"
    if bent < 0.13:
        within = (
            f"{key}.x={value}",
            f"{key}.x.y={value}",
            f"{key}.0={value}",
            f"+{key}.x={value}",
            f"++{key}.0={value}",
        )
        ways = (f"+{key}={value}", f"++{key}={value}", f"+{key}s={value}", f"{key}@x={value}", key, f"={value}")
        return draw.choice((*ways, *within))
    if bent < 0.16:
        return f"{key[:-1]}={value}"
    if bent < 0.18:
        own = ("hydra.run.dir", "hydra.verbose", "hydra/launcher", "hydra.sweep.dir", "hydra.job.name", "hydra")
        return f"{draw.choice(own)}={value}"
    return f"{key}={value}"


def draw_value(draw: random.Random, depth: int = 0) -> str:
    """A value: an odd one of the list, a nest of them, or characters as they come."""
    way = draw.random()
    if way < 0.7:
        return draw.choice(ODD)
    if way < 0.85 and depth < 4:
        parts = [draw_value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
        shape = draw.choice(["[{}]", "{{{}}}", "'{}'", '"{}"', "${{{}}}", "f({})", "[{}", "{}]"])
        return shape.format(
            ",".join(f"k{at}:{part}" for at, part in enumerate(parts)) if shape[0] == "{" else ",".join(parts)
        )
    characters = "ab01.-+=,:;[]{}()<>$'\"\\ \t\n\r~@#%&|!?*é日🙂\u202e\x1b\x7f\udcff"
    # without /: lines may be run by one who may write anywhere
    return "".join(draw.choice(characters) for _ in range(draw.choice([1, 2, 5, 20])))

"""Run folders that nobody trained, for tests of what reads them: an example run's records with some fields changed."""

import json
import shutil
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "runs" / "examples" / "nano-digits"


def example(step: str, seed: int = 0) -> Path:
    """The folder of one of the committed runs."""
    (folder,) = EXAMPLES.glob(f"nano-digits-{step}-s{seed}-*")
    return folder


def make_run(
    folder: Path, step: str = "gelu", seed: int = 0, lr: float | None = None, **changes: Any
) -> dict[str, Any]:
    """A copy of an example run in ``folder`` with its summary changed, and its definition where the summary's is.

    Epochs beyond the example's repeat its last line.
    """
    summary = json.loads((example(step) / "summary.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (example(step) / "metrics.jsonl").read_text().splitlines()]
    summary |= {"seed": seed, "run_id": folder.name[-10:].rjust(10, "0")} | changes
    defined = summary["definition"]
    defined |= {key: summary[key] for key in ("design", "seed", "epochs", "batch_size", "image_size", "precision")}
    defined["data"] |= {"name": summary["data"]}
    if lr is not None:
        defined["recipe"]["optimizer"]["lr"] = lr
    epochs = summary["epochs"] if summary["status"] == "finished" else 3
    lines = [rows[min(epoch, len(rows) - 1)] | {"epoch": epoch + 1} for epoch in range(epochs)]
    (folder / ".hydra").mkdir(parents=True)
    shutil.copy(example(step) / ".hydra" / "overrides.yaml", folder / ".hydra")
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return summary


def make_many(root: Path, count: int, epochs: int) -> None:
    """``count`` runs of that many epochs: four steps with learning rates and seeds, now and then one that failed."""
    for number in range(count):
        step = ("resnet50", "stage_ratio", "gelu", "layer_norm")[number % 4]
        seed, rate = number // 4 % 5, number // 20
        failed = number % 37 == 0
        make_run(
            root / f"run-{number:06}",
            step,
            seed,
            lr=rate / 1e4,
            epochs=epochs,
            variant=f"{step} recipe.optimizer.lr={rate}e-4",
            **({"status": "failed", "top1": None, "error": f"loss is nan in epoch {number}"} if failed else {}),
            **({} if failed else {"top1": 90 + (number * 7919 % 1000) / 100}),
        )

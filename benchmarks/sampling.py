"""How many designs a second are drawn, counted and accepted or rejected; one core, no torch.

python benchmarks/sampling.py
"""

import time
from collections.abc import Callable
from dataclasses import replace

from roadmap.config.compose import compose
from roadmap.design_spaces.space import Space, sample
from roadmap.networks.flops import count_flops
from roadmap.networks.match_flops import matched

SECONDS = 2.0  # of each measurement


def rate(work: Callable[[], object], each: int = 1) -> float:
    """Per second of the processor's time, of work that does so many at once."""
    done, start = 0, time.process_time()
    while time.process_time() - start < SECONDS:
        work()
        done += each
    return done / (time.process_time() - start)


def rates(regime: str, step: str) -> tuple[float, float, float]:
    """Designs counted, drawn from a space, and brought to equal cost."""
    composed = compose([f"regime={regime}", f"step={step}", "study=random"])
    design, size = composed.design, composed.values["image_size"]
    axes = {"depths": {"low": 1, "high": 30}, "width": {"low": 8, "high": 128}, "kernel": [3, 5, 7]}
    space = Space.from_mapping(composed.values["study"] | {"gmacs": None, "n": 2000, "space": axes})
    gmacs = count_flops(design, size, 10, layer_scale=True).gmacs
    return (
        rate(lambda: count_flops(design, size, 10, layer_scale=True)),
        rate(lambda: sample(space, design, size, 10, layer_scale=True), each=space.n),
        rate(lambda: matched(replace(design, width=40), gmacs, "width", size, 10)),
    )


def main() -> None:
    print("regime  step                   counted/s  drawn/s  matched/s")
    for regime in ("nano", "tiny", "base"):
        for step in ("resnet50", "separate_downsampling"):
            counted, drawn, equal = rates(regime, step)
            print(f"{regime:6}  {step:21}  {counted:9,.0f}  {drawn:7,.0f}  {equal:9,.0f}")


if __name__ == "__main__":
    main()

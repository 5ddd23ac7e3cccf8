"""Training-step throughput of our ResNet-50 and ConvNeXt-T against torchvision's, as ratios.

Both networks take the same batch, precision, memory format and optimizer; their steps alternate, so that whatever else
the machine does hits both alike. The ratio is of the median step times: above 1, ours is faster.

    python benchmarks/training_step.py                 # CPU, batch 8
    python benchmarks/training_step.py --device cuda --batch 128 --repeats 50
"""

import argparse
import json
import statistics

import torch
import torchvision

import roadmap
from roadmap.measure import PAIRS, alternate, training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()

    device = torch.device(options.device)
    images = torch.randn(options.batch, 3, options.image_size, options.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (options.batch,), device=device)
    results = []
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, batch {options.batch}, channels_last"
    )
    for name, (step, peer) in PAIRS.items():
        for precision in options.precisions:
            networks = {
                "ours": roadmap.build("regime=tiny", f"step={step}"),
                "torchvision": getattr(torchvision.models, peer)(),
            }
            steps = {who: training_step(network, images, labels, precision) for who, network in networks.items()}
            seconds = alternate(steps, options.warmup, options.repeats)
            medians = {who: statistics.median(times) for who, times in seconds.items()}
            pairs = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["torchvision"], strict=True)]
            results.append(
                {
                    "network": name,
                    "precision": precision,
                    "images_per_second": {who: options.batch / median for who, median in medians.items()},
                    "ratio": medians["torchvision"] / medians["ours"],
                    "paired_ratio_range": [min(pairs), max(pairs)],
                }
            )
            last = results[-1]
            print(
                f"{name:11}{precision}  ours / torchvision = {last['ratio']:.3f} "
                f"(pairs {min(pairs):.2f} to {max(pairs):.2f}); "
                f"{options.batch / medians['ours']:.1f} and {options.batch / medians['torchvision']:.1f} images/s",
                flush=True,
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()

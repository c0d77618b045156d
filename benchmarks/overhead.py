"""What a measurement costs beside a bare forward pass over the same probe.

    python benchmarks/overhead.py [--data-dir DATA] [--images 2000] [--pairs 9] [--labels both]

Interleaves `rs.measure(...).to_dataframe()` with a bare forward pass in alternating order, for channels-last ResNet-20,
ConvNet-20 and ToyNet-20 at initialisation, on CIFAR-10 images in batches of 128. The bare pass runs under `no_grad`,
batch norms normalising with the batch as in the measurement, running statistics left out, which is the fastest such
pass. Beside it, for those who compare with inference: a pass on running statistics (`bare_eval`). Without `--data-dir`
the images are noise, and the rows say so. Writes benchmarks/results/overhead.csv.
"""

from __future__ import annotations

import argparse

import torch
from _interleave import interleave, machine, ratios, spread, write_csv
from torch import nn

import reluscope as rs
from reluscope.lab import ConvNet, ResNet, ToyNet, load

NETWORKS = {"resnet20": ResNet, "convnet20": ConvNet, "toynet20": ToyNet}


def bare_forward(model: nn.Module, inputs: torch.Tensor, batch_size: int, *, batch_statistics: bool) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = batch_statistics, not batch_statistics
    with torch.no_grad():
        for batch in inputs.split(batch_size):
            model(batch)
    for norm in norms:
        norm.track_running_stats = True


def compare(name: str, inputs: torch.Tensor, labels: torch.Tensor | None, pairs: int) -> dict:
    torch.manual_seed(0)
    model = NETWORKS[name](20).to(memory_format=torch.channels_last)
    probe, warm = rs.Probe(inputs, labels), rs.Probe(inputs[:256], None if labels is None else labels[:256])
    work = {
        "bare": lambda: bare_forward(model, inputs, probe.batch_size, batch_statistics=True),
        "bare_eval": lambda: bare_forward(model, inputs, probe.batch_size, batch_statistics=False),
        "measure": lambda: rs.measure(model, probe).to_dataframe(),
    }
    rs.measure(model, warm).to_dataframe()  # kernels compiled or read from their cache
    interleave(work, 1)
    seconds = interleave(work, pairs)
    row = {"network": name, "images": len(inputs), "labels": labels is not None, "pairs": pairs}
    for alternative in work:
        row |= {
            f"{alternative}_s_{key}": round(value, 4) for key, value in spread(seconds[alternative]).items()
        }
    for base in ("bare", "bare_eval"):
        row |= {
            f"ratio_{base}_{key}": round(value, 3) for key, value in ratios(seconds, "measure", base).items()
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--labels", choices=["without", "with", "both"], default="both")
    options = parser.parse_args()
    if options.data_dir:
        data = load("cifar10", options.data_dir, num_images=options.images)
        inputs, classes = data.images, data.labels
    else:
        inputs, classes = torch.randn(options.images, 3, 32, 32), torch.arange(options.images) % 10
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    rows = []
    for labels in {"without": [None], "with": [classes], "both": [None, classes]}[options.labels]:
        for name in options.networks:
            row = compare(name, inputs, labels, options.pairs)
            row |= {
                "data": "cifar10" if options.data_dir else "noise",
                **machine(),
                "torch": torch.__version__,
            }
            rows.append(row)
            print(
                f"{name:10} {'labels' if labels is not None else '      '} bare {row['bare_s_median']:.3f} s, "
                f"measure {row['measure_s_median']:.3f} s, ratio {row['ratio_bare_median']:.3f} "
                f"({row['ratio_bare_p20']:.3f} to {row['ratio_bare_p80']:.3f}); "
                f"against running statistics {row['ratio_bare_eval_median']:.3f}",
                flush=True,
            )
    print("written to", write_csv("overhead", rows))


if __name__ == "__main__":
    main()

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
from pathlib import Path

import torch
from _interleave import Row, interleave, rows_of, write_csv
from torch import nn

import reluscope as rs
from reluscope.lab import ConvNet, ResNet, ToyNet, load

RESULTS = Path(__file__).parent / "results" / "overhead.csv"
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


def compare(name: str, inputs: torch.Tensor, labels: torch.Tensor | None, pairs: int, data: str) -> list[Row]:
    torch.manual_seed(0)
    model = NETWORKS[name](20).to(memory_format=torch.channels_last)
    probe = rs.Probe(inputs, labels)
    alternatives = {
        "bare": lambda: bare_forward(model, inputs, probe.batch_size, batch_statistics=True),
        "bare_eval": lambda: bare_forward(model, inputs, probe.batch_size, batch_statistics=False),
        "measure": lambda: rs.measure(model, probe).to_dataframe(),
    }
    seconds = interleave(alternatives, rounds=pairs)
    case = f"{name}{' with labels' if labels is not None else ''}, {len(inputs)} {data} images"
    rows: list[Row] = []
    for baseline in ("bare", "bare_eval"):
        chosen = {key: seconds[key] for key in (baseline, "measure")}
        rows += rows_of("overhead", case, chosen, baseline=baseline, work=len(inputs), unit="images")
    return rows


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
    rows: list[Row] = []
    for labels in {"without": [None], "with": [classes], "both": [None, classes]}[options.labels]:
        for name in options.networks:
            rows += compare(name, inputs, labels, options.pairs, "CIFAR-10" if options.data_dir else "noise")
            for row in rows[-4:]:
                if row.alternative == "measure":
                    print(
                        f"{row.case}: measure {row.median_s:.3f} s, {row.ratio_median:.3f} x {row.baseline} "
                        f"({row.ratio_p20:.3f} to {row.ratio_p80:.3f})",
                        flush=True,
                    )
    write_csv(RESULTS, rows)
    print("written to", RESULTS)


if __name__ == "__main__":
    main()

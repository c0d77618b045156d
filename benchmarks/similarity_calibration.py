"""Are the standard errors of sampled similarities right? Against the exact ones, on real recordings, over salts.

    python benchmarks/similarity_calibration.py --data-dir DATA [--run DIR] [--steps 300] [--images 2000] [--salts 20]

Records a short training of ResNet-20 on CIFAR-10 with every exact table kept (`keep=("all",)`), or takes the
recording at `--run` if it is there. Then, for every site, kind and sample size, and for every salt: samples of all
measured steps are drawn from the tables, and every pair of steps is estimated and compared with its exact value.
Values recorded beside (to the initial and to the last state) are not used. Counted are pairs whose estimate is not
exact (pairs of two whole tables are). Writes benchmarks/results/similarity_calibration.csv with one row per
(kind, size, group); groups are all pairs, each site, and bands of the true similarity:

    pairs          pairs of steps whose value is not exact
    coverage       share of (pair, salt) with the truth within two standard errors, and its p20 and p80 over salts
    spread         mean over pairs of the standard deviation of the estimate over salts
    error          mean standard error;  error_over_spread: their ratio;  bias: mean of estimate - truth
    self_is_one    whether J(s, s) was exactly 1 for every step and salt
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

import reluscope as rs
from reluscope.lab import read_specification, train
from reluscope.measures.similarity import KINDS, PatternSample, similarity_matrix
from reluscope.patterns import PatternCounts, draw_sample

RESULTS = Path(__file__).parent / "results" / "similarity_calibration.csv"
BANDS = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)


def record(folder: Path, data_dir: str, steps: int, images: int) -> None:
    """About 30 measurements of a training, evenly on a logarithmic scale of steps."""
    overrides = [
        f"training.steps={steps}",
        f"data.num_images={max(images, 10_000)}",
        f"probe.num_images={images}",
        "recording.at=[0]",
        "recording.per_decade=12",
        "instruments.patterns.keep=[all]",
        "instruments.patterns.labels=false",
    ]
    train(read_specification("resnet20-cifar10", overrides=overrides), folder, data_dir=data_dir)


def tables_of(run: rs.Run, site: str) -> list[PatternCounts]:
    """The exact table of a site at every step."""
    found = []
    for step in run.steps:
        keys, counts, about = run.table("all", site, step)
        found.append(PatternCounts(keys, counts, about["width"], seed=about["fingerprint_seed"]))
    return found


def whole(counts: PatternCounts) -> PatternSample:
    return PatternSample(counts.keys, counts.counts, 0.0, counts.num_evaluations, counts.num_patterns)


class Pairs:
    """Estimates of pairs (salts, pairs), their errors, and the truth (pairs,), gathered over sites."""

    def __init__(self) -> None:
        self.sites: list[str] = []
        self.truth: list[np.ndarray] = []
        self.value: list[np.ndarray] = []
        self.error: list[np.ndarray] = []
        self.self_is_one = True

    def add(
        self, site: str, tables: list[PatternCounts], truth: np.ndarray, kind, size: int, salts: int
    ) -> None:
        above = np.triu_indices(len(tables), 1)
        values, errors = [], []
        for salt in range(salts):
            found = similarity_matrix([draw_sample(one, size, site=site, seed=salt) for one in tables], kind)
            estimated = ~found.exact[above]
            values.append(found.value[above][estimated])
            errors.append(found.standard_error[above][estimated])
            self.self_is_one &= bool((np.diag(found.value) == 1.0).all())
        self.sites += [site] * len(values[0])
        self.truth.append(truth[above][estimated])
        self.value.append(np.array(values))
        self.error.append(np.array(errors))

    def rows(self) -> list[dict]:
        truth, sites = np.concatenate(self.truth), np.array(self.sites)
        value, error = np.concatenate(self.value, axis=1), np.concatenate(self.error, axis=1)
        groups = {"all": np.ones(len(truth), bool)}
        for low, high in pairwise(BANDS):
            groups[f"{low:g} <= J < {high:g}"] = (low <= truth) & (truth < high)
        groups |= {site: sites == site for site in dict.fromkeys(self.sites)}
        return [
            {
                "group": name,
                **summary(truth[chosen], value[:, chosen], error[:, chosen]),
                "self_is_one": self.self_is_one,
            }
            for name, chosen in groups.items()
            if chosen.any()
        ]


def summary(truth: np.ndarray, value: np.ndarray, error: np.ndarray) -> dict:
    within = np.abs(value - truth) <= 2 * error
    over_salts = within.mean(axis=1)
    spread = value.std(axis=0, ddof=1).mean()
    return {
        "pairs": len(truth),
        "coverage": within.mean(),
        "coverage_p20": np.quantile(over_salts, 0.2),
        "coverage_p80": np.quantile(over_salts, 0.8),
        "mean_truth": truth.mean(),
        "spread": spread,
        "error": error.mean(),
        "error_over_spread": error.mean() / spread,
        "bias": (value - truth).mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", default=os.environ.get("RELUSCOPE_DATA_DIR"))
    parser.add_argument("--run", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--salts", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 512])
    options = parser.parse_args()
    if not (options.run / "run.json").exists():
        record(options.run, options.data_dir, options.steps, options.images)
    run = rs.open_run(options.run)
    cases = {(kind, size): Pairs() for kind in KINDS for size in options.sizes}
    for site in run.sites["name"]:
        started = time.perf_counter()
        tables = tables_of(run, site)
        truths = {kind: similarity_matrix([whole(one) for one in tables], kind).value for kind in KINDS}
        for (kind, size), pairs in cases.items():
            pairs.add(site, tables, truths[kind], kind, size, options.salts)
        print(f"{site}: {len(tables)} steps, {time.perf_counter() - started:.1f} s", flush=True)
    about = {
        "recording": f"{run.info['model']['class']}, {run.info['probe']['num_samples']} images, "
        f"steps {run.steps[0]} to {run.steps[-1]}",
        "measurements": len(run.steps),
        "salts": options.salts,
        "versions": f"numpy={np.__version__} reluscope={rs.__version__} {platform.machine()}",
    }
    rows = [
        {"kind": kind, "size": size, **row, **about}
        for (kind, size), one in cases.items()
        for row in one.rows()
    ]
    with open(RESULTS, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()})
    for row in rows:
        if row["group"] == "all" or "<=" in row["group"]:
            print({name: round(v, 4) if isinstance(v, float) else v for name, v in list(row.items())[:11]})


if __name__ == "__main__":
    main()

"""How far off is a hash list, measure by measure and occupancy by occupancy? Against exact counts of real networks.

    python benchmarks/hashlist_bias.py [--data-dir DATA] [--runs DIR] [--steps 40] [--images 1000] [--seeds 10]

Records ResNet-20, ConvNet-20 and ToyNet-20 (CIFAR-10 with --data-dir, else the embedded digits) at four sites, at
initialisation and before and after the last of a few dozen updates, with the exact tables kept; recordings that are in
`--runs` already are taken as they are. A hash list adds the counts of the patterns in a slot, so hashing a finished
table fills it exactly as streaming every evaluation does (checked against `rs.Patterns(hashlist=...)` at every
site): each table goes into lists of 2^10 to 2^26 slots, and into one of the size at which the paper's limit, an
occupancy of 0.15, is expected; under several hash seeds. Writes benchmarks/results/hashlist_bias.csv, one row per
(network, site, state or pair of states, size, measure) where 0.1 % to 99.9 % of the slots are used, then draws
docs/images/hashlist-bias.png from it and puts the tables into docs/hashlist.md (`--draw`: only that):

    patterns, evaluations, coverage     of the state, exact; means of both for a pair
    occupancy               used slots / size, mean over the seeds and, for a pair, over both states
    exact, hashed           the measure from exact counts, and from the list (mean over seeds)
    bias, bias_p20, bias_p80    hashed - exact, mean and percentiles over the seeds; for total, max_frequency and
                            relative_change divided by the exact value
    expected                what theory says of the bias, where it depends on few numbers (docs/hashlist.md)
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _hashlist_figure import draw, insert_tables, tables_of

import reluscope as rs
from reluscope import measures
from reluscope.kernels.fingerprint import DEFAULT_SEED, hash_keys
from reluscope.kernels.hash_slots import slots_of
from reluscope.lab import read_specification, train
from reluscope.patterns import PatternCounts

RESULTS = Path(__file__).parent / "results" / "hashlist_bias.csv"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "hashlist-bias.png"
PAGE = Path(__file__).parents[1] / "docs" / "hashlist.md"
NETWORKS = ("resnet20", "convnet20", "toynet20")
SITES = ("stage1.0.act1", "stage1.2.act1", "stage2.1.act1", "stage3.1.act1")
CIFAR = ("data.name=cifar10", "data.num_images=10000")
DIGITS = ("data.name=mnist-sample", "data.num_images=null", "data.held_out=0.1")
SIZES = tuple(2**power for power in range(10, 27))
TRUSTED = 0.15  # [A] section 3.1: "maximal occupancy 15%"
CHECKED_SIZE = 2**14
SHOWN = (0.001, 0.999)  # occupancies; outside of them a list shows nothing, or nothing is wrong with it
RELATIVE = ("total", "max_frequency", "relative_change")


def record(folder: Path, network: str, data_dir: str | None, steps: int, images: int) -> None:
    """The states before any, before the last and after the last update, with their tables."""
    overrides = [
        *(CIFAR if data_dir else DIGITS),
        "schedule.name=constant",
        f"training.steps={steps}",
        "training.channels_last=true",
        f"probe.num_images={images}",
        f"recording.at=[0, {steps - 1}]",
        "recording.per_decade=null",
        f"recording.sites=[{', '.join(SITES)}]",
        "instruments.patterns.keep=[all]",
        "instruments.patterns.labels=false",
        "instruments.patterns.sample_size=0",
        f"instruments.patterns.hashlist={CHECKED_SIZE}",
    ]
    train(read_specification(f"{network}-cifar10", overrides=overrides), folder, data_dir=data_dir)


@dataclass(frozen=True, kw_only=True)
class States:
    """The patterns of one site at the recorded steps.

    Attributes:
        words: uint64 (U, W), the patterns seen at any of the steps.
        counts: int64 per step (U,), 0 where a pattern did not occur.
        width: bits of a pattern.
    """

    words: np.ndarray
    counts: dict[int, np.ndarray]
    width: int

    def hashed(self, size: int, seed: int) -> dict[int, np.ndarray]:
        """Counts of the slots that any step uses, per step, in one order for all."""
        slots = slots_of(self.words, hash_keys(seed, self.words.shape[1])[0], size)
        if size <= 4 * len(slots):
            # Weights are float64: exact, as every count is far below 2^53.
            return {s: np.bincount(slots, c, minlength=size).astype(np.int64) for s, c in self.counts.items()}
        order = np.argsort(slots)
        starts = np.flatnonzero(np.diff(slots[order], prepend=-1))
        return {s: np.add.reduceat(c[order], starts) for s, c in self.counts.items()}


def read_states(run: rs.Run, site: str) -> States:
    """From the kept tables, once it is sure that a hashed table is what the streaming hash list held."""
    tables = {}
    for step in run.steps:
        keys, counts, about = run.table("all", site, step)
        tables[step] = PatternCounts(keys, counts, about["width"], seed=about["fingerprint_seed"])
    union = PatternCounts.empty(about["width"], seed=about["fingerprint_seed"])
    for table in tables.values():
        assert not table.is_fingerprint, "a table of fingerprints has no patterns to hash"
        union = union.merge(table)
    counts = {step: union.join(table)[1] for step, table in tables.items()}
    states = States(words=union.keys, counts=counts, width=union.width)
    check_streaming(run, site, states)
    return states


def check_streaming(run: rs.Run, site: str, states: States) -> None:
    """The recording ran a hash list beside the counts, with the default seed: the same used slots and entropy."""
    recorded = run.layers.query("site == @site").set_index("step")
    for step, slots in states.hashed(CHECKED_SIZE, DEFAULT_SEED).items():
        found = measures.summarize_hashlist(slots[slots > 0], size=CHECKED_SIZE)
        for name, value in found.items():
            assert value == recorded.at[step, name], (site, step, name, value, recorded.at[step, name])


def of_state(counts: np.ndarray, width: int) -> dict[str, float]:
    """Measures of one distribution."""
    row = measures.summarize(counts[counts > 0], width=width, num_units=width, num_kinks=1)
    return {name: row[name] for name in ("total", "entropy", "relative_entropy", "max_frequency", "coverage")}


def of_pair(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Measures of two states."""
    return {
        "weighted_jaccard": measures.weighted_jaccard(before, after),
        "churn_rate": measures.changes(before, after).churn_rate,
        "relative_change": measures.changes(before, after).relative,
    }


def used_slots(patterns: int, size: int) -> float:
    """Expected number of used slots, size (1 - (1 - 1/size)^P)."""
    return -size * np.expm1(patterns * np.log1p(-1 / size))


def expected_of_state(counts: np.ndarray, size: int) -> dict[str, float]:
    """Bias of balls thrown into bins at random, where it depends on few numbers; see docs/hashlist.md."""
    total, num_evaluations = int((counts > 0).sum()), int(counts.sum())
    alone = (1 - 1 / size) ** (total - 1)  # chance that no other pattern shares a pattern's slot
    return {
        "total": used_slots(total, size) / total - 1,
        "coverage": (counts == 1).sum() / num_evaluations * (1 - alone),
    }


def expected_of_pair(before: np.ndarray, after: np.ndarray, size: int) -> dict[str, float]:
    """The same for changes of the set of patterns: only before, only after, and common ones in `size` slots."""
    both = int(((before > 0) & (after > 0)).sum())
    only_before, only_after = int((before > 0).sum()) - both, int((after > 0).sum()) - both
    free = [np.exp(-number / size) for number in (both, only_before, only_after)]
    union = 1 - free[0] * free[1] * free[2]
    shared = 1 - free[0] + free[0] * (1 - free[1]) * (1 - free[2])
    exact = (only_before + only_after) / (both + only_before + only_after)
    used_before, used_after = used_slots(both + only_before, size), used_slots(both + only_after, size)
    net = (only_after - only_before) / (both + only_after)
    return {
        "churn_rate": (1 - shared / union) - exact,
        "relative_change": (1 - used_before / used_after) / net - 1 if net else np.nan,
    }


def cases_of(states: States) -> dict[str, tuple[int, ...]]:
    """The steps of each single state and each pair that is looked at, by name."""
    first, before, last = sorted(states.counts)
    return {
        f"step {first}": (first,),
        f"step {last}": (last,),
        f"steps {first} and {last}": (first, last),
        f"steps {before} and {last}": (before, last),
    }


def rows_of(states: States, seeds: int) -> Iterator[dict]:
    """All sizes of the power of two, and for each case the size at which the limit is expected."""
    cases = cases_of(states)
    patterns = {name: np.mean([(states.counts[s] > 0).sum() for s in steps]) for name, steps in cases.items()}
    limits = {name: round(-mean / np.log1p(-TRUSTED)) for name, mean in patterns.items()}
    for size in sorted({*SIZES, *limits.values()}):
        wanted = {name: steps for name, steps in cases.items() if size in SIZES or limits[name] == size}
        found = {name: [] for name in wanted}
        for seed in range(seeds):
            slots = states.hashed(size, seed)
            for name, steps in wanted.items():
                hashed = [slots[step] for step in steps]
                used = np.mean([(counts > 0).sum() / size for counts in hashed])
                found[name].append(values_of(hashed, states.width) | {"occupancy": used})
        for name, steps in wanted.items():
            exact = [states.counts[step] for step in steps]
            about = {
                "state": name,
                "patterns": round(patterns[name]),
                "evaluations": int(exact[0].sum()),
                "coverage": float(np.mean([measures.coverage(counts[counts > 0]) for counts in exact])),
                "size": size,
            }
            for row in compared(exact, found[name], size, states.width):
                if SHOWN[0] <= row["occupancy"] <= SHOWN[1]:
                    yield about | row


def values_of(counts: list[np.ndarray], width: int) -> dict[str, float]:
    return of_state(counts[0], width) if len(counts) == 1 else of_pair(*counts)


def compared(exact_counts: list[np.ndarray], found: list[dict], size: int, width: int) -> Iterator[dict]:
    """One row per measure, of one state or of a pair; `found` holds the values under each seed."""
    if len(exact_counts) == 1:
        expected = expected_of_state(exact_counts[0], size)
    else:
        expected = expected_of_pair(exact_counts[0], exact_counts[1], size)
    for name, exact in values_of(exact_counts, width).items():
        hashed = np.array([one[name] for one in found])
        scale = (exact or np.nan) if name in RELATIVE else 1.0  # nothing is relative to a change of 0
        bias = (hashed - exact) / scale
        yield {
            "occupancy": float(np.mean([one["occupancy"] for one in found])),
            "measure": name,
            "exact": exact,
            "hashed": float(hashed.mean()),
            "bias": float(bias.mean()),
            "bias_p20": float(np.quantile(bias, 0.2)),
            "bias_p80": float(np.quantile(bias, 0.8)),
            "expected": float(expected.get(name, np.nan)),
        }


def measure_all(options: argparse.Namespace) -> list[dict]:
    rows = []
    for network in NETWORKS:
        folder = options.runs / network
        if not (folder / "run.json").exists():
            record(folder, network, options.data_dir, options.steps, options.images)
        run = rs.open_run(folder)
        about = f"{run.info['training']['data']['name']}, {run.info['probe']['num_samples']} images, "
        about += f"{options.seeds} seeds, numpy={np.__version__}"
        for site in SITES:
            started = time.perf_counter()
            states = read_states(run, site)
            first = {"network": network, "site": site, "width": states.width}
            rows += [first | row | {"about": about} for row in rows_of(states, options.seeds)]
            print(f"{network} {site}: {len(states.words)} patterns, {time.perf_counter() - started:.1f} s")
    return rows


def write(rows: list[dict]) -> None:
    with open(RESULTS, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", default=os.environ.get("RELUSCOPE_DATA_DIR"))
    parser.add_argument("--runs", type=Path, default=Path("runs/hashlist-bias"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    options = parser.parse_args()
    if not options.draw:
        write(measure_all(options))
    results = pd.read_csv(RESULTS)
    draw(results, PICTURE)
    insert_tables(PAGE, tables_of(results))


if __name__ == "__main__":
    main()

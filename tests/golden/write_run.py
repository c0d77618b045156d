"""Wrote tests/golden/runs/schema-1. It shows what is in it; a released version's run is never written again.

python tests/golden/write_run.py tests/golden/runs/schema-N
"""

from __future__ import annotations

import sys

import numpy as np

from reluscope.runs import RunWriter

SITES = ("stem.relu", "head.relu#1")


def rows(step: int) -> list[dict]:
    common = {"num_evaluations": 2**40, "width": 128, "num_units": 64, "exact": True}
    first = {
        "site": SITES[0],
        "site_index": 0,
        "total": 2**53 + 1 + step,
        "entropy": 0.1 + step,
        "relative_entropy": float("nan"),
        "nan_fraction": 0.0,
        "parameter_hash": f"{step:032x}",
    }
    second = {**first, "site": SITES[1], "site_index": 1, "total": 3, "nan_fraction": 0.25}
    if step:
        first["appeared"], second["appeared"] = 5, 0
    return [{**common, **first}, {**common, **second}]


def tables(kind: str) -> dict:
    keys = np.array([[0, 0], [1, 0], [2**64 - 1, 2**64 - 1]], dtype=np.uint64)
    counts = np.array([1, 2**40, 7], dtype=np.int64)
    meta = {"width": 128, "num_evaluations": int(counts.sum()), "fingerprint_seed": None}
    narrow = {"width": 2, "num_evaluations": 3, "fingerprint_seed": None}
    return {
        (kind, SITES[0]): (keys, counts, meta),
        (kind, SITES[1]): (keys[:2, :1], np.array([1, 2]), narrow),
    }


def main(path: str) -> None:
    sites = [
        {"name": site, "module": "", "operation": "relu", "width": 128, "num_units": 64} for site in SITES
    ]
    info = {
        "model": {"class": "Net"},
        "sites": sites,
        "unobserved": [{"name": "gelu", "reason": "smooth"}],
        "seed": 1,
    }
    with RunWriter.create(path, info) as writer:
        writer.commit(0, rows(0), tables=tables("init"), seconds=0.5)
        for step in (1, 300):
            writer.commit(step, rows(step), tables=tables("all"), seconds=0.25)
        writer.keep_tables(300, tables("final"))
        writer.add_scalars(
            [{"step": 0, "loss": 2.5, "lr": 0.1, "batch_indices": [7, 3]}, {"step": 1, "loss": 2.0}]
        )


if __name__ == "__main__":
    main(sys.argv[1])

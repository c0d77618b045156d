"""Runs written by earlier versions open with the values they were written with, and can be continued."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from reluscope.runs import RunWriter, open_run

FOLDER = Path(__file__).parent / "runs"
SCHEMA_1 = FOLDER / "schema-1"


def test_every_schema_version_has_its_run():
    from reluscope.runs import RUN_SCHEMA_VERSION

    expected = {f"schema-{version}" for version in range(1, RUN_SCHEMA_VERSION + 1)}
    assert {path.name for path in FOLDER.iterdir()} == expected


def test_schema_1_layers():
    run = open_run(SCHEMA_1)
    assert run.steps == [0, 1, 300]
    assert run.name == "schema-1"
    assert run.state == "closed"
    assert run.info["model"] == {"class": "Net"}
    assert run.sites["name"].tolist() == ["stem.relu", "head.relu#1"]
    layers = run.layers.set_index(["step", "site"])
    first = layers.loc[(300, "stem.relu")]
    assert layers["total"].tolist() == [2**53 + 1, 3, 2**53 + 2, 3, 2**53 + 301, 3]
    assert first["entropy"] == 300.1
    assert math.isnan(first["relative_entropy"])
    assert first["parameter_hash"] == f"{300:032x}"
    assert first["seconds"] == 0.25
    assert first["time"].endswith("+00:00")
    assert layers["appeared"].isna().tolist() == [True, True, False, False, False, False]
    assert layers["exact"].all()
    assert "coverage" not in layers
    assert [text.split(":")[0] for text in run.warnings] == [
        "1 activation was seen and not observed",
        'NaN among the pre-activations of "head.relu#1" (site 1), first at step 0.',
    ]


def test_schema_1_dataset():
    dataset = open_run(SCHEMA_1).dataset
    assert dict(dataset.sizes) == {"step": 3, "site": 2}
    assert dataset["total"].sel(step=1, site="stem.relu").item() == 2**53 + 2
    assert dataset["width"].values.tolist() == [128, 128]


def test_schema_1_scalars():
    scalars = open_run(SCHEMA_1).scalars
    assert scalars.columns.tolist() == ["step", "loss", "lr", "batch_indices"]
    assert scalars["loss"].tolist() == [2.5, 2.0]
    assert scalars["batch_indices"].iloc[0].tolist() == [7, 3]


@pytest.mark.parametrize(("kind", "step"), [("init", None), ("final", None), ("all", 1)])
def test_schema_1_tables(kind, step):
    run = open_run(SCHEMA_1)
    keys, counts, meta = run.table(kind, "stem.relu", step=step)
    assert keys.dtype == np.uint64
    assert keys.tolist() == [[0, 0], [1, 0], [2**64 - 1, 2**64 - 1]]
    assert counts.tolist() == [1, 2**40, 7]
    assert meta["width"] == 128
    assert meta["fingerprint_seed"] is None
    assert run.table(kind, "head.relu#1", step=step)[0].tolist() == [[0], [1]]


def test_schema_1_goes_on(tmp_path):
    shutil.copytree(SCHEMA_1, tmp_path / "run")
    with RunWriter.resume(tmp_path / "run") as writer:
        writer.commit(301, [{"site": "stem.relu", "site_index": 0, "total": 9}])
        writer.add_scalars([{"step": 1, "loss": 1.5}])
    run = open_run(tmp_path / "run")
    assert run.steps == [0, 1, 300, 301]
    assert run.scalars["loss"].tolist() == [2.5, 1.5]

"""Exports: the same numbers in other formats, whole files only, and words for what cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from reluscope.errors import ExportError, MissingExtraError
from reluscope.runs import RunWriter, open_run


@pytest.fixture
def run(tmp_path):
    with RunWriter.create(tmp_path / "run", {"model": {"class": "Net"}, "seed": 2**63 + 1}) as writer:
        for step in (0, 5):
            row = {
                "site_index": 0,
                "total": step + 1,
                "entropy": float("nan") if step else 0.1,
                "exact": True,
            }
            writer.commit(step, [{"site": "layer/1.relu", "width": 4, "num_units": 4, **row}])
    return open_run(tmp_path / "run")


def test_csv_holds_the_layers(run, tmp_path):
    assert run.export(tmp_path / "run.csv") == tmp_path / "run.csv"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run.csv"), run.layers, check_dtype=False)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_the_dataset_comes_back(run, tmp_path, suffix):
    # The extra `export` is a part of `dev`: a package of it that is missing is a failure, not a skip.
    import h5netcdf  # noqa: F401
    import h5py  # noqa: F401
    import xarray as xr
    import zarr  # noqa: F401

    run.export(tmp_path / f"run{suffix}")
    engine = "zarr" if suffix == ".zarr" else "h5netcdf"
    with xr.open_dataset(tmp_path / f"run{suffix}", engine=engine) as found:
        np.testing.assert_array_equal(found["total"].values, run.dataset["total"].values)
        np.testing.assert_array_equal(found["entropy"].values, run.dataset["entropy"].values)
        assert found["site"].values.tolist() == ["layer/1.relu"]
        assert found["total"].attrs["units"] == "patterns"
        assert found.attrs["model"] == '{"class": "Net"}'
    assert not list(tmp_path.glob("*.tmp"))


def test_another_suffix_is_refused(run, tmp_path):
    with pytest.raises(
        ExportError, match=r'the suffix "\.xlsx" names no format; there are \.zarr, \.nc, \.csv'
    ):
        run.export(tmp_path / "run.xlsx")


def test_what_is_there_stays_unless_said_otherwise(run, tmp_path):
    (tmp_path / "run.csv").write_text("mine")
    with pytest.raises(ExportError, match="overwrite=True"):
        run.export(tmp_path / "run.csv")
    assert (tmp_path / "run.csv").read_text() == "mine"
    run.export(tmp_path / "run.csv", overwrite=True)
    assert (tmp_path / "run.csv").read_text().startswith("step,site,")


@pytest.mark.parametrize(("suffix", "package"), [(".zarr", "zarr"), (".nc", "h5netcdf"), (".nc", "h5py")])
def test_a_missing_extra_is_named(run, tmp_path, monkeypatch, suffix, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf'needs the package "{package}".*pip install "reluscope\[export\]"'
    ):
        run.export(tmp_path / f"run{suffix}")
    assert not list(tmp_path.glob(f"*{suffix}*"))


def test_a_failing_export_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="No space"):
        run.export(tmp_path / "run.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

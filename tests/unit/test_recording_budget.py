"""Runs with a memory budget: rows with errors, one table of columns, resume and similarity as without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import reluscope as rs
from reluscope.errors import BudgetError, InstrumentError, ReluscopeWarning, SpillError
from reluscope.runs.schema import error_columns

BUDGET = 300_000


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.out = (
            torch.nn.Linear(20, 40),
            torch.nn.Linear(40, 12),
            torch.nn.Linear(12, 3),
        )

    def forward(self, x):
        return self.out(torch.relu(self.narrow(torch.relu(self.wide(x)))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def probe() -> rs.Probe:
    generator = torch.Generator().manual_seed(1)
    return rs.Probe(
        torch.randn(6000, 20, generator=generator),
        torch.randint(0, 3, (6000,), generator=generator),
        batch_size=500,
    )


def record(net, probe, path, steps, **options) -> None:
    """One update between two steps; the net ends in the state of the last one."""
    instrument = rs.Patterns(memory_budget=BUDGET, sample_size=300, keep=("init", "all"))
    with rs.Recorder(
        net, probe, path, schedule=rs.every(1), instruments=[instrument], on_error="raise", **options
    ) as recorder:
        for step in steps:
            if step != steps[0]:
                for weight in net.parameters():
                    weight.data.mul_(1.01 if step % 2 else 0.98).add_(0.003)
            recorder.record(step)


@pytest.mark.parametrize(
    "options", [{"memory_budget": 0}, {"memory_budget": -5}, {"memory_budget": "2 apples"}]
)
def test_what_is_no_budget_is_refused(options):
    with pytest.raises(BudgetError, match="memory_budget"):
        rs.Patterns(**options)


def test_a_spill_needs_a_budget_and_a_folder(tmp_path):
    with pytest.raises(InstrumentError, match="there is none"):
        rs.Patterns(spill=tmp_path)
    with pytest.raises(SpillError, match="no such folder"):
        rs.Patterns(memory_budget="1 MB", spill=tmp_path / "nowhere")


def test_the_large_site_is_estimated_and_the_small_one_exact(net, probe):
    with pytest.warns(ReluscopeWarning, match='Estimates .* at 1 of 2 sites \\("relu"\\)'):
        snapshot = rs.measure(net, probe, instruments=[rs.Patterns(memory_budget=BUDGET)])
    plain = rs.measure(net, probe).to_dataframe()
    found = snapshot.to_dataframe()
    assert found["exact"].tolist() == [False, True]
    assert isinstance(snapshot.patterns["relu"], rs.EstimatedCounts)
    assert isinstance(snapshot.patterns["relu#1"], rs.PatternCounts)
    for name in plain.columns:
        assert found.loc["relu#1", name] == plain.loc["relu#1", name]
        if f"{name}_error" in found:
            assert (
                abs(found.loc["relu", name] - plain.loc["relu", name])
                <= 3 * found.loc["relu", f"{name}_error"]
            )
            assert np.isnan(found.loc["relu#1", f"{name}_error"])


def test_what_fits_has_the_rows_of_no_budget(net, probe, tmp_path):
    plain = rs.measure(net, probe)
    for options in ({"memory_budget": "1 GB"}, {"memory_budget": BUDGET, "spill": tmp_path}):
        held = rs.measure(net, probe, instruments=[rs.Patterns(**options)])
        assert held.rows() == plain.rows()
        assert held.patterns == plain.patterns


@pytest.mark.filterwarnings("ignore:at step 0. Estimates")
@pytest.mark.filterwarnings("ignore:at step 1. Estimates")
def test_a_resumed_run_is_that_of_one_go(net, probe, tmp_path):
    start = {name: value.clone() for name, value in net.state_dict().items()}
    record(net, probe, tmp_path / "whole", range(4))
    net.load_state_dict(start)
    record(net, probe, tmp_path / "parts", range(2))
    record(net, probe, tmp_path / "parts", range(1, 4), if_exists="resume")
    whole, parts = (rs.open_run(tmp_path / name) for name in ("whole", "parts"))
    columns = [name for name in whole.layers if name not in ("seconds", "time")]
    assert whole.layers[columns].equals(parts.layers[columns])
    assert whole.layers["exact"].tolist() == [False, True] * 4
    assert whole.layers["weighted_jaccard_to_init_error"].iloc[2] > 0
    assert any("estimates" in text and '"relu"' in text for text in whole.warnings)
    assert whole.dataset["entropy_error"].attrs["units"] == "bits"


@pytest.mark.filterwarnings("ignore:at step 0. Estimates")
def test_similarity_of_any_two_steps_from_what_is_kept(net, probe, tmp_path):
    record(net, probe, tmp_path / "run", range(3))
    run = rs.open_run(tmp_path / "run")
    rows = run.layers[run.layers["site"] == "relu"]
    found = run.similarity("relu")
    assert not found["exact"].values[0, 1]
    recorded = rows["weighted_jaccard_to_last"].iloc[1]
    assert found.values[0, 1] == pytest.approx(recorded)  # of the same patterns, from the kept tables
    assert found["standard_error"].values[0, 1] > 0
    assert run.similarity("relu#1")["exact"].values.all()
    keys, counts, about = run.table("init", "relu")
    assert about["exact"] is False
    assert len(about["levels"]) == len(counts) == len(keys)
    sample = run.stored_samples.get(1, "relu")
    assert sample is not None
    assert sample.ceilings is not None
    assert not sample.is_whole
    exact_sample = run.stored_samples.get(1, "relu#1")
    assert exact_sample is not None
    assert exact_sample.ceilings is None


def test_a_run_without_a_budget_has_no_columns_of_errors(net, probe, tmp_path):
    with rs.Recorder(net, probe, tmp_path / "run", schedule=rs.at(0)) as recorder:
        recorder.record(0)
    assert not set(rs.open_run(tmp_path / "run").info["columns"]) & set(error_columns())

"""What a recording leaves for later comparisons: which steps are sampled, tables within a budget, resumes."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import reluscope as rs
from reluscope.errors import InstrumentError, ReluscopeWarning, SimilarityError, TrajectoryMismatchError
from reluscope.measures.similarity import similarities
from reluscope.patterns import PatternCounts, draw_sample
from reluscope.recording import journal, keeping
from reluscope.runs import durable

SITES = ["1", "3"]


def train(folder: Path, last: int, *, first: int = 0, force: bool = False, schedule=None, **patterns) -> None:
    """Record a training whose state depends on the step only; 200 samples, two sites, one of two words."""
    torch.manual_seed(0)
    inputs = torch.randn(200, 6)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 80), nn.ReLU(), nn.Linear(80, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    recorder = rs.Recorder(
        model,
        rs.Probe(inputs),
        folder,
        schedule=schedule or rs.every(1),
        instruments=[rs.Patterns(**patterns)],
        if_exists="resume",
    )
    with recorder:
        for step in range(last + 1):
            if step >= first:
                recorder.record(step, force=force and step == last)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), torch.arange(200) % 2).backward()
            optimizer.step()


def sampled_steps(folder: Path, site: str = "1") -> list[int]:
    return rs.open_run(folder).stored_samples.steps(site)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for table in ("layers", "samples", "tables")
        for path in sorted((folder / table).glob("*"))
    }


def test_by_default_every_measurement_leaves_the_sample_of_its_table(tmp_path):
    train(tmp_path / "run", 6, keep=("all",), sample_size=50, sample_seed=3)
    run = rs.open_run(tmp_path / "run")
    for site, words in zip(SITES, (1, 2), strict=True):
        assert run.stored_samples.steps(site) == run.steps
        for step in run.steps:
            keys, counts, about = run.table("all", site, step)
            table = PatternCounts(keys, counts, about["width"], seed=about["fingerprint_seed"])
            expected, found = draw_sample(table, 50, site=site, seed=3), run.stored_samples.get(step, site)
            assert found.keys.shape[1] == words
            assert np.array_equal(found.keys, expected.keys)
            assert np.array_equal(found.counts, expected.counts)
            assert (found.tau, found.num_evaluations, found.num_patterns) == (
                expected.tau,
                200,
                table.num_patterns,
            )


def test_dense_measurements_are_sampled_on_a_logarithmic_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_NUM_DENSE", 5)
    monkeypatch.setattr(keeping, "_PER_DECADE", 4)
    train(tmp_path / "run", 40, keep=())
    # Five at first; then the first step beyond each of 10^(4/4), 10^(5/4) = 17.8, 10^(6/4) = 31.6; the last one.
    assert sampled_steps(tmp_path / "run") == [0, 1, 2, 3, 4, 6, 10, 18, 32, 40]
    parts = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert parts == ["final.parquet", "part-000000.parquet"]
    frame = rs.open_run(tmp_path / "run").similarity_to("final")
    assert frame["step"].unique().tolist() == [0, 1, 2, 3, 4, 6, 10, 18, 32, 39, 40]  # 39: recorded beside 40


def test_sparse_measurements_fall_on_the_scale_too(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_NUM_DENSE", 2)
    monkeypatch.setattr(keeping, "_PER_DECADE", 4)
    train(tmp_path / "run", 60, keep=(), schedule=rs.every(20))
    assert sampled_steps(tmp_path / "run") == [0, 20, 40, 60]  # a point lies between any two of them


def test_a_forced_measurement_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_NUM_DENSE", 1)
    train(tmp_path / "run", 7, keep=(), schedule=rs.every(5), force=True, sample_schedule=rs.at(5))
    assert sampled_steps(tmp_path / "run") == [0, 5, 7]
    assert not (tmp_path / "run" / "samples" / "final.parquet").exists()


def test_samples_have_a_schedule_of_their_own(tmp_path):
    train(tmp_path / "run", 9, keep=(), sample_schedule=rs.every(4))
    assert sampled_steps(tmp_path / "run") == [0, 4, 8, 9]
    info = rs.open_run(tmp_path / "run").info["instruments"][0]
    assert (info["sample_size"], info["sample_seed"]) == (4096, 0)
    assert info["sample_schedule"] == {"every": {"n": 4}}


def test_the_final_sample_counts_until_the_run_goes_on(tmp_path):
    options = {"sample_schedule": rs.every(4), "sample_size": 40}
    train(tmp_path / "run", 6, **options)
    assert sampled_steps(tmp_path / "run") == [0, 4, 6]
    train(tmp_path / "run", 9, first=6, **options)
    assert sampled_steps(tmp_path / "run") == [0, 4, 8, 9]
    train(tmp_path / "whole", 9, **options)
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_last_step_that_is_sampled_has_no_final_sample_after_a_resume(tmp_path):
    options = {"sample_schedule": rs.every(4), "sample_size": 40}
    train(tmp_path / "run", 4, **options)
    train(tmp_path / "run", 4, first=4, **options)  # measured again, compared, not rewritten
    assert sampled_steps(tmp_path / "run") == [0, 4]
    assert not (tmp_path / "run" / "samples" / "final.parquet").exists()


def test_a_training_that_was_killed_leaves_the_same_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_NUM_DENSE", 3)
    options = {"keep": ("init", "final", "all"), "sample_size": 30, "disk_budget": 60_000}
    with pytest.warns(ReluscopeWarning, match="no exact tables are kept"):
        train(tmp_path / "whole", 12, **options)
    for cut in (2, 4, 11):
        folder = tmp_path / f"cut-{cut}"

        class Killed(BaseException):
            pass

        def die(path, write, cut=cut, real=durable.replace_file):
            folder = path.parent.parent
            is_run = path.parent.name == "layers" and (folder / "run.json").exists()
            if is_run and len(rs.open_run(folder).steps) == cut:
                raise Killed  # samples and tables of this step are written, its rows are not
            real(path, write)

        with warnings.catch_warnings(), monkeypatch.context() as patched:
            warnings.simplefilter("ignore", ReluscopeWarning)
            patched.setattr("reluscope.runs.parts.replace_file", die)
            with pytest.raises(Killed):
                train(folder, 12, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReluscopeWarning)
            train(folder, 12, first=cut - 1, **options)
        assert files(folder) == files(tmp_path / "whole")


def test_samples_wait_while_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_RETRY_S", 0.0)
    options = {"keep": (), "sample_size": 30}
    train(tmp_path / "whole", 8, **options)
    real, refused = durable._open_new, []

    def open_new(path):
        steps = rs.open_run(tmp_path / "run").steps if (tmp_path / "run" / "run.json").exists() else []
        if path.parent.name == "samples" and len(steps) == 4 and len(refused) < 3:
            refused.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path)

    monkeypatch.setattr(durable, "_open_new", open_new)
    with pytest.warns(ReluscopeWarning, match="wait in memory"):
        train(tmp_path / "run", 8, **options)
    assert len(refused) == 3
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_tables_are_held_to_the_budget(tmp_path):
    train(tmp_path / "unlimited", 10, keep=("all",))
    sizes = {
        int(path.stem[4:]): path.stat().st_size for path in (tmp_path / "unlimited" / "tables").iterdir()
    }
    budget = sum(sizes.values()) // 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path / "run", 10, keep=("init", "all"), disk_budget=budget)
    assert len(caught) == 1
    assert "from step" in str(caught[0].message)
    assert f"disk_budget is {budget:,}" in str(caught[0].message)
    kept = sorted((tmp_path / "run" / "tables").glob("all-*"))
    assert 2 <= len(kept) <= 5
    assert sum(path.stat().st_size for path in kept) <= budget
    run = rs.open_run(tmp_path / "run")
    assert [int(path.stem[4:]) for path in kept] == run.steps[: len(kept)]
    assert run.info["tables_end_before"] == len(kept)
    assert sum("no exact tables are kept" in text for text in run.warnings) == 1
    assert run.similarity("1").sizes["step"] == 11  # samples stand in for the tables that are missing
    # A resumed run does not begin again with keeping, however small a table is.
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReluscopeWarning)
        train(tmp_path / "run", 12, first=10, keep=("init", "all"), disk_budget=budget)
    assert sorted((tmp_path / "run" / "tables").glob("all-*")) == kept


def test_tables_that_wait_for_the_disk_count_towards_the_budget(tmp_path):
    counts = PatternCounts(np.arange(1000, dtype=np.uint64)[:, None], np.ones(1000, np.int64), 20)
    config, said = rs.Patterns(keep=("all",), disk_budget=100_000), []
    with rs.Recorder(
        nn.ReLU(), rs.Probe(torch.ones(2, 2)), tmp_path / "run", schedule=rs.every(1)
    ) as recorder:
        keeper = keeping.Keeper([config], recorder._writer, said.append)
        kept = [step for step in range(9) if keeper.tables(step, {"1": counts}, is_first=False)]
    assert kept == [0, 1, 2, 3]  # of at most 16,000 bytes and 2 % and what a file has beside them
    assert len(said) == 1


def test_a_budget_too_small_for_one_table_keeps_none(tmp_path):
    with pytest.warns(ReluscopeWarning, match=r"from step 0 on .* those of 0 steps"):
        train(tmp_path / "run", 2, keep=("all",), disk_budget=100)
    assert not list((tmp_path / "run" / "tables").glob("all-*"))


def test_without_samples(tmp_path):
    train(tmp_path / "run", 3, keep=(), sample_size=None)
    assert not (tmp_path / "run" / "samples").exists()
    run = rs.open_run(tmp_path / "run")
    with pytest.raises(SimilarityError, match=r"neither samples nor tables of \"1\".*sample_size=4096"):
        run.similarity("1")
    with pytest.raises(SimilarityError, match="sample_size=4096"):
        run.similarity_to(2)
    to_init = run.similarity_to("init")
    expected = run.layers[run.layers["site"] == "3"]["weighted_jaccard_to_init"].tolist()
    assert to_init[to_init["site"] == "3"]["value"].tolist() == expected
    assert to_init["exact"].all()


def test_a_run_of_before_there_were_samples_goes_on_without_them(tmp_path):
    train(tmp_path / "run", 3, sample_size=0)
    assert "sample_size" not in rs.open_run(tmp_path / "run").info["instruments"][0]
    with pytest.raises(TrajectoryMismatchError, match="sample_size"):
        train(tmp_path / "run", 5, first=3)
    train(tmp_path / "run", 5, first=3, sample_size=0)


def test_wrong_options_are_refused():
    for options, text in (
        ({"sample_size": -1}, "sample_size=-1 is not a whole number of at least 0"),
        ({"sample_size": 2.5}, r"sample_size=2\.5"),
        ({"sample_seed": -1}, "sample_seed=-1"),
        ({"sample_schedule": 10}, r"sample_schedule=10 is no schedule.*rs\.every\(10\)"),
        ({"disk_budget": 0, "keep": ("all",)}, "disk_budget=0"),
        ({"disk_budget": 10**9}, 'disk_budget=1000000000 limits the tables of keep="all"'),
    ):
        with pytest.raises(InstrumentError, match=text):
            rs.Patterns(**options)


def test_recorded_samples_hold_to_their_error_bars(tmp_path):
    """A real training, recorded with all tables, and again with samples under six seeds."""
    train(tmp_path / "exact", 24, keep=("all",), schedule=rs.every(2))
    exact = rs.open_run(tmp_path / "exact")
    truth = {site: exact.similarity(site) for site in SITES}
    assert all(one.exact.all() for one in truth.values())
    within, scaled = [], []
    for seed in range(6):
        folder = tmp_path / f"seed-{seed}"
        train(folder, 24, keep=(), schedule=rs.every(2), sample_size=40, sample_seed=seed)
        run = rs.open_run(folder)
        for site in SITES:
            found = run.similarity(site)
            assert (np.diag(found) == 1.0).all()
            assert np.array_equal(found, found.T)
            known = found.exact.values  # to the initial and to the last state: recorded, not estimated
            assert np.array_equal(found.values[known], truth[site].values[known])
            # The recorded samples alone, without what was recorded beside them.
            samples = [run.stored_samples.get(step, site) for step in run.steps]
            alone = similarities(samples, samples)
            assert np.allclose(alone.value[~known], found.values[~known], rtol=1e-12)
            above = np.triu(~known, 1)
            off = (found.values - truth[site].values)[above]
            within.append(np.abs(off) <= 2 * found.standard_error.values[above])
            scaled.append(off)
    assert len(scaled) == 12
    # Errors of one seed go together, so this is a coarse check; benchmarks/similarity_calibration.py is the fine one.
    assert 0.85 <= np.concatenate(within).mean() <= 1.0
    assert np.abs(np.concatenate(scaled)).max() > 0.01  # they are estimates

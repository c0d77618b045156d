"""Run.similarity and Run.similarity_to: what is exact, what is estimated, what is refused in which words."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from reluscope.errors import RunCorruptError, SimilarityError, UnknownSiteError
from reluscope.measures import jaccard, weighted_jaccard
from reluscope.measures.similarity import PatternSample, similarities
from reluscope.runs import RunWriter, open_run, similarity

GOLDEN = Path(__file__).parents[1] / "golden" / "runs" / "schema-1"
STEPS = [0, 3, 4, 10, 20]
SITES = ("a", "b")
INFO = {"sites": [{"name": site, "width": 20, "num_units": 20} for site in SITES]}
KINDS = ("weighted_jaccard", "jaccard")


def counts_at(step: int, site: str) -> np.ndarray:
    """Counts of 300 patterns, most of them changing slowly with the step."""
    base = np.random.default_rng(SITES.index(site)).integers(0, 9, 300)
    return np.where(np.arange(300) < 10 * step, np.roll(base, step), base)


def truth(kind: str, one: int, other: int, site: str) -> float:
    function = {"weighted_jaccard": weighted_jaccard, "jaccard": jaccard}[kind]
    return function(counts_at(one, site), counts_at(other, site))


def table(step: int, site: str):
    counts = counts_at(step, site)
    there = np.flatnonzero(counts)
    return (
        there.astype(np.uint64)[:, None],
        counts[there],
        {"width": 20, "num_evaluations": int(counts.sum())},
    )


def sample(step: int, site: str, size: int = 60) -> PatternSample:
    counts = counts_at(step, site)
    u = np.random.default_rng(9).random(300)
    tau = counts.sum() / size
    kept = np.flatnonzero((counts > 0) & (u * tau < counts))
    about = (tau, int(counts.sum()), int((counts > 0).sum()))
    return PatternSample(kept.astype(np.uint64)[:, None], counts[kept], *about)


def write(folder: Path, *, sampled=(), tables=(), recorded: bool = False) -> Path:
    """A run with samples at some steps, tables of kind "all" at some, and maybe the recorded comparisons."""
    with RunWriter.create(folder, INFO) as writer:
        for before, step in zip([None, *STEPS], STEPS, strict=False):
            rows = [
                {"site": site, "site_index": i, "total": 1, "exact": True} for i, site in enumerate(SITES)
            ]
            for row in rows if recorded else []:
                for kind in KINDS:
                    row[f"{kind}_to_init"] = truth(kind, 0, step, row["site"])
                    if before is not None:
                        row[f"{kind}_to_last"] = truth(kind, before, step, row["site"])
            kept = {("all", site): table(step, site) for site in SITES} if step in tables else {}
            samples = {site: sample(step, site) for site in SITES} if step in sampled else {}
            writer.commit(step, rows, tables=kept, samples=samples)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_tables_give_exact_values(tmp_path, kind):
    run = open_run(write(tmp_path / "run", tables=STEPS, sampled=STEPS))
    found = run.similarity("b", kind)
    assert found.dims == ("step", "step_other")
    assert found["step"].values.tolist() == found["step_other"].values.tolist() == STEPS
    assert found.name == kind
    assert found.values.tolist() == [[truth(kind, one, other, "b") for other in STEPS] for one in STEPS]
    assert found["exact"].all()
    assert not found["standard_error"].any()


def test_samples_give_estimates_and_a_table_on_one_side_a_better_one(tmp_path):
    run = open_run(write(tmp_path / "run", sampled=STEPS, tables=[10]))
    found = run.similarity("a")
    samples = [sample(step, "a") for step in STEPS]
    keys, counts, about = table(10, "a")
    samples[3] = PatternSample(keys, counts, 0.0, about["num_evaluations"], len(counts))
    expected = similarities(samples, samples)
    apart = ~np.eye(5, dtype=bool)
    assert np.allclose(found.values[apart], expected.value[apart], rtol=1e-12)
    assert np.allclose(found["standard_error"].values[apart], expected.standard_error[apart], rtol=1e-6)
    assert (np.diag(found) == 1.0).all()
    assert found["exact"].values.tolist() == np.eye(5, dtype=bool).tolist()


def test_recorded_comparisons_take_the_place_of_estimates(tmp_path):
    run = open_run(write(tmp_path / "run", sampled=STEPS, recorded=True))
    for kind in KINDS:
        found = run.similarity("a", kind)
        for row, one in enumerate(STEPS):
            for column, other in enumerate(STEPS):
                neighbours = abs(row - column) <= 1
                assert found["exact"].values[row, column] == (neighbours or 0 in (one, other))
                if found["exact"].values[row, column]:
                    assert found.values[row, column] == truth(kind, one, other, "a")
                else:
                    assert found["standard_error"].values[row, column] > 0.001
        for reference in STEPS:
            frame = run.similarity_to(reference, kind)
            assert frame["step"].tolist() == [step for step in STEPS for _ in SITES]
            assert frame["site"].tolist() == ["a", "b"] * 5
            assert frame["site_index"].tolist() == [0, 1] * 5
            of_site = frame[frame["site"] == "a"]
            column = found.sel(step_other=reference)
            assert np.allclose(of_site["value"], column, rtol=1e-12)
            assert np.allclose(of_site["standard_error"], column["standard_error"], rtol=1e-6)
            assert of_site["exact"].tolist() == column["exact"].values.tolist()


def test_steps_are_chosen_and_named(tmp_path):
    run = open_run(write(tmp_path / "run", tables=[0, 4, 20]))
    assert run.similarity("a")["step"].values.tolist() == [0, 4, 20]
    assert similarity.comparable_steps(run, "a") == [0, 4, 20]
    assert run.similarity("a", steps=["final", 4, "final"])["step"].values.tolist() == [4, 20]
    assert run.similarity_to("final").equals(run.similarity_to(20))
    assert run.similarity_to("init").equals(run.similarity_to(0))


def test_the_initial_state_is_compared_without_a_sample_of_it(tmp_path):
    run = open_run(write(tmp_path / "run", sampled=[3, 20], recorded=True))
    frame = run.similarity_to("init")
    assert frame["step"].unique().tolist() == STEPS
    assert frame["exact"].all()
    assert frame[frame["site"] == "b"]["value"].tolist() == [
        truth("weighted_jaccard", 0, s, "b") for s in STEPS
    ]
    to_last = run.similarity_to(20)  # the initial state and step 10 are known from the rows of step 20
    assert to_last[to_last["exact"]]["step"].unique().tolist() == [0, 10, 20]


def test_many_patterns_go_block_by_block(tmp_path, monkeypatch):
    run = open_run(write(tmp_path / "run", tables=[0, 4, 10], sampled=STEPS))
    at_once = [run.similarity("a"), run.similarity_to(4)]
    for limit in (1, 100, 400):
        monkeypatch.setattr(similarity, "_BLOCK_PATTERNS", limit)
        in_blocks = [run.similarity("a"), run.similarity_to(4)]
        assert np.allclose(in_blocks[0], at_once[0], rtol=1e-12)
        assert np.allclose(in_blocks[0]["standard_error"], at_once[0]["standard_error"], rtol=1e-6)
        assert np.array_equal(in_blocks[0]["exact"], at_once[0]["exact"])
        assert np.allclose(in_blocks[1]["value"], at_once[1]["value"], rtol=1e-12)


def test_what_cannot_be_compared_is_said(tmp_path):
    run = open_run(write(tmp_path / "run", sampled=[3, 20]))
    for call, text in (
        (
            lambda: run.similarity("a", steps=[3, 4]),
            r'step 4 .* neither a sample nor a table of "a"; 2 steps',
        ),
        (lambda: run.similarity("a", steps=[5]), r"step 5 was not measured .* 5 steps from 0 to 20; .* is 4"),
        (lambda: run.similarity_to(10), r"step 10 .* the closest is 3\..*sample_schedule=rs\.every\(1\)"),
        (lambda: run.similarity_to("last"), r"'last'; allowed are a recorded step, \"init\" and \"final\""),
        (lambda: run.similarity("a", steps=[]), "steps is empty"),
        (lambda: run.similarity("a", "cosine"), r"kind='cosine'; allowed are 'weighted_jaccard', 'jaccard'"),
    ):
        with pytest.raises(SimilarityError, match=text):
            call()
    with pytest.raises(UnknownSiteError, match='closest: "a"'):
        run.similarity("aa")
    with RunWriter.create(tmp_path / "empty", INFO):
        empty = open_run(tmp_path / "empty")
        with pytest.raises(SimilarityError, match="nothing has been measured"):
            empty.similarity_to("final")
        with pytest.raises(SimilarityError, match="neither samples nor tables"):
            empty.similarity("a")


def test_a_final_table_counts_as_long_as_the_run_ends_there(tmp_path):
    folder = write(tmp_path / "run", sampled=STEPS)
    with RunWriter.resume(folder) as writer:
        writer.keep_tables(20, {("final", site): table(20, site) for site in SITES})
        writer.keep_final_samples(20, {site: sample(20, site, 30) for site in SITES})
    assert open_run(folder).similarity("a").sel(step=20, step_other=20)["exact"]
    assert similarity._Source(open_run(folder)).get(20, "a").is_whole
    with RunWriter.resume(folder) as writer:
        writer.commit(21, [{"site": site, "site_index": i, "exact": True} for i, site in enumerate(SITES)])
    run = open_run(folder)
    assert not similarity._Source(run).get(20, "a").is_whole
    assert run.stored_samples.get(20, "a").tau == sample(20, "a").tau  # that of the parts, not the final one


def test_samples_are_plain_parquet(tmp_path):
    folder = write(tmp_path / "run", sampled=[0, 4])
    frame = pl.read_parquet(folder / "samples" / "part-*.parquet")
    assert frame.select("step", "site").rows() == [(0, "a"), (0, "b"), (4, "a"), (4, "b")]
    row = frame.row(3, named=True)
    expected = sample(4, "b")
    assert row["key_0"] == expected.keys[:, 0].tolist()
    assert row["key_1"] is None
    assert row["count"] == expected.counts.tolist()
    assert (row["tau"], row["num_patterns"]) == (expected.tau, expected.num_patterns)


def test_damaged_samples_spare_the_measures(tmp_path):
    folder = write(tmp_path / "run", sampled=STEPS, recorded=True)
    path = folder / "samples" / "part-000000.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    run = open_run(folder)
    assert len(run.layers) == 10
    with pytest.raises(RunCorruptError, match=r"part-000000\.parquet"):
        run.similarity("a")
    spared = open_run(folder, skip_damaged=True)
    assert any("samples" in text for text in spared.warnings)
    assert spared.similarity_to("init")["exact"].all()
    with pytest.raises(RunCorruptError, match="move it elsewhere"):
        RunWriter.resume(folder)
    path.unlink()
    with RunWriter.resume(folder) as writer:
        assert writer.sampled_steps() == []


def test_a_run_of_before_there_were_samples(tmp_path):
    """It was written by schema 1 too: tables of step 0 (init), 1 (all) and 300 (final)."""
    run = open_run(GOLDEN)
    assert run.stored_samples.steps("stem.relu") == []
    found = run.similarity("stem.relu")
    assert found["step"].values.tolist() == [0, 1, 300]
    assert found.values.tolist() == [[1.0] * 3] * 3
    assert found["exact"].all()
    shutil.copytree(GOLDEN, tmp_path / "run")
    with RunWriter.resume(tmp_path / "run") as writer:
        assert not (tmp_path / "run" / "samples").exists()
        rows = [{"site": "stem.relu", "site_index": 0, "exact": True}]
        writer.commit(301, rows, samples={"stem.relu": sample(3, "a")})
    assert open_run(tmp_path / "run").stored_samples.steps("stem.relu") == [301]

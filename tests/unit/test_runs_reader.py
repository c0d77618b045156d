"""open_run and Run: what they give, from a whole run, a damaged one, and one that is being written."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from reluscope.errors import RunCorruptError, RunNotFoundError, RunSchemaError, UnknownSiteError
from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs import RunWriter, open_run, reader

SITES = [
    {"name": "stem.relu", "width": 16, "num_units": 16},
    {"name": "head.relu", "width": 64, "num_units": 64},
]
KEYS = np.array([[1, 0], [2**63, 5]], np.uint64)
COUNTS = np.array([3, 2**40])


def rows(step: int, **more) -> list[dict]:
    return [
        {
            "site": site["name"],
            "site_index": index,
            "total": 10 * step + index,
            "coverage": 0.9,
            "width": site["width"],
            "num_units": site["num_units"],
            "num_evaluations": 100,
            "exact": True,
            "parameter_hash": f"{step:032x}",
            **({"appeared": step} if step else {}),
            **more,
        }
        for index, site in enumerate(SITES)
    ]


@pytest.fixture
def folder(tmp_path):
    with RunWriter.create(
        tmp_path / "run", {"sites": SITES, "model": {"class": "Net"}, "seed": 2**63}
    ) as writer:
        tables = {("init", "stem.relu"): (KEYS, COUNTS, {"width": 100, "num_evaluations": int(COUNTS.sum())})}
        writer.commit(0, rows(0), tables=tables, seconds=0.25)
        writer.commit(10, rows(10), tables={("all", "head.relu"): (KEYS[:, :1], COUNTS, {"width": 64})})
        writer.keep_tables(10, {("final", "stem.relu"): (KEYS[:0], COUNTS[:0], {"width": 100})})
        writer.add_scalars([{"step": step, "loss": 1.0 / (step + 1), "lr": 0.1} for step in range(10)])
    return tmp_path / "run"


def test_the_parts_of_a_run(folder):
    run = open_run(folder)
    assert run.steps == [0, 10]
    assert run.sites["name"].tolist() == ["stem.relu", "head.relu"]
    assert run.scalars.columns.tolist() == ["step", "loss", "lr"]  # nobody gave the others
    assert len(run.scalars) == 10
    assert run.state == "closed"
    assert run.warnings == []
    assert repr(run) == '<Run "run": 2 measurements, steps 0 to 10, 2 sites, closed>'


def test_the_dataset(folder):
    dataset = open_run(folder).dataset
    assert dict(dataset.sizes) == {"step": 2, "site": 2}
    assert dataset["site"].values.tolist() == ["stem.relu", "head.relu"]
    assert dataset["total"].dtype == np.int64
    assert dataset["total"].sel(step=10, site="head.relu").item() == 101
    assert np.isnan(dataset["appeared"].sel(step=0)).all()
    assert dataset["width"].dims == ("site",)
    assert dataset["seconds"].values[0] == 0.25
    assert dataset["parameter_hash"].values[1] == f"{10:032x}"
    measure = LAYER_MEASURES["total"]
    assert dataset["total"].attrs["long_name"] == measure.title
    assert dataset["total"].attrs["units"] == measure.unit
    assert json.loads(dataset.attrs["model"]) == {"class": "Net"}


def test_sites_that_are_missing_at_a_step_are_nan(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0)[:1])
        writer.commit(1, rows(1))
    dataset = open_run(tmp_path / "run").dataset
    assert dataset["total"].dtype == np.float64
    assert np.isnan(dataset["total"].sel(step=0, site="head.relu"))
    assert open_run(tmp_path / "run").sites["name"].tolist() == ["stem.relu", "head.relu"]


def test_tables_come_back_exactly(folder):
    run = open_run(folder)
    keys, counts, meta = run.table("init", "stem.relu")
    assert keys.dtype == np.uint64
    assert keys.tolist() == KEYS.tolist()
    assert counts.dtype == np.int64
    assert counts.tolist() == COUNTS.tolist()
    assert meta == {"width": 100, "num_evaluations": int(COUNTS.sum()), "step": 0}
    keys, counts, meta = run.table("all", "head.relu", step=10)
    assert keys.tolist() == KEYS[:, :1].tolist()
    assert run.table("final", "stem.relu")[0].shape == (0, 2)


def test_tables_are_readable_without_us(folder):
    frame = pl.read_parquet(folder / "tables" / "init.parquet")
    assert frame.columns == ["site", "key_0", "key_1", "count"]
    assert frame["key_1"].to_list() == [0, 5]


def test_large_tables_are_cut_into_row_groups(tmp_path, monkeypatch):
    from reluscope.runs import tables

    monkeypatch.setattr(tables, "_CHUNK_ROWS", 4)
    keys = np.arange(10, dtype=np.uint64)[:, None]
    stored = {"a": (keys, np.arange(10) + 1, {}), "b": (keys[:3], np.arange(3) + 7, {})}
    tables.write_tables(tmp_path, "init", 0, stored)
    for site, (expected, counts, _) in stored.items():
        found = tables.read_table(tmp_path / "init.parquet", site)
        assert found is not None
        assert np.array_equal(found[0], expected)
        assert np.array_equal(found[1], counts)


def test_tables_that_are_not_there(folder):
    run = open_run(folder)
    with pytest.raises(UnknownSiteError, match=r'no site "head" in the run "run"; closest: "head\.relu"'):
        run.table("init", "head")
    with pytest.raises(
        RunNotFoundError, match=r'"all at step 0" .* it keeps all, final, init\. .*rs\.Patterns'
    ):
        run.table("all", "head.relu", step=0)
    with pytest.raises(RunSchemaError, match='no tables of the kind "last"; there are init, final, all'):
        run.table("last", "stem.relu")
    with pytest.raises(RunSchemaError, match="say which, step="):
        run.table("all", "stem.relu")


def test_a_final_table_of_an_earlier_end_is_not_the_final_one(folder):
    with RunWriter.resume(folder) as writer:
        writer.commit(20, rows(20))
    with pytest.raises(RunNotFoundError, match="no tables of the kind"):
        open_run(folder).table("final", "stem.relu")


@pytest.mark.parametrize("path", ["nothing", "file", "empty"])
def test_what_is_no_run(tmp_path, path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    words = {
        "nothing": "found nothing there",
        "file": "found a file there",
        "empty": r"a folder without run\.json",
    }
    with pytest.raises(RunNotFoundError, match=words[path]):
        open_run(tmp_path / path)


def test_a_folder_of_runs_names_the_runs_in_it(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    with pytest.raises(
        RunNotFoundError, match=r'a folder of runs .*"[^"]*a", "[^"]*b", "[^"]*c" and 1 more\.'
    ):
        open_run(tmp_path)


def test_a_damaged_part_is_named_and_the_rest_is_offered(folder):
    with RunWriter.resume(folder) as writer:
        for step in range(20, 300):
            writer.commit(step, rows(step))
    part = folder / "layers" / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(RunCorruptError, match=r"part-000000\.parquet\" is damaged.*skip_damaged=True"):
        open_run(folder)
    run = open_run(folder, skip_damaged=True)
    assert run.steps == list(range(274, 300))  # the 256 steps of the first part are gone
    assert "part-000000.parquet" in run.warnings[0]
    with pytest.raises(RunCorruptError, match="part-000000"):
        RunWriter.resume(folder)


def test_damaged_scalars_leave_the_layers(folder):
    (folder / "scalars" / "part-000000.parquet").write_bytes(b"")
    assert open_run(folder).steps == [0, 10]
    with pytest.raises(RunCorruptError, match="scalars"):
        open_run(folder).scalars  # noqa: B018
    run = open_run(folder, skip_damaged=True)
    assert run.scalars.empty
    assert any("scalars" in text for text in run.warnings)


def test_warnings_name_every_damaged_file_whatever_was_read_before(folder):
    for name in ("scalars/part-000000.parquet", "tables/init.parquet"):
        (folder / name).write_bytes(b"PAR1")
    text = "\n".join(open_run(folder, skip_damaged=True).warnings)
    assert "scalars/part-000000.parquet" in text
    assert "tables/init.parquet" in text


def test_a_flipped_bit_in_a_table_is_damage(folder):
    path = folder / "tables" / "init.parquet"
    content = bytearray(path.read_bytes())
    caught = 0
    for position in range(4, 300):  # its pages
        content[position] ^= 1
        path.write_bytes(content)
        content[position] ^= 1
        try:
            keys, counts, _ = open_run(folder).table("init", "stem.relu")
        except RunCorruptError:
            caught += 1
            continue
        np.testing.assert_array_equal(keys, KEYS)
        np.testing.assert_array_equal(counts, COUNTS)
    assert caught > 100


def test_a_damaged_table_leaves_the_layers(folder):
    path = folder / "tables" / "init.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        RunCorruptError, match=r'init\.parquet" is damaged: .*measures in "layers" do not need it'
    ):
        open_run(folder).table("init", "stem.relu")


@pytest.mark.parametrize("content", ["{", "", "[1, 2]", "\x00\xff"])
def test_a_damaged_run_json_leaves_the_tables(folder, content):
    (folder / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(RunCorruptError, match=r"run\.json"):
        open_run(folder)
    run = open_run(folder, skip_damaged=True)
    assert run.steps == [0, 10]
    assert run.sites["name"].tolist() == ["stem.relu", "head.relu"]
    assert run.dataset["total"].sel(step=10, site="head.relu") == 101
    assert "run.json" in run.warnings[0]


def test_a_run_is_the_moment_it_was_opened(folder):
    run = open_run(folder)
    with RunWriter.resume(folder) as writer:
        writer.commit(20, rows(20))
        assert run.steps == [0, 10]
        assert open_run(folder).steps == [0, 10, 20]
        assert open_run(folder).is_recording


def test_a_part_that_vanishes_while_reading_is_looked_for_again(folder, monkeypatch):
    real, calls = reader.part_paths, []

    def stale(path):
        calls.append(path)
        return [path / "part-000099.parquet"] if len(calls) == 1 else real(path)

    monkeypatch.setattr(reader, "part_paths", stale)
    assert open_run(folder).steps == [0, 10]


def test_rows_of_other_tables_without_a_measurement_are_ignored(folder):
    writer = RunWriter.resume(folder)
    writer.keep_tables(30, {("all", "stem.relu"): (KEYS, COUNTS, {})})
    with pytest.raises(RunNotFoundError):
        open_run(folder).table("all", "stem.relu", step=30)
    writer.close()


def test_warnings_name_what_a_reader_should_know(tmp_path):
    unobserved = [{"name": "gelu", "module": "", "operation": "gelu", "reason": "smooth"}]
    writer = RunWriter.create(tmp_path / "run", {"unobserved": unobserved, "notes": ["two are missing."]})
    writer.commit(0, rows(0, nan_fraction=0.0, coverage=0.2))
    writer.commit(3, rows(3, nan_fraction=0.5, coverage=0.2, exact=False))
    writer.close(complete=False)
    text = "\n".join(open_run(tmp_path / "run").warnings)
    assert "ended without closing it" in text
    assert '1 activation was seen and not observed: "gelu"' in text
    assert (
        'NaN among the pre-activations of "stem.relu" and "head.relu" (2 of 2 sites), first at step 3' in text
    )
    assert (
        'coverage is below 0.5 at the last step for "stem.relu" and "head.relu" (2 of 2 sites), at 0.2: '
        in text
    )
    assert 'the counts of "stem.relu", "head.relu" did not fit the memory budget and are estimates' in text
    assert "two are missing." in text

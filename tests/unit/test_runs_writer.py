"""RunWriter: creating, resuming, committing, scalars, and what is refused in which words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from reluscope.errors import (
    RunCorruptError,
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    RunNotWritableError,
    RunSchemaError,
    TrajectoryMismatchError,
)
from reluscope.measures.spec import LAYER_MEASURES
from reluscope.runs import RunWriter, durable, open_run
from reluscope.runs.parts import PartTable


def rows(step: int, **more) -> list[dict]:
    return [
        {"site": name, "site_index": index, "total": 10 * step + index, "exact": True, **more}
        for index, name in enumerate(("a", "b"))
    ]


def test_a_new_run_opens_before_anything_was_measured(tmp_path):
    with RunWriter.create(tmp_path / "deep" / "run", {"model": {"class": "Net"}}):
        run = open_run(tmp_path / "deep" / "run")
        assert (run.name, run.steps, run.is_recording) == ("run", [], True)
        assert run.info["model"] == {"class": "Net"}
        assert run.info["schema_version"] == 1
        assert run.layers.empty
        assert run.warnings == ["nothing has been measured yet."]
    assert open_run(tmp_path / "deep" / "run").state == "closed"


def test_what_is_committed_is_read_back(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0, entropy=float("nan")), seconds=0.5)
        writer.commit(7, rows(7, entropy=1.5, appeared=3))
        assert writer.recorded_steps() == [0, 7]
        assert writer.layers_at(7)["total"].tolist() == [70, 71]
        assert writer.layers_at(3).empty
    layers = open_run(tmp_path / "run").layers
    assert layers["step"].tolist() == [0, 0, 7, 7]
    assert layers["site"].tolist() == ["a", "b", "a", "b"]
    assert layers["total"].tolist() == [0, 1, 70, 71]
    assert layers["total"].dtype == np.int64
    assert layers["entropy"].isna().tolist() == [True, True, False, False]
    assert layers["appeared"].tolist()[2:] == [3, 3]
    assert layers["seconds"].tolist()[:2] == [0.5, 0.5]
    assert pd.isna(layers["seconds"].iloc[2])
    assert pd.to_datetime(layers["time"]).notna().all()
    assert "coverage" not in layers  # never measured


def test_every_measure_is_a_column_of_every_part(tmp_path):
    import pyarrow.parquet as pq

    with RunWriter.create(tmp_path / "run", {}):
        names = pq.read_schema(tmp_path / "run" / "layers" / "part-000000.parquet").names
    assert names[:3] == ["step", "site", "site_index"]
    assert names[3 : 3 + len(LAYER_MEASURES)] == list(LAYER_MEASURES)


def test_nan_and_null_are_told_apart_on_disk(tmp_path):
    import pyarrow.parquet as pq

    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0, entropy=float("nan"), appeared=float("nan")))
        table = pq.read_table(tmp_path / "run" / "layers" / "part-000000.parquet")
    assert table.column("entropy").null_count == 0
    assert table.column("coverage").null_count == 2
    assert table.column("appeared").null_count == 2  # integers have no NaN


def test_steps_only_grow(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(5, rows(5))
        for step in (5, 4):
            with pytest.raises(TrajectoryMismatchError, match=f"step {step} .* already goes to step 5"):
                writer.commit(step, rows(step))


def test_an_interrupt_at_the_last_moment_of_a_commit_doubles_nothing(tmp_path, monkeypatch):
    real = PartTable.append

    def interrupted(self, table):
        real(self, table)
        if "total" in table.column_names:
            raise KeyboardInterrupt

    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
        with monkeypatch.context() as patch:
            patch.setattr(PartTable, "append", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.commit(1, rows(1))
        writer.commit(1, rows(1))
    assert open_run(tmp_path / "run").layers["step"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([], "at least one row"),
        (
            [{"site": "a", "site_index": 0, "entropi": 1.0}],
            'the column "entropi", which this run does not have',
        ),
        (
            [{"site": "a", "site_index": 0, "total": "many"}],
            'in the column "total" that is not of type int64',
        ),
        ([{"site": "a"}], 'needs "site" and "site_index"'),
        ([{"site": "a", "site_index": 0}, {"site": "a", "site_index": 1}], 'two rows for the site "a"'),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, wrong, text):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        with pytest.raises(RunSchemaError, match=text):
            writer.commit(0, wrong)
        assert writer.recorded_steps() == []
        writer.commit(0, rows(0))
    assert open_run(tmp_path / "run").steps == [0]


def test_if_exists_error(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
    with pytest.raises(RunExistsError, match='if_exists="resume" to continue it or if_exists="new"'):
        RunWriter.create(tmp_path / "run", {})


def test_if_exists_resume_keeps_the_info_and_the_rows(tmp_path):
    with RunWriter.create(tmp_path / "run", {"model": 1}, if_exists="resume") as writer:
        assert not writer.resumed
        writer.commit(0, rows(0))
    with RunWriter.create(tmp_path / "run", {"model": 2}, if_exists="resume") as writer:
        assert writer.resumed
        assert writer.info["model"] == 1
        assert writer.recorded_steps() == [0]


def test_if_exists_new_counts_up(tmp_path):
    paths = []
    for _ in range(3):
        with RunWriter.create(tmp_path / "run", {}, if_exists="new") as writer:
            writer.commit(0, rows(0))
            paths.append(writer.path.name)
    assert paths == ["run", "run-2", "run-3"]
    assert open_run(tmp_path / "run-3").name == "run-3"


def test_if_exists_new_steps_aside_for_a_run_that_is_being_written(tmp_path):
    with (
        RunWriter.create(tmp_path / "run", {}, if_exists="new") as one,
        RunWriter.create(tmp_path / "run", {}, if_exists="new") as other,
    ):
        assert (one.path.name, other.path.name) == ("run", "run-2")


@pytest.mark.parametrize("if_exists", ["error", "resume", "new"])
def test_a_run_whose_first_measurement_failed_is_in_nobodys_way(tmp_path, if_exists):
    folder = tmp_path / "run"
    with contextlib.suppress(KeyError), RunWriter.create(folder, {"mode": "wrong", "sites": []}) as writer:
        writer.keep_tables(0, {("init", "a"): (np.array([[1]], np.uint64), np.array([4]), {})})
        raise KeyError
    (folder / "specification.yaml").write_text("mine")
    with RunWriter.create(folder, {"mode": "right"}, if_exists=if_exists) as writer:
        assert (writer.path, writer.resumed) == (folder, False)
        assert writer.table("init", "a") is None
        writer.commit(0, rows(0))
    run = open_run(folder)
    assert (run.info["mode"], run.steps, run.state) == ("right", [0], "closed")
    assert "sites" not in run.info
    assert (folder / "specification.yaml").read_text() == "mine"


def test_scalars_keep_a_run_from_being_made_anew(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.add_scalars([{"step": 0, "loss": 1.0}])
    with pytest.raises(RunExistsError, match="a run is already at"):
        RunWriter.create(tmp_path / "run", {})
    with RunWriter.create(tmp_path / "run", {}, if_exists="resume") as writer:
        assert writer.resumed


def test_a_run_that_is_being_written_is_not_made_anew(tmp_path):
    with RunWriter.create(tmp_path / "run", {}), pytest.raises(RunLockedError, match="being written by"):
        RunWriter.create(tmp_path / "run", {})


def test_a_run_that_lost_its_layers_is_refused(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
    shutil.rmtree(tmp_path / "run" / "layers")
    for if_exists, error in (("resume", RunCorruptError), ("error", RunExistsError)):
        with pytest.raises(error, match=r"has lost its measurements|already at"):
            RunWriter.create(tmp_path / "run", {}, if_exists=if_exists)


@pytest.mark.parametrize("table", ["scalars", "timings"])
def test_what_damage_stops_a_resume_says_the_way_on(tmp_path, table):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
    path = tmp_path / "run" / table / "part-000000.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(
        RunCorruptError, match=rf"{table}.*to go on with the run without it, move it elsewhere"
    ):
        RunWriter.resume(tmp_path / "run")
    path.rename(tmp_path / "elsewhere")
    with RunWriter.resume(tmp_path / "run") as writer:
        writer.commit(1, rows(1))


def test_a_folder_nobody_may_write_to_is_named(tmp_path, monkeypatch):
    RunWriter.create(tmp_path / "run", {}).close()

    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        RunNotWritableError, match=r"cannot be written there .Permission denied.*rs\.open_run"
    ):
        RunWriter.resume(tmp_path / "run")
    monkeypatch.setattr(durable, "_mkdir", refuse)
    with pytest.raises(RunNotWritableError, match="cannot be written there"):
        RunWriter.create(tmp_path / "other", {})


def test_an_unknown_if_exists_is_refused(tmp_path):
    with pytest.raises(RunExistsError, match="'overwrite'; allowed are 'error', 'resume', 'new'"):
        RunWriter.create(tmp_path / "run", {}, if_exists="overwrite")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for if_exists in ("error", "resume"):
        with pytest.raises(RunExistsError, match="a folder with other files in it"):
            RunWriter.create(tmp_path, {}, if_exists=if_exists)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_rows_whose_run_json_is_lost_are_not_written_over(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(RunExistsError, match=r"no run\.json"):
        RunWriter.create(tmp_path / "run", {})
    assert open_run(tmp_path / "run", skip_damaged=True).steps == [0]


def test_what_a_creation_that_was_cut_off_left_behind_is_no_run(tmp_path):
    RunWriter.create(tmp_path / "run", {}).close()
    (tmp_path / "run" / "run.json").rename(tmp_path / "run" / "run.json.tmp")
    with RunWriter.create(tmp_path / "run", {}) as writer:
        assert not writer.resumed
        assert not (tmp_path / "run" / "run.json.tmp").exists()


def test_one_writer_per_folder(tmp_path):
    words = rf"being written by process {os.getpid()} on "
    with RunWriter.create(tmp_path / "run", {}), pytest.raises(RunLockedError, match=words):
        RunWriter.resume(tmp_path / "run")
    RunWriter.resume(tmp_path / "run").close()


def test_a_closed_writer_refuses(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    writer.close()
    writer.close()
    with pytest.raises(RunLockedError, match=r"closed; RunWriter\.resume opens it again"):
        writer.commit(0, rows(0))


def test_an_exception_leaves_the_run_interrupted(tmp_path):
    with contextlib.suppress(KeyError), RunWriter.create(tmp_path / "run", {}) as writer:
        writer.commit(0, rows(0))
        raise KeyError
    run = open_run(tmp_path / "run")
    assert run.state == "interrupted"
    assert "ended without closing it" in run.warnings[0]
    RunWriter.resume(tmp_path / "run").close()
    assert open_run(tmp_path / "run").state == "closed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_holds_no_lock_and_cannot_write(tmp_path):
    """As a DataLoader worker that outlives its killed parent: it must not keep the run locked."""
    writer = RunWriter.create(tmp_path / "run", {})
    go, wait = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go[1])  # so that it ends with its parent, however the test goes
        try:
            writer.commit(0, rows(0))
        except RunLockedError:
            os.write(wait[1], b"refused")
        os.read(go[0], 1)
        os._exit(0)
    assert os.read(wait[0], 7) == b"refused"
    writer._lock.release(closed=False)  # the parent is gone, the child is not
    assert not open_run(tmp_path / "run").is_recording
    RunWriter.resume(tmp_path / "run").close()
    os.write(go[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*go, *wait):
        os.close(end)


def test_resume_of_nothing(tmp_path):
    with pytest.raises(RunNotFoundError, match="found nothing there"):
        RunWriter.resume(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_resume_drops_what_was_never_committed(tmp_path):
    folder = tmp_path / "run"
    keys, counts = np.array([[1]], np.uint64), np.array([4])
    with RunWriter.create(folder, {}) as writer:
        writer.commit(0, rows(0))
        writer.keep_tables(1, {("all", "a"): (keys, counts, {}), ("init", "a"): (keys, counts, {})})
        (folder / "layers" / "part-000001.parquet.tmp").write_bytes(b"half")
        (folder / "run.json.tmp").write_bytes(b"half")
    with RunWriter.resume(folder) as writer:
        assert writer.table("all", "a", step=1) is None
        assert writer.table("init", "a") is None
    assert not list(folder.glob("**/*.tmp"))


def test_info_is_plain(tmp_path):
    with pytest.raises(RunSchemaError, match=r"run\.json takes text, finite numbers"):
        RunWriter.create(tmp_path / "run", {"model": object()})
    with pytest.raises(RunSchemaError, match=r"run\.json takes text, finite numbers"):
        RunWriter.create(tmp_path / "run", {"lr": float("nan")})
    RunWriter.create(tmp_path / "run", {}).close()  # nothing of the failed ones is in the way


def test_update_info_keeps_schema_and_columns(tmp_path):
    with RunWriter.create(tmp_path / "run", {"a": 1}) as writer:
        writer.update_info({"a": 2, "b": [3], "schema_version": 9, "columns": {}})
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["a"], info["b"], info["schema_version"]) == (2, [3], 1)
    assert "total" in info["columns"]


def test_a_newer_schema_is_refused_in_words(tmp_path):
    RunWriter.create(tmp_path / "run", {}).close()
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    for opening in (open_run, RunWriter.resume):
        with pytest.raises(
            RunSchemaError, match=r"run schema 2; this reluscope reads schemas 1 to 1\. Update it"
        ):
            opening(tmp_path / "run")


@pytest.mark.parametrize("version", [None, 0, "1", True, 1.5])
def test_what_is_no_version_is_damage(tmp_path, version):
    RunWriter.create(tmp_path / "run", {}).close()
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": version}))
    with pytest.raises(RunCorruptError, match="which is no version"):
        open_run(tmp_path / "run")


# Scalars ---------------------------------------------------------------------------------------------------


def scalars_of(path) -> dict:
    return open_run(path).scalars.set_index("step").to_dict("index")


def test_scalars_become_durable_with_the_next_commit(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.add_scalars([{"step": 0, "loss": 2.0, "batch_indices": [4, 2]}])
        assert open_run(tmp_path / "run").scalars.empty
        writer.commit(1, rows(1))
        assert scalars_of(tmp_path / "run")[0]["loss"] == 2.0
    assert open_run(tmp_path / "run").scalars["batch_indices"].iloc[0].tolist() == [4, 2]


def test_scalars_become_durable_after_a_while(tmp_path, monkeypatch):
    from reluscope.runs import scalars

    monkeypatch.setattr(scalars, "_FLUSH_S", -1.0)
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.add_scalars([{"step": 0, "loss": 2.0}])
        assert scalars_of(tmp_path / "run") == {0: {"loss": 2.0}}


def test_two_rows_of_one_step_are_one(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.add_scalars([{"step": 0, "loss": 2.0}])
        writer.add_scalars([{"step": 0, "lr": 0.1}])
        writer.flush()
        writer.add_scalars([{"step": 0, "accuracy": 0.5}, {"step": 1, "loss": 1.0}])
    found = scalars_of(tmp_path / "run")
    assert found[0] == {"loss": 2.0, "accuracy": 0.5, "lr": 0.1}
    assert found[1]["loss"] == 1.0


def test_after_a_resume_only_steps_that_come_again_are_replaced(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        writer.add_scalars([{"step": step, "loss": 1.0, "lr": 0.1} for step in range(10)])
    with RunWriter.resume(tmp_path / "run") as writer:
        writer.add_scalars([{"step": 6, "loss": 2.0}])
        writer.add_scalars([{"step": 3, "loss": 3.0}])
    found = open_run(tmp_path / "run").scalars
    assert found["step"].tolist() == list(range(10))
    assert found["loss"].tolist() == [1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    assert found["lr"].isna().tolist() == [step in (3, 6) for step in range(10)]  # a whole row is replaced


def test_scalars_that_do_not_fit_are_refused(tmp_path):
    with RunWriter.create(tmp_path / "run", {}) as writer:
        with pytest.raises(RunSchemaError, match='the column "grad_norm"'):
            writer.add_scalars([{"step": 0, "loss": 1.0}, {"step": 1, "grad_norm": 1.0}])
        with pytest.raises(RunSchemaError, match='needs a "step"'):
            writer.add_scalars([{"loss": 1.0}])
        writer.flush()
        assert open_run(tmp_path / "run").scalars.empty

"""`kill -9` at 200 random moments of a recorded training.

Nothing that was acknowledged is lost, nothing is doubled or torn, anybody can read the folder as it lies, and
the run that was resumed has the bytes of the one that was not killed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

import reluscope as rs

SERVER = Path(__file__).with_name("killed_training.py")
NUM_KILLS = 200
NUM_SITES = 3


class Server:
    """The forking process, spoken to in lines of JSON."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert "ready" in self._read()

    def run(self, folder: Path, *, after: int = 0, delay: float | None = None, back: int = 0) -> dict:
        assert self._process.stdin is not None
        request = {"folder": str(folder), "after": after, "delay": delay, "back": back}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert not answer["error"], answer["error"]
        assert answer["killed"] or answer["done"]
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="module")
def uninterrupted(server, tmp_path_factory) -> tuple[Path, dict]:
    """A run that nobody kills, and how long its parts took."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    answer = server.run(folder)
    assert answer["done"]
    return folder, answer


def assert_whole(folder: Path, acknowledged: set[int]) -> None:
    """As the folder lies: every acknowledged step is there, none twice, none half, to three readers."""
    run = rs.open_run(folder)
    assert acknowledged <= set(run.steps)
    assert run.steps == list(range(len(run.steps))), "a gap, or a step out of order"
    assert len(run.layers) == NUM_SITES * len(run.steps)
    assert not run.layers.duplicated(["step", "site"]).any()
    if run.steps:  # before, no column of a measure is shown
        measured = ["total", "entropy", "parameter_hash", "weighted_jaccard_to_init"]
        assert not run.layers[measured].isna().any(axis=None)
    if len(run.steps) > 1:
        assert not run.layers.loc[run.layers["step"] > 0, "appeared"].isna().any()
    steps = run.scalars["step"].tolist()
    assert steps == list(range(len(steps))), "a step of the scalars is lost, there twice, or out of order"
    # The scalars of all steps before a measurement are durable with it.
    assert len(steps) >= max(acknowledged, default=0)
    glob = str(folder / "layers" / "*.parquet")
    pairs = [(step, index) for step in run.steps for index in range(NUM_SITES)]
    assert pl.read_parquet(glob).select("step", "site_index").rows() == pairs
    assert duckdb.sql(f"select step, site_index from '{glob}' order by all").fetchall() == pairs
    for step in run.steps[-3:]:
        assert run.table("all", "1", step=step)[1].sum() == 24
    if run.steps:
        assert run.table("init", "3")[2]["step"] == 0


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every table; `timings` hold the clock and are the one place that may differ."""
    found = {}
    for table in ("layers", "scalars", "tables"):
        found |= {f"{table}/{path.name}": path.read_bytes() for path in sorted((folder / table).iterdir())}
    return found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_two_hundred_times(server, uninterrupted, tmp_path):
    moments = random.Random(7)
    reference, took = uninterrupted
    expected = contents(reference)
    assert len([name for name in expected if name.startswith("layers")]) == 6  # 41 steps, 7 to a part
    num_kills, num_finished, num_silent, acknowledged = 0, 0, 0, set()
    folder = tmp_path / "run-0"
    while num_kills < NUM_KILLS or num_finished == 0:
        # A third of the kills falls into the opening of the run, the others anywhere in or between its steps.
        after = moments.choice([0, 0, 0, *range(1, 7)])
        delay = moments.uniform(0.0, 1.5 * took["first_s"] if after == 0 else 2 * took["step_s"])
        is_to_be_killed = num_kills < NUM_KILLS
        # Every other run is resumed where it was measured last, the others now and then from before.
        back = moments.choice([0, 0, 0, 1, 3]) if num_finished % 2 else 0
        answer = server.run(folder, after=after, delay=delay if is_to_be_killed else None, back=back)
        num_kills += answer["killed"]
        num_silent += not answer["acknowledged"]
        acknowledged.update(answer["acknowledged"])
        if answer["killed"]:
            if (folder / "run.json").exists():
                assert_whole(folder, acknowledged)
                assert not rs.open_run(folder).is_recording
            else:
                assert not acknowledged
        if answer["done"]:
            assert_whole(folder, acknowledged)
            assert rs.open_run(folder).state == "closed"
            found = contents(folder)
            assert set(found) == set(expected)
            for name, content in expected.items():
                assert found[name] == content, name
            num_finished += 1
            folder, acknowledged = tmp_path / f"run-{num_finished}", set()
    # The moments were spread as they were meant to be: most kills met a run that was being recorded.
    assert num_finished >= 2
    assert num_silent < 2 * NUM_KILLS / 3

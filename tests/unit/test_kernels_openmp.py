"""Tasks run on torch's OpenMP team where there is one, and give what the pool's threads give."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest
import torch

from reluscope.kernels import ingest, openmp, pool
from reluscope.patterns import PatternCounter


@pytest.fixture(params=["team", "threads"])
def runner(request, monkeypatch):
    if request.param == "threads":
        monkeypatch.setattr(openmp, "team", lambda: None)
    elif openmp.team() is None:
        pytest.skip("no libgomp of torch's in this process")
    return request.param


@pytest.mark.usefixtures("runner")
class TestEither:
    def test_results_come_in_order(self):
        for size in (1, 2, 3, 40):
            assert pool.run([lambda index=index: index for index in range(size)]) == list(range(size))

    def test_the_first_error_is_raised_after_every_task_has_ended(self):
        ended = []

        def task(index: int) -> None:
            if index in (1, 3):
                raise KeyError(index)
            ended.append(index)

        with pytest.raises(KeyError, match="1"):
            pool.run([lambda index=index: task(index) for index in range(5)])
        assert sorted(ended) == [0, 2, 4]

    def test_scratch_is_kept_between_calls_and_not_shared_between_threads(self):
        def task() -> tuple[int, int]:
            return threading.get_ident(), pool.scratch("test", 10, np.uint64).ctypes.data

        found = {ident: address for _ in range(20) for ident, address in pool.run([task] * 8)}
        again = dict(pool.run([task] * 8))
        assert all(found.get(ident, address) == address for ident, address in again.items())
        assert len(set(found.values())) == len(found)


def test_the_team_and_the_threads_count_the_same(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "4")
    values = torch.randn(200, 16, 40, 40)
    tables = []
    for team in (openmp.team, lambda: None):
        monkeypatch.setattr(openmp, "team", team)
        for width in (16, 12):
            counter = PatternCounter(width)
            counter.update(values[:, :width])
            counter.update(values[:, :width])
            tables.append(counter.counts())
    assert tables[0] == tables[2]
    assert tables[1] == tables[3]
    assert tables[0].num_evaluations == 2 * 200 * 1600


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libgomp is Linux's")
def test_torch_on_linux_has_a_team():
    assert openmp.team() is not None


def test_threads_of_the_team_go_by_their_own_numbers():
    """`claim_own` gives a thread the share that torch gave it; that takes the team's numbers, not the order of arrival."""
    if openmp.team() is None:
        pytest.skip("no libgomp here, so there is no team")
    number = ctypes.CFUNCTYPE(ctypes.c_int)(openmp.team().thread_number)
    assert number() == 0  # outside of a team
    seen = []
    pool.run([lambda: seen.append(number())] * max(2, torch.get_num_threads()))
    assert set(seen) <= set(range(max(2, torch.get_num_threads())))


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("with_team", [True, False])
def test_every_block_is_taken_once_whichever_thread_comes(monkeypatch, num_blocks, with_team):
    if not with_team:
        monkeypatch.setattr(openmp, "team", lambda: None)
    keys = np.arange(num_blocks * ingest.BLOCK, dtype=np.uint64)
    monkeypatch.setattr(ingest, "MIN_VALUES_PER_THREAD", 1)
    raw = ingest.RawKeys(64)
    raw.add_words(keys, None)
    assert np.array_equal(np.sort(raw.copy()), keys)

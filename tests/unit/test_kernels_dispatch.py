"""Which kernels run, on how many threads, and what happens after a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from reluscope.errors import KernelError
from reluscope.kernels import dispatch, pool
from reluscope.kernels.accumulate import RowAccumulator
from reluscope.kernels.accumulate_words import WordAccumulator
from reluscope.kernels.dense import DenseAccumulator
from reluscope.kernels.plan import KeyPlan
from reluscope.kernels.reference_accumulate import ReferenceAccumulator


def test_numba_is_the_default(monkeypatch):
    monkeypatch.delenv("RELUSCOPE_KERNELS", raising=False)
    assert dispatch.implementation() == "numba"
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    assert dispatch.implementation() == "reference"
    assert isinstance(dispatch.accumulator(KeyPlan(width=3, num_groups=0, seed=0)), ReferenceAccumulator)


def test_an_unknown_name_is_refused(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "cuda")
    with pytest.raises(
        KernelError, match='RELUSCOPE_KERNELS="cuda" names no kernels; allowed are numba, reference'
    ):
        dispatch.implementation()


@pytest.mark.parametrize(
    ("width", "num_groups", "kind"),
    [
        (16, 0, DenseAccumulator),
        (16, 16, DenseAccumulator),
        (16, 17, WordAccumulator),
        (17, 0, WordAccumulator),
        (64, 0, WordAccumulator),
        (60, 16, WordAccumulator),
        (61, 16, RowAccumulator),
        (65, 0, RowAccumulator),
    ],
)
def test_narrow_patterns_are_counted_in_place(monkeypatch, width, num_groups, kind):
    monkeypatch.delenv("RELUSCOPE_KERNELS", raising=False)
    assert isinstance(dispatch.accumulator(KeyPlan(width=width, num_groups=num_groups, seed=0)), kind)


@pytest.mark.parametrize(
    ("width", "num_groups", "columns", "group_bits", "group_column"),
    [
        (64, 0, 1, 0, False),
        (60, 10, 1, 4, False),
        (64, 10, 2, 4, False),
        (64, 1, 1, 0, False),
        (124, 16, 2, 4, False),
        (125, 16, 3, 0, True),
        (128, 1, 2, 0, False),
        (300, 2, 3, 0, True),
    ],
)
def test_where_the_group_goes(width, num_groups, columns, group_bits, group_column):
    plan = KeyPlan(width=width, num_groups=num_groups, seed=0)
    assert (plan.num_columns, plan.group_bits, plan.group_column) == (columns, group_bits, group_column)


def test_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "3")
    assert pool.num_threads() == 3
    for text in ("0", "-1", "two"):
        monkeypatch.setenv("RELUSCOPE_NUM_THREADS", text)
        with pytest.raises(KernelError, match="set a positive integer"):
            pool.num_threads()
    monkeypatch.setenv("RELUSCOPE_NUM_THREADS", "")
    before = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert pool.num_threads() == number
    finally:
        torch.set_num_threads(before)


def test_every_task_ends_before_an_error_is_raised():
    ended = []

    def fail() -> None:
        raise RuntimeError("first")

    def slow() -> None:
        ended.append(True)

    with pytest.raises(RuntimeError, match="first"):
        pool.run([fail, slow, slow])
    assert ended == [True, True]
    with pytest.raises(RuntimeError, match="first"):
        pool.run([slow, fail])


def test_ranges_cover_everything_once():
    for total in (0, 1, 5, 100):
        for parts in (1, 2, 7):
            ranges = pool.split(total, parts)
            assert [index for start, stop in ranges for index in range(start, stop)] == list(range(total))
            assert len(ranges) <= max(1, min(parts, total))


FORK = """
import os, torch
from reluscope.patterns import count_patterns
values = torch.randn(400, 20, 40, 40, generator=torch.Generator().manual_seed(0))
expected = count_patterns(values)
child = os.fork()
if child == 0:
    os._exit(0 if count_patterns(values) == expected else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_counts_too():
    """Its pool's threads are gone: without a new pool this would wait for ever."""
    environment = {**os.environ, "RELUSCOPE_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=120, env=environment)

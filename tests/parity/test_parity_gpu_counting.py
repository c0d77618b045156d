"""Counting on a device = NumPy reference, by the interpreter or on a GPU: both ways to count, groups, streams of batches."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch

from reluscope.kernels.dense import is_dense
from reluscope.kernels.plan import KeyPlan
from reluscope.patterns import PatternCounter, PatternCounts, count_keys, count_patterns, pack_patterns

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are loaded
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="Triton is not installed: pip install reluscope[gpu]",
    ),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION:UserWarning"),  # given when it compiles
]
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
EMPTY = -(1 << 63)
# Width and groups of every layout of rows: counters; 4 bytes, flipped and not; 8 bytes; two columns; three; fingerprints.
PLANS = [
    (3, 0), (8, 5), (12, 10), (16, 0), (16, 17), (17, 0), (31, 0), (32, 0), (28, 16), (33, 0), (63, 0), (64, 0), (60, 10),
    (64, 1), (61, 10), (65, 0), (127, 0), (128, 0), (124, 16), (125, 16), (128, 1), (129, 0), (300, 5),
]  # fmt: skip


def ways(plan: KeyPlan) -> tuple[str, ...]:
    """How its patterns can be counted; in counters the way makes no difference."""
    return ("hash", "sort") if plan.num_columns == 1 and not is_dense(plan) else ("sort",)


CASES = [
    (width, num_groups, how)
    for width, num_groups in PLANS
    for how in ways(KeyPlan(width=width, num_groups=num_groups, seed=0))
]


@pytest.fixture
def small(monkeypatch):
    """Tables that grow and rows that are counted many times within a few hundred evaluations."""
    pytest.importorskip("triton")
    from reluscope.kernels import gpu, gpu_hash

    monkeypatch.setattr(gpu, "WAITING", 20)
    monkeypatch.setattr(gpu_hash, "MIN_SLOTS", 4)
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")


def batches_of(width: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Batches with few units that vary, NaN, zeros of both signs, nothing, and a batch that was there before."""
    generator = torch.Generator().manual_seed(width)
    varying = torch.rand(width, generator=generator) < 5 / width
    varying[[0, -1]] = True
    batches = []
    for num_samples in (4, 1, 0, 6):
        values = torch.randn(num_samples, width, 3, generator=generator)
        values = torch.where(varying[None, :, None], values, values.abs() + 0.1).to(dtype)
        values[:, 0, 0] = torch.tensor([float("nan"), -0.0, 0.0, 1.0, 2.0, -1.0], dtype=dtype)[:num_samples]
        batches.append(values.transpose(1, 2).contiguous().transpose(1, 2))
    return [batches[0], *batches]


def count_all(
    batches: list[torch.Tensor], num_groups: int, device: torch.device, order: list[int] | None = None
) -> PatternCounter:
    counter = PatternCounter(batches[0].shape[1], num_groups=num_groups)
    for index in order or range(len(batches)):
        groups = (np.arange(len(batches[index])) * 7 + index) % num_groups if num_groups else None
        counter.update(batches[index].to(device), groups=groups)
    return counter


def assert_same_counts(counter: PatternCounter, expected: PatternCounter) -> None:
    found = counter.counts()
    assert found == expected.counts()
    assert (found.keys.dtype, found.counts.dtype) == (np.uint64, np.int64)
    assert (counter.num_nan, counter.num_evaluations) == (expected.num_nan, expected.num_evaluations)
    joint, expected_joint = counter.joint(), expected.joint()
    assert (joint is None) == (expected_joint is None)
    if joint is not None and expected_joint is not None:
        np.testing.assert_array_equal(counter.joint_counts(), expected_joint.counts)
        for name in ("pattern", "group", "counts"):
            array, expected_array = getattr(joint, name), getattr(expected_joint, name)
            assert array.dtype == expected_array.dtype
            np.testing.assert_array_equal(array, expected_array)


@pytest.mark.parametrize(("width", "num_groups", "how"), CASES)
def test_streams_of_batches_equal_the_reference(small, monkeypatch, width, num_groups, how):
    monkeypatch.setenv("RELUSCOPE_GPU_COUNTING", how)
    dtype = (torch.float32, torch.bfloat16, torch.float16, torch.float64)[width % 4]
    batches = batches_of(width, dtype)
    counter = count_all(batches, num_groups, DEVICE)
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    assert_same_counts(counter, count_all(batches, num_groups, torch.device("cpu")))


@pytest.mark.parametrize("width", [20, 70])
def test_the_order_of_batches_changes_nothing_and_a_count_goes_on_after_a_look(small, width):
    batches = batches_of(width, torch.float32)
    expected = count_all(batches, 3, DEVICE)
    counter = PatternCounter(width, num_groups=3)
    for index in (4, 3, 0, 2, 1):
        counter.counts()
        groups = (np.arange(len(batches[index])) * 7 + index) % 3
        counter.update(batches[index].to(DEVICE), groups=groups)
    assert_same_counts(counter, expected)
    counter.close(pairs=True)
    assert_same_counts(counter, expected)


@pytest.mark.parametrize("width", [5, 40, 70])
def test_a_forward_pass_in_inference_mode(small, width):
    """What was made in there is written to outside."""
    batches = batches_of(width, torch.float32)
    expected = count_all([*batches, batches[4]], 0, DEVICE)
    with torch.inference_mode():
        counter = count_all([batch.clone() for batch in batches], 0, DEVICE)
    counter.counts()
    counter.update(batches[4].to(DEVICE))
    assert_same_counts(counter, expected)


def test_rows_wait_until_there_are_enough(monkeypatch):
    """The room for them doubles from that of two batches to the limit; then most batches are one launch."""
    gpu = pytest.importorskip("reluscope.kernels.gpu", exc_type=ImportError)
    from reluscope.kernels.gpu_values import as_device_values

    values = as_device_values(torch.ones(10, 40, device=DEVICE), 1, (0.0,))
    state = gpu.DeviceRows(KeyPlan(width=40, num_groups=0, seed=0), DEVICE, waiting=70)
    counted = []
    monkeypatch.setattr(state, "_count", lambda count=state._count: (counted.append(state._num_raw), count()))
    for _ in range(21):
        state.add(values, None)
    assert counted == [0, 20, 40, 70, 70]
    assert state.finish(pairs=False).counts.tolist() == [210]


def test_nothing_was_counted(small):
    for width in (3, 40, 200):
        for num_groups in (0, 2):
            counter = PatternCounter(width, num_groups=num_groups)
            groups = np.zeros(0, np.int64) if num_groups else None
            counter.update(torch.zeros(0, width, 5).to(DEVICE), groups=groups)
            assert counter.counts() == PatternCounts.empty(width)
            assert (counter.joint() is None) == (num_groups == 0)


@pytest.mark.parametrize("width", [9, 64, 100, 150])
def test_ready_made_keys(small, monkeypatch, width):
    values = torch.randn(60, width, generator=torch.Generator().manual_seed(0))
    values[30:] = values[:30]
    words = pack_patterns(values)
    found = count_keys(words, width)
    assert count_patterns(values.to(DEVICE)) == found
    monkeypatch.setenv("RELUSCOPE_KERNELS", "reference")
    assert count_keys(words, width) == found


def keys_of(kind: str, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(-(1 << 62), 1 << 62, (size,), generator=generator)
    chance = torch.rand(size, generator=generator)
    return {
        "distinct": random,
        "equal": torch.full((size,), 7),
        "two heavy": torch.where(chance < 0.6, -3, torch.where(chance < 0.95, 5, random)),
        "neighbours": torch.arange(size) // 3,
        "looks empty": torch.where(chance < 0.3, EMPTY, torch.where(chance < 0.6, EMPTY + 1, random)),
        "only empty": torch.full((size,), EMPTY),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["distinct", "equal", "two heavy", "neighbours", "looks empty", "only empty"]
)
@pytest.mark.parametrize("how", ["hash", "sort"])
def test_adversarial_keys(small, how, kind):
    from reluscope.kernels.gpu_hash import HashTable
    from reluscope.kernels.gpu_tables import SortedTable

    keys = keys_of(kind, 700).to(DEVICE)
    table = HashTable(DEVICE, min_slots=4) if how == "hash" else SortedTable(DEVICE, 1, torch.int64)
    for batch in keys.split([300, 1, 399]):
        table.add(batch if how == "hash" else batch[None])
    rows, counts = table.table()
    expected, expected_counts = torch.unique(keys, return_counts=True)
    assert torch.equal(rows.reshape(-1), expected)
    assert torch.equal(counts, expected_counts)


def test_keys_that_want_one_slot_each_find_their_own():
    """All in one chain of probes, which wraps around the end of the table."""
    pytest.importorskip("triton")
    from reluscope.kernels.gpu_hash import HashTable

    keys = torch.arange(5000)
    mixed = keys.numpy().astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    last = keys[((mixed ^ (mixed >> np.uint64(31))) & np.uint64(127)).astype(np.int64) == 127]
    assert 20 < len(last) < 64
    table = HashTable(DEVICE, min_slots=128)
    table.add(last.to(DEVICE))
    table.add(last[:5].to(DEVICE))
    assert table.num_slots == 256 or table.num_slots == 128
    rows, counts = table.table()
    assert rows.tolist() == last.tolist()
    assert counts.tolist() == [2] * 5 + [1] * (len(last) - 5)


def test_weights_are_added():
    pytest.importorskip("triton")
    from reluscope.kernels.gpu_hash import HashTable

    table = HashTable(DEVICE, min_slots=8)
    keys = torch.tensor([4, EMPTY, 4, 9, 9], device=DEVICE)
    table.add(keys, torch.tensor([1 << 40, 3, 2, 0, 5], device=DEVICE))
    rows, counts = table.table()
    assert rows.tolist() == [EMPTY, 4, 9]
    assert counts.tolist() == [3, (1 << 40) + 2, 5]


class LateCopy:
    """A copy to the host that arrives when the host waits, or is told."""

    arrived = False

    def __init__(self, counter: torch.Tensor) -> None:
        self._number = int(counter)

    def value(self, *, wait: bool) -> int | None:
        return self._number if wait or LateCopy.arrived else None


def test_the_bound_holds_before_and_after_news_arrives(monkeypatch):
    from reluscope.kernels.gpu_streams import OccupancyBound

    monkeypatch.setattr(LateCopy, "arrived", False)
    counter = torch.zeros(1, dtype=torch.int64)
    bound = OccupancyBound(counter, copy=LateCopy)
    counter += 3
    bound.add(10)
    assert bound.bound() == 10
    bound.ask()
    bound.add(5)  # after the copy was asked for: no news of it
    counter += 2
    bound.ask()  # one is under way already
    assert bound.bound() == 15
    LateCopy.arrived = True
    assert bound.bound() == 3 + 5
    bound.ask()
    bound.add(1)
    assert bound.bound() == 5 + 1
    LateCopy.arrived = False
    bound.ask()
    assert bound.bound(wait=True) == 5


def test_a_table_grows_without_news_and_waits_for_it_when_large(monkeypatch):
    pytest.importorskip("triton")
    from reluscope.kernels import gpu_hash, gpu_streams

    monkeypatch.setattr(LateCopy, "arrived", False)
    monkeypatch.setattr(gpu_streams, "Copy", LateCopy)
    keys = torch.arange(40, device=DEVICE) % 8
    table = gpu_hash.HashTable(DEVICE, min_slots=16)
    for _ in range(3):
        table.add(keys)
    assert table.num_slots == 256  # 120 rows could all have been new
    monkeypatch.setattr(gpu_hash, "PATIENT_SLOTS", 256)
    table.add(keys)
    assert table.num_slots == 256  # 8 slots are taken, and 120 rows came since that was known
    rows, counts = table.table()
    assert rows.tolist() == list(range(8))
    assert counts.tolist() == [20] * 8


@pytest.mark.parametrize("num_words", [1, 2])
@pytest.mark.parametrize("sizes", [(0, 0), (0, 9), (9, 0), (200, 300), (1, 1)])
def test_joins_equal_the_reference(monkeypatch, sizes, num_words):
    pytest.importorskip("triton")
    from reluscope.kernels import dispatch, gpu_join
    from reluscope.kernels.reference import count_rows, join_tables, merge_tables
    from reluscope.measures import changes, weighted_jaccard

    generator = np.random.default_rng(1)
    pool = generator.integers(0, 2**64 - 1, (350, num_words), dtype=np.uint64, endpoint=True)
    pool[:100, -1] = pool[0, -1]  # ties in the most significant word
    pool = np.unique(pool, axis=0)
    tables = []
    for size in sizes:
        keys, _ = count_rows(generator.permutation(pool)[:size])
        tables += [keys, generator.integers(1, 50, len(keys))]
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    for found, expected in (
        (dispatch.merge_tables(*tables), merge_tables(*tables)),
        (dispatch.join_tables(*tables), join_tables(*tables)),
    ):
        for array, expected_array in zip(found, expected, strict=True):
            assert (array.dtype, array.shape) == (expected_array.dtype, expected_array.shape)
            np.testing.assert_array_equal(array, expected_array)
    compared = gpu_join.compare(
        gpu_join.DeviceTable.of(*tables[:2], DEVICE), gpu_join.DeviceTable.of(*tables[2:], DEVICE)
    )
    before, after = join_tables(*tables)
    assert (compared.appeared, compared.vanished) == (
        int(((before == 0) & (after > 0)).sum()),
        int(((before > 0) & (after == 0)).sum()),
    )
    assert compared.overlap == int(np.minimum(before, after).sum())
    if sizes == (200, 300):
        assert compared.appeared == changes(before, after).appeared
        assert compared.weighted_jaccard == weighted_jaccard(before, after)

"""Which kernels a batch gets, what happens without Triton, and a whole measurement by Triton = by Numba."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import reluscope as rs
from reluscope.errors import KernelError, ReluscopeWarning
from reluscope.kernels import dispatch
from reluscope.kernels.fingerprint import DEFAULT_SEED
from reluscope.kernels.plan import KeyPlan
from reluscope.patterns import PatternCounter, count_patterns

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are loaded
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install reluscope[gpu]"
)
pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION:UserWarning")


class OnGpu(torch.Tensor):
    """A tensor that says it lies on a GPU; its memory is the host's."""

    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]


def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "triton" else found(name, *more)
    )
    dispatch._warn_without_triton.cache_clear()


def test_without_triton_a_gpu_batch_is_counted_on_the_host_with_one_warning(monkeypatch):
    monkeypatch.delenv("RELUSCOPE_KERNELS", raising=False)
    without_triton(monkeypatch)
    values = torch.tensor([[1.0, -1.0], [1.0, -2.0]])
    batch = values.as_subclass(OnGpu)
    with pytest.warns(ReluscopeWarning, match=r"pip install reluscope\[gpu\]"):
        assert count_patterns(batch).counts.tolist() == [2]
    counter = PatternCounter(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counter.update(batch)
        counter.update(batch)
    assert counter.counts().counts.tolist() == [4]


@pytest.mark.parametrize("kernels", ["numba", "reference"])
def test_kernels_of_the_host_by_name_take_a_gpu_batch_without_a_word(monkeypatch, kernels):
    monkeypatch.setenv("RELUSCOPE_KERNELS", kernels)
    batch = torch.tensor([[1.0, -1.0]]).as_subclass(OnGpu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.home_of(batch) is None
        assert count_patterns(batch).keys.tolist() == [[1]]


def test_triton_by_name_without_triton_is_an_error(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    without_triton(monkeypatch)
    with pytest.raises(KernelError, match=r"Triton is not installed: pip install reluscope\[gpu\]"):
        count_patterns(np.ones((2, 2), np.float32))


@needs_triton
def test_triton_by_name_without_gpu_or_interpreter_is_an_error(monkeypatch):
    from reluscope.kernels import gpu

    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    monkeypatch.setattr(gpu, "is_interpreted", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(KernelError, match="torch sees none; unset it, or set TRITON_INTERPRET=1"):
        count_patterns(np.ones((2, 2), np.float32))


@needs_triton
def test_an_unknown_way_to_count_is_refused(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    monkeypatch.setenv("RELUSCOPE_GPU_COUNTING", "tree")
    with pytest.raises(KernelError, match="allowed are hash and sort"):
        count_patterns(np.ones((2, 40), np.float32))


@needs_triton
@pytest.mark.parametrize(
    ("width", "num_groups", "asked", "how"),
    [(64, 0, "", "hash"), (60, 16, "", "hash"), (61, 16, "", "sort"), (64, 0, "sort", "sort"), (65, 0, "hash", "sort")],
)  # fmt: skip
def test_how_rows_are_counted(monkeypatch, width, num_groups, asked, how):
    from reluscope.kernels.gpu import counting

    monkeypatch.setenv("RELUSCOPE_GPU_COUNTING", asked)
    assert counting(KeyPlan(width=width, num_groups=num_groups, seed=DEFAULT_SEED)) == how


@needs_triton
def test_batches_are_counted_where_the_first_one_lay(monkeypatch):
    """A batch from elsewhere is brought there; on the host the counter is the host's."""
    values = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    counter = PatternCounter(2)
    counter.update(values.to(DEVICE))
    monkeypatch.delenv("RELUSCOPE_KERNELS")
    counter.update(values)
    counter.update(values.numpy())
    assert counter.counts().counts.tolist() == [3, 3]
    counter.close()
    assert counter.counts().counts.tolist() == [3, 3]
    assert PatternCounter(2).counts().num_evaluations == 0


@needs_triton
def test_errors_are_those_of_the_host(monkeypatch):
    monkeypatch.setenv("RELUSCOPE_KERNELS", "triton")
    for batch, channel_dim in (
        (torch.ones(2, 2, dtype=torch.int32), 1),
        ([1.0], 1),
        (torch.ones(2, 2), 2),
        (torch.ones(2), 0),
        (np.ones((2, 2), np.complex64), 1),
    ):
        raised = []
        for kernels in ("triton", "numba"):
            monkeypatch.setenv("RELUSCOPE_KERNELS", kernels)
            with pytest.raises(rs.errors.ReluscopeError) as caught:
                count_patterns(batch, channel_dim)
            raised.append((type(caught.value), str(caught.value)))
        assert raised[0] == raised[1]


@needs_triton
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_measurement_equals_that_of_numba(monkeypatch, autocast):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Conv2d(6, 20, 3),
        torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.Linear(20 * 16, 70), torch.nn.ReLU6(),
    ).to(DEVICE)  # fmt: skip
    probe = rs.Probe(torch.randn(6, 1, 8, 8), torch.arange(6) % 3, batch_size=4)
    found = {}
    for kernels in ("triton", "numba"):
        monkeypatch.setenv("RELUSCOPE_KERNELS", kernels)
        snapshot = rs.measure(
            model, probe, instruments=[rs.Patterns(permutations=2, hashlist=64)], autocast=autocast
        )
        found[kernels] = snapshot.to_dataframe(), snapshot.patterns
    rows, counts = found["triton"]
    expected_rows, expected_counts = found["numba"]
    assert rows.equals(expected_rows)
    assert len(counts) == 3
    assert all(counts[site] == expected_counts[site] for site in counts)


LAZY = """
import sys, torch
from reluscope.patterns import PatternCounter, count_patterns
counter = PatternCounter(3, num_groups=2)
counter.update(torch.randn(4, 3), groups=torch.tensor([0, 1, 0, 1]))
counter.counts(), counter.joint(), count_patterns(torch.randn(5, 200))
sys.exit("triton" in sys.modules)
"""


def test_counting_on_the_cpu_never_loads_triton():
    environment = {name: value for name, value in os.environ.items() if name != "RELUSCOPE_KERNELS"}
    subprocess.run([sys.executable, "-c", LAZY], check=True, timeout=280, env=environment)

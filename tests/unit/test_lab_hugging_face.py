"""Sets of the library `datasets`: made here, on disk, read without any network."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from reluscope.errors import DataError, MissingExtraError, SpecificationError
from reluscope.lab.data import load, load_for
from reluscope.lab.specification import DataSpecification

datasets = pytest.importorskip("datasets")

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """A cache of its own, and an error instead of a download."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def images_of(count: int, *, size: int = 8, mode: str = "RGB") -> list[Image.Image]:
    rng = np.random.default_rng(count)
    shape = (count, size, size, 3) if mode == "RGB" else (count, size, size)
    return [Image.fromarray(pixels, mode) for pixels in rng.integers(0, 256, shape, dtype=np.uint8)]


def saved(path, columns: dict, features: dict | None = None, **splits: dict):
    """`columns` as the training split, and further splits, where `load_from_disk` finds them."""
    parts = {"train": columns, **splits}
    made = {
        name: datasets.Dataset.from_dict(part, features=features and datasets.Features(features))
        for name, part in parts.items()
    }
    datasets.DatasetDict(made).save_to_disk(path)


def test_a_folder_with_one_folder_per_class(tmp_path):
    for colour, value in COLOURS.items():
        (tmp_path / "flowers" / "train" / colour).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (6, 5), value).save(tmp_path / f"flowers/train/{colour}/{number}.png")
    found = load("hf:flowers", tmp_path, held_out=0.2)
    assert found.image_shape == (3, 5, 6)
    assert found.num_classes == 2
    assert found.labels.bincount().tolist() == [8, 8]
    assert found.held_out_labels.bincount().tolist() == [2, 2]
    assert len(set(found.labels[:8].tolist())) == 2  # not in the order of the folders
    blue = found.images[found.labels == 0]
    # Half of all pixels have blue 255 and half 0: mean 1/2, deviation 1/2. Green is 0 everywhere.
    assert torch.equal(blue[:, 2], torch.ones_like(blue[:, 2]))
    assert torch.equal(blue[:, 0], -torch.ones_like(blue[:, 0]))
    assert not blue[:, 1].any()
    assert found.black.tolist() == [-1, 0, -1]


def test_images_come_back_pixel_by_pixel_in_a_fixed_order(tmp_path):
    pictures, labels = images_of(20), [number % 4 for number in range(20)]
    saved(
        tmp_path / "set",
        {"image": pictures, "label": labels},
        test={"image": pictures[:5], "label": labels[:5]},
    )
    found, again = (load("hf:set", tmp_path, held_out="test") for _ in range(2))
    assert torch.equal(found.images, again.images)
    stacked = np.stack([np.asarray(picture) for picture in pictures]) / 255
    expected = (stacked - stacked.mean((0, 1, 2))) / stacked.std((0, 1, 2))
    rows = {row.tobytes(): number for number, row in enumerate(np.float32(expected.round(4)))}
    places = [
        rows[row.tobytes()] for row in np.float32(found.images.permute(0, 2, 3, 1).double().numpy().round(4))
    ]
    assert sorted(places) == list(range(20)) != places
    assert found.labels.tolist() == [labels[place] for place in places]
    np.testing.assert_allclose(found.held_out_images.permute(0, 2, 3, 1), expected[:5], atol=1e-5)
    assert found.num_classes == 4


def test_grey_images_have_one_channel_and_named_labels_are_numbered(tmp_path):
    columns = {"picture": images_of(6, mode="L"), "target": ["cat", "dog", "ant", "ant", "dog", "cat"]}
    saved(tmp_path / "set", columns, test={"picture": images_of(2), "target": ["dog", "ant"]})
    found = load("hf:set", tmp_path, held_out="test")
    assert found.image_shape == (1, 8, 8)
    assert sorted(found.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert found.held_out_labels.tolist() == [2, 0]
    assert found.held_out_images.shape == (2, 1, 8, 8)  # colours of the test images are taken off


def test_columns_can_be_named(tmp_path):
    columns = {"a": images_of(4), "b": images_of(4, size=9), "coarse": [0, 0, 1, 1], "fine": [0, 1, 2, 3]}
    saved(tmp_path / "set", columns)
    spec = DataSpecification(name="hf:set", held_out=0.0, columns=("b", "fine"))
    found = load_for(spec, tmp_path)
    assert found.image_shape == (3, 9, 9)
    assert found.num_classes == 4
    with pytest.raises(DataError, match=r"which columns of set .* a \(Image\), b \(Image\).*data\.columns"):
        load("hf:set", tmp_path)
    with pytest.raises(DataError, match=r'has no column "c"\. It has a, b, coarse, fine'):
        load("hf:set", tmp_path, columns=("c", "fine"))


def test_images_of_several_sizes_are_made_one(tmp_path):
    saved(tmp_path / "set", {"image": images_of(2) + images_of(2, size=9), "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=r"not of one size: 8 x 8, 9 x 9\. Say which: data\.image_size"):
        load("hf:set", tmp_path)
    assert load("hf:set", tmp_path, image_size=4, held_out=0.0).images.shape == (4, 3, 4, 4)


@pytest.mark.parametrize("labels", [[-1, 0, 1, 1], [[0, 1]] * 4, [0.5, 1.5, 0.0, 1.0]])
def test_labels_that_are_no_classes(tmp_path, labels):
    saved(tmp_path / "set", {"image": images_of(4), "label": labels})
    with pytest.raises(DataError, match=r"the labels of set are not one class each"):
        load("hf:set", tmp_path)


def test_a_set_without_test_images(tmp_path):
    saved(tmp_path / "set", {"image": images_of(4), "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=r"no test images of its own; its splits are train\. Use a fraction"):
        load("hf:set", tmp_path, held_out="test")


def test_a_name_that_nobody_knows(tmp_path):
    with pytest.raises(DataError, match=r'datasets cannot load "no/such-set": .*Looked for a folder at'):
        load("hf:no/such-set", tmp_path)


def test_without_the_library_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "datasets")
    with pytest.raises(
        MissingExtraError, match=r"datasets, which is not installed.*pip install 'reluscope\[lab\]'"
    ):
        load("hf:mnist")


def test_columns_of_other_sets():
    with pytest.raises(ValueError, match="columns and image_size are for sets of the library datasets"):
        DataSpecification(name="mnist", image_size=9)
    with pytest.raises((ValueError, SpecificationError), match="is no data set"):
        DataSpecification(name="hf:")

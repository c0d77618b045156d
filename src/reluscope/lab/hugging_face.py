"""Any image classification set through the library `datasets`: by name, cached by it, or from a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reluscope.errors import DataError, MissingExtraError

__all__ = ["DatasetChoice"]

_ORDER_SEED = 20260101  # sets are often sorted by class; the probe and `num_images` take the first images
_TEST_SPLITS = ("test", "validation", "valid", "val")
_LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True, kw_only=True)
class DatasetChoice:
    """A set of images that the library `datasets` can load.

    Attributes:
        name: as for `datasets.load_dataset`, or a folder: of images with one folder per class, or one that
            `Dataset.save_to_disk` wrote.
        columns: those of image and label; None: the only column of images, and the only one of class labels
            or the one called "label".
        image_size: make all images squares of that many pixels; None: they must be of one size.
    """

    name: str
    columns: tuple[str, str] | None = None
    image_size: int | None = None

    def read(self, folder: Path | None, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The images of one split.

        Args:
            folder: where a folder `name` is looked for first.
            split: "train", or "test" (which falls back on the validation images).

        Returns:
            uint8 images (n, channels, height, width), 1 channel if the first training image is grey, else 3;
            int64 labels (n,), from 0. Training images in an order of their own, always the same.

        Raises:
            MissingExtraError: `datasets` is not installed.
            DataError: the set cannot be loaded, or is not one of labelled images of one size.
        """
        splits = self._load(folder)
        train = splits.get("train") or next(iter(splits.values()))
        wanted = train if split == "train" else self._test_split(splits)
        image_column, label_column = self.columns or self._find_columns(train.features)
        for column in (image_column, label_column):
            if column not in wanted.column_names:
                raise DataError(
                    f'{self.name} has no column "{column}". It has {_listed(wanted.column_names)}.'
                )
        if not len(train) or not len(wanted):
            raise DataError(f"{self.name} has no images in its split for {split}.")
        mode = "L" if train[0][image_column].mode in ("1", "L") else "RGB"
        images = self._stack(image.convert(mode) for image in wanted[image_column])
        labels = self._labels(wanted[label_column], train[label_column])
        if split == "train":
            order = np.random.default_rng(_ORDER_SEED).permutation(len(labels))
            images, labels = images[order], labels[order]
        return images, labels

    def _load(self, folder: Path | None) -> Mapping[str, Any]:
        """All splits by name."""
        try:
            import datasets
        except ImportError:
            raise MissingExtraError(
                f'the images "hf:{self.name}" come through the library datasets, which is not installed. '
                "Install it: pip install 'reluscope[lab]'."
            ) from None
        places = [*([folder / self.name] if folder else []), Path(self.name)]
        path = next((place for place in places if place.is_dir()), None)
        try:
            if path is None:
                loaded = datasets.load_dataset(self.name)
            elif (path / "dataset_dict.json").exists() or (path / "state.json").exists():
                loaded = datasets.load_from_disk(str(path))
            else:
                loaded = datasets.load_dataset("imagefolder", data_dir=str(path))
        except Exception as error:  # whatever is wrong with a name, a network, a folder or a loading script
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f'datasets cannot load "{self.name}": {reason}. Looked for a folder at '
                f"{_listed(map(str, places))} first. A set that was loaded once is found without a network."
            ) from None
        if isinstance(loaded, Mapping):
            return {str(name): part for name, part in loaded.items()}
        return {"train": loaded}

    def _test_split(self, splits: Mapping[str, Any]) -> Any:
        for name in _TEST_SPLITS:
            if name in splits:
                return splits[name]
        raise DataError(
            f"{self.name} has no test images of its own; its splits are {_listed(splits)}. Use a fraction: "
            "data.held_out=0.1."
        )

    def _find_columns(self, features: Mapping[str, Any]) -> tuple[str, str]:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        images = [name for name, kind in kinds.items() if kind == "Image"]
        labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        if len(labels) != 1:
            labels = [name for name in _LABEL_NAMES if name in kinds][:1]
        if len(images) == 1 and labels:
            return images[0], labels[0]
        found = _listed(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(
            f"which columns of {self.name} hold image and label is not clear; it has {found}. Say so: "
            "data.columns=[image, label]."
        )

    def _stack(self, images: Iterable[Any]) -> np.ndarray:
        """PIL images of one mode as one array (n, channels, height, width)."""
        arrays, sizes = [], set()
        for image in images:
            if self.image_size is not None:
                image = image.resize((self.image_size, self.image_size), 2)  # 2: bilinear, antialiased
            sizes.add(image.size)
            if len(sizes) > 1:
                some = _listed(f"{width} x {height}" for width, height in sorted(sizes))
                raise DataError(
                    f"the images of {self.name} are not of one size: {some}. Say which: data.image_size=32."
                )
            arrays.append(np.asarray(image, dtype=np.uint8))
        stacked = np.stack(arrays)
        return stacked[:, None] if stacked.ndim == 3 else np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))

    def _labels(self, labels: Sequence[Any], training_labels: Sequence[Any]) -> np.ndarray:
        """Class numbers as they are; class names by their place in the training labels' alphabet."""
        found = np.asarray(list(labels))
        if found.ndim == 1 and found.dtype.kind in "iu" and found.min() >= 0:
            return found.astype(np.int64)
        if found.ndim == 1 and found.dtype.kind == "U":
            names = np.unique(np.asarray(list(training_labels)))
            if np.isin(found, names).all():
                return np.searchsorted(names, found)
        raise DataError(
            f"the labels of {self.name} are not one class each: numbers from 0, or names that the training "
            f"images have too. Found {_listed(map(repr, found.ravel()[:3].tolist()))}, ... Choose the column: "
            "data.columns=[image, label]."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)

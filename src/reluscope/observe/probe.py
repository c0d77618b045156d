"""The probe: the fixed inputs, and labels, on which a model is observed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from reluscope.errors import EmptyProbeError, LabelsError, ProbeError
from reluscope.observe.loading import read_dataset, read_loader

__all__ = ["Probe", "probe_tensors"]


class Probe:
    """Fixed inputs in a fixed order and fixed batches.

    Everything is copied when the probe is made: later changes to what was passed in change nothing. Each
    measurement gets fresh copies of the batches, so that a model that overwrites its input does not
    overwrite the probe.

    Args:
        inputs: a tensor or NumPy array; a tuple of them (positional arguments of the model); a dict (keyword
            arguments); a `Dataset` or `DataLoader`, which is read once, in its order (a shuffling loader
            under a private generator, so that nobody's random stream moves) and brings its own labels.
            Tensors share axis 0, the samples; other values (None, flags) and 0-d tensors are handed over as
            they are.
        labels: class of each sample, integers (num_samples,), or None.
        batch_size: samples per forward pass. With `batch_norm="batch"` it is part of what is measured.
        device: where to keep the probe; None, where it is. Batches move to the model's device in any case.

    Raises:
        ProbeError: inputs of no known form, or without a common number of samples, or a batch size below 1.
        EmptyProbeError: no sample.
        LabelsError: labels that are not one integer class per sample.
    """

    def __init__(
        self,
        inputs: Any,
        labels: Any = None,
        batch_size: int = 128,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ProbeError(f"batch_size={batch_size!r} is not possible; it is an int of at least 1.")
        is_read = False
        if isinstance(inputs, (Dataset, DataLoader)):
            if labels is not None:
                raise LabelsError(
                    f"labels were passed beside a {type(inputs).__name__}, which brings its own. "
                    "Leave labels out, or pass the inputs as a tensor."
                )
            is_read = True
            inputs, labels = read_loader(inputs) if isinstance(inputs, DataLoader) else read_dataset(inputs)
        device = _checked_device(device)
        with torch.no_grad():
            self._inputs = _copied(inputs, device)
            self.num_samples = _num_samples(self._inputs)
            self.labels = None if labels is None else _class_labels(labels, self.num_samples, is_read)
        self.batch_size = int(batch_size)
        self.device = device

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {shape}" for name, _, shape in self._described())
        return (
            f"Probe({inputs}; {self.num_samples} samples in {self.num_batches} batches of {self.batch_size})"
        )

    def __len__(self) -> int:
        return self.num_samples

    @property
    def num_batches(self) -> int:
        """Forward passes per measurement."""
        return -(-self.num_samples // self.batch_size)

    @property
    def last_batch_size(self) -> int:
        """Samples in the last batch: 1 to `batch_size`."""
        return self.num_samples - (self.num_batches - 1) * self.batch_size

    @property
    def num_classes(self) -> int | None:
        """Largest label plus 1; None without labels."""
        return None if self.labels is None else int(self.labels.max()) + 1

    def batches(
        self, device: torch.device | str | None = None
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], torch.Tensor | None]]:
        """Fresh copies of the batches in order: positional and keyword arguments, labels (on the CPU)."""
        for start in range(0, self.num_samples, self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            taken = _mapped(self._inputs, lambda tensor, a=start, b=stop: _slice(tensor, a, b, device))
            labels = None if self.labels is None else self.labels[start:stop]
            if isinstance(taken, dict):
                yield (), taken, labels
            else:
                yield (taken if isinstance(taken, tuple) else (taken,)), {}, labels

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits over names, dtypes, shapes, bytes, labels and batch size, not device or layout."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"probe 1, batches of {self.batch_size}".encode())
        tensors = [*_named_leaves(self._inputs, "")]
        if self.labels is not None:
            tensors.append(("labels", self.labels))
        for name, value in tensors:
            if isinstance(value, torch.Tensor):
                digest.update(f"|{name} {value.dtype} {tuple(value.shape)}|".encode())
                flat = value.detach().cpu().contiguous().reshape(-1)
                digest.update(memoryview(flat.view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType]
            else:
                digest.update(f"|{name} {value!r}|".encode())
        return digest.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """What `run.json` keeps of the probe, in plain values."""
        return {
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            "num_classes": self.num_classes,
            "has_labels": self.labels is not None,
            "fingerprint": self.fingerprint,
            "inputs": [
                {"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in self._described()
            ],
        }

    def _described(self) -> list[tuple[str, str, list[int]]]:
        return [
            (name, str(value.dtype).removeprefix("torch."), list(value.shape))
            for name, value in _named_leaves(self._inputs, "")
            if isinstance(value, torch.Tensor)
        ]


def _checked_device(device: torch.device | str | None) -> torch.device | None:
    try:
        checked = None if device is None else torch.device(device)
        if checked is not None and checked.type != "meta":
            torch.empty(0, device=checked)
            return checked
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ProbeError(
            f"device={device!r} cannot hold a probe: {str(error).splitlines()[0]} Give a device of this machine, "
            'such as "cpu", or None to leave the inputs where they are.'
        ) from error
    if checked is not None:
        raise ProbeError('device="meta" holds no values, and a probe is made of values; give "cpu" or None.')
    return None


def _mapped(value: Any, change: Any) -> Any:
    """Apply `change` to every tensor of a nested structure of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(one, change) for one in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(one, change) for one in value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, change) for key, one in value.items()}
    return value


def _named_leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every leaf with a name: "input", "0", "tokens", "0.mask"."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _named_leaves(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for index, one in enumerate(value):
            yield from _named_leaves(one, f"{name}.{index}" if name else str(index))
    else:
        yield name or "input", value


def probe_tensors(inputs: Any) -> list[torch.Tensor]:
    """Every tensor of a nested structure of inputs."""
    return [one for _, one in _named_leaves(inputs, "") if isinstance(one, torch.Tensor)]


def _slice(tensor: torch.Tensor, start: int, stop: int, device: torch.device | str | None) -> torch.Tensor:
    part = tensor if tensor.ndim == 0 else tensor[start:stop]
    moved = part if device is None else part.to(device)
    # `to` hands back the very tensor when it is there already; an in-place first operation would write to it.
    return moved.clone() if moved is part else moved


def _copied(inputs: Any, device: torch.device | str | None) -> Any:
    """The inputs as tensors of our own, arrays converted, in the structure they came in."""
    if isinstance(inputs, np.ndarray):
        try:
            tensor = torch.tensor(_native(inputs), device=device)
        except TypeError as error:
            raise ProbeError(
                f"an array of dtype {inputs.dtype} cannot be an input; pass numbers (float32, int64...)."
            ) from error
        return tensor
    if isinstance(inputs, torch.Tensor):
        if inputs.is_meta or inputs.is_nested or inputs.layout != torch.strided:
            raise ProbeError(
                f"a {'meta' if inputs.is_meta else 'nested' if inputs.is_nested else inputs.layout} tensor cannot be "
                "an input: a probe is cut into batches along axis 0 and needs values. Pass a dense tensor, "
                "samples of several lengths padded to one."
            )
        copy = inputs.detach().clone()
        return copy if device is None else copy.to(device)
    if isinstance(inputs, Mapping):
        if not all(isinstance(key, str) for key in inputs):
            raise ProbeError("a dict of inputs holds keyword arguments: its keys are names, that is text.")
        return {key: _nested(one, device) for key, one in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_nested(one, device) for one in inputs)
    raise ProbeError(
        f"inputs of type {type(inputs).__name__} cannot be a probe. Allowed: a tensor or array, a tuple of "
        "them (positional arguments), a dict (keyword arguments), a Dataset or a DataLoader."
    )


def _native(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of this machine, the only one torch knows."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _nested(value: Any, device: torch.device | str | None) -> Any:
    if isinstance(value, list):
        return [_nested(one, device) for one in value]
    return _copied(value, device) if isinstance(value, (torch.Tensor, np.ndarray, Mapping, tuple)) else value


def _num_samples(inputs: Any) -> int:
    sizes = {
        name: value.shape[0]
        for name, value in _named_leaves(inputs, "")
        if isinstance(value, torch.Tensor) and value.ndim > 0
    }
    if not sizes:
        raise ProbeError(
            "the inputs hold no tensor with an axis of samples; axis 0 of every tensor is the samples."
        )
    if len(set(sizes.values())) > 1:
        found = ", ".join(f'"{name}" has {size}' for name, size in sizes.items())
        raise ProbeError(
            f"the inputs disagree on the number of samples: {found}. Axis 0 of every tensor is the samples; "
            "give a shared tensor one row per sample with expand(num_samples, ...)."
        )
    count = next(iter(sizes.values()))
    if count == 0:
        raise EmptyProbeError("the probe holds no sample. Pass inputs with at least one row on axis 0.")
    return count


def _class_labels(labels: Any, num_samples: int, is_read: bool) -> torch.Tensor:
    """int64 (num_samples,) on the CPU, a copy."""
    try:
        tensor = (
            labels.detach().cpu()
            if isinstance(labels, torch.Tensor)
            else torch.from_numpy(_native(np.asarray(labels)))
        )
    except TypeError as error:
        raise LabelsError(
            f"labels of type {type(labels).__name__} are no classes. Pass one integer per sample; "
            "names become integers with numpy.unique(names, return_inverse=True)[1]."
        ) from error
    if tensor.ndim != 1:
        raise LabelsError(
            f"labels have shape {tuple(tensor.shape)}; one integer class per sample has shape "
            f"({num_samples},). One-hot or probability labels become classes with labels.argmax(1), "
            "a column with labels.squeeze(1)."
        )
    if len(tensor) != num_samples:
        raise LabelsError(
            f"{len(tensor)} labels for {num_samples} samples; pass one per sample, or labels=None."
        )
    if tensor.is_floating_point() or tensor.is_complex():
        raise LabelsError(
            f"labels of dtype {tensor.dtype} are no classes. Classes become integers with labels.long(); "
            + (
                "for a regression pass a dataset or loader of the inputs alone: TensorDataset(inputs), or a "
                "collate_fn that leaves the targets out."
                if is_read
                else "for a regression pass the inputs alone, labels=None."
            )
        )
    tensor = tensor.to(torch.int64, copy=True)
    if int(tensor.min()) < 0:
        raise LabelsError(
            f"the smallest label is {int(tensor.min())}; classes count from 0. "
            "Leave samples without a class out."
        )
    return tensor

"""Reading a Dataset or DataLoader once, for a probe, in a fixed order; nobody's random stream moves.

The loader's own iterator is not used: it draws a seed from the global generator, starts workers and, with
persistent workers, stays behind on the loader. Its sampler, batch sampler, dataset and collate function are
all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from reluscope.errors import EmptyProbeError, ProbeError
from reluscope.observe.quiet import random_streams

__all__ = ["read_dataset", "read_loader"]

_LABEL_KEYS = ("labels", "label", "targets", "target", "y")
_READ_AT_ONCE = 256
_SEED = 0


def read_dataset(dataset: Dataset[Any]) -> tuple[Any, Any]:
    """Inputs and labels of a whole dataset, in its order."""
    with random_streams():
        if isinstance(dataset, IterableDataset):
            batches = _chunks(dataset, _READ_AT_ONCE)
        else:
            count = len(dataset)  # pyright: ignore[reportArgumentType]
            spans = (range(a, min(a + _READ_AT_ONCE, count)) for a in range(0, count, _READ_AT_ONCE))
            batches = (_fetch(dataset, list(span)) for span in spans)
        return _joined([_split(_collated(batch, default_collate)) for batch in batches])


def read_loader(loader: DataLoader[Any]) -> tuple[Any, Any]:
    """Inputs and labels of all that a loader yields, in its sampler's order under a fixed private seed."""
    samplers = [loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    generators = {
        id(found): found for one in samplers if (found := getattr(one, "generator", None)) is not None
    }
    with ExitStack() as stack:
        stack.enter_context(random_streams())
        for generator in generators.values():
            stack.enter_context(_borrowed(generator))
        return _joined([_split(batch) for batch in _batches(loader)])


@contextmanager
def _borrowed(generator: torch.Generator) -> Iterator[None]:
    """Seed a generator for the reading and put its state back."""
    state = generator.get_state()
    generator.manual_seed(_SEED)
    try:
        yield
    finally:
        generator.set_state(state)


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
    dataset, collate = loader.dataset, loader.collate_fn
    if loader.batch_size is None and loader.batch_sampler is None:
        sampled = dataset if isinstance(dataset, IterableDataset) else (dataset[i] for i in loader.sampler)
        yield from _unbatched(collate(item) for item in sampled)
    elif isinstance(dataset, IterableDataset):
        for items in _chunks(dataset, loader.batch_size or 1):
            if len(items) == loader.batch_size or not loader.drop_last:
                yield _collated(items, collate)
    else:
        for indices in loader.batch_sampler or ():
            yield _collated(_fetch(dataset, list(indices)), collate)


def _unbatched(items: Iterable[Any]) -> Iterator[Any]:
    """With batch_size=None a dataset yields batches of its own, or single samples: the labels tell."""
    for chunk in _chunks(items, _READ_AT_ONCE):
        label = _split(chunk[0])[1]
        if label is not None and np.ndim(label) == 0:
            yield _collated(chunk, default_collate)
        else:
            yield from chunk


def _fetch(dataset: Any, indices: list[int]) -> list[Any]:
    if hasattr(dataset, "__getitems__") and dataset.__getitems__:
        return dataset.__getitems__(indices)
    return [dataset[index] for index in indices]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _collated(items: list[Any], collate: Any) -> Any:
    try:
        return collate(items)
    except (TypeError, RuntimeError) as error:
        raise ProbeError(
            f"the samples of the dataset cannot be put into one batch ({error}). A probe needs tensors, "
            "arrays or numbers of one shape: add a transform, or pass a DataLoader with a collate_fn that "
            "does it."
        ) from error


def _split(batch: Any) -> tuple[Any, Any]:
    """Inputs and labels of one batch: (x, y), (x, y, labels), {"x": ..., "labels": ...} or x alone."""
    if isinstance(batch, Mapping):
        key = next((key for key in _LABEL_KEYS if key in batch), None)
        inputs = {name: value for name, value in batch.items() if name != key}
        return inputs, None if key is None else batch[key]
    if isinstance(batch, (tuple, list)):
        if len(batch) == 1:
            return batch[0], None
        *inputs, labels = batch
        return inputs[0] if len(inputs) == 1 else tuple(inputs), labels
    return batch, None


def _joined(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    if not parts:
        raise EmptyProbeError("the dataset or loader yields no sample; a probe needs at least one.")
    inputs, labels = [inputs for inputs, _ in parts], [labels for _, labels in parts]
    return _concatenated(inputs), None if labels[0] is None else _concatenated(labels)


def _concatenated(values: list[Any]) -> Any:
    """One nested structure out of the batches' structures."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        try:
            return torch.cat(values) if first.ndim else torch.stack(values)
        except (RuntimeError, TypeError) as error:
            raise ProbeError(
                f"the batches do not fit together ({error}). A probe needs samples of one shape: "
                "pad them all to the same length."
            ) from error
    if isinstance(first, Mapping):
        return {key: _concatenated([value[key] for value in values]) for key in first}
    if isinstance(first, (tuple, list)) and first and not isinstance(first[0], (str, bytes)):
        return tuple(_concatenated([value[i] for value in values]) for i in range(len(first)))
    if isinstance(first, (tuple, list)):
        return [one for value in values for one in value]
    return first

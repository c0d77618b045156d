"""The scalars of training, from whatever the user's loop has in hand to plain rows.

Values that live on an accelerator are copied there and fetched later, in one go: logging never makes the
training wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from reluscope.errors import RecorderError

__all__ = ["Indices", "Number", "TrainingLog"]

Number = float | torch.Tensor
Indices = Iterable[int] | torch.Tensor


class TrainingLog:
    """Collects rows; `take` hands them over as plain values."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        step: int,
        *,
        loss: Number | None,
        accuracy: Number | None,
        lr: Number | None,
        batch_indices: Indices | None,
    ) -> None:
        """Take in the scalars of one step; None: not given.

        Raises:
            RecorderError: a value that is no number, or indices that are no whole numbers.
        """
        row: dict[str, Any] = {"step": step}
        for name, value in (("loss", loss), ("accuracy", accuracy), ("lr", lr)):
            if value is not None:
                row[name] = _number(name, value)
        if batch_indices is not None:
            row["batch_indices"] = _indices(batch_indices)
        self._rows.append(row)

    def take(self) -> list[dict[str, Any]]:
        """All rows, as plain numbers and lists; they are gone from here."""
        rows, self._rows = self._rows, []
        return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _number(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise RecorderError(
                f"log({name}=...) takes one number; found a tensor of shape {tuple(value.shape)}."
            )
        # A copy: the user's loop may go on to add to this very tensor.
        alone = value.detach().reshape(())
        return alone.clone() if alone.device.type != "cpu" else float(alone)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RecorderError(f"log({name}={value!r}) is no number.") from error


def _indices(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.dtype == torch.bool:
            raise RecorderError(
                f"log(batch_indices=...) takes whole numbers; found a tensor of {value.dtype}."
            )
        return value.detach().reshape(-1).clone()
    try:
        return [int(one.__index__()) for one in value]
    except (TypeError, AttributeError) as error:
        raise RecorderError(f"log(batch_indices=...) takes whole numbers; found {value!r}.") from error


def _plain(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.tolist() if value.ndim else float(value)

"""What the sections of a training specification share: strict and frozen fields, names, depths of networks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from reluscope.errors import SpecificationError

__all__ = ["ActivationName", "Section", "blocks_per_stage"]

ActivationName = Literal["relu", "leaky_relu", "prelu"]


class Section(BaseModel):
    """Base of every section: frozen, and a field it does not know is an error, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def blocks_per_stage(depth: int) -> int:
    """The b of depth = 6b + 2.

    Raises:
        SpecificationError: there is no such b >= 1.

    >>> blocks_per_stage(20)
    3
    """
    num_blocks, rest = divmod(depth - 2, 6)
    if rest or num_blocks < 1:
        nearest = 6 * max(1, round((depth - 2) / 6)) + 2
        raise SpecificationError(
            f"depth {depth} cannot be built: these nets have 6b + 2 layers (8, 14, 20, 26, ...). Closest: "
            f"{nearest}"
        )
    return num_blocks

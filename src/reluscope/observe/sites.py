"""Sites: what one call of an activation function is, which are selected, and the list to keep to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch

from reluscope.errors import SitesChangedError, UnitAxisError, UnknownSiteError, closest
from reluscope.observe.activations import ActivationCall
from reluscope.observe.axes import UnitAxis
from reluscope.observe.mode import ObservationMode

__all__ = [
    "Lane",
    "Site",
    "SiteBatch",
    "Unobserved",
    "check_same_sites",
    "check_selection",
    "describe_site",
    "matches",
]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One call of an activation function in the forward pass.

    Args:
        name: unique in the model, in the order and words of `rs.sites`.
        module: path of the module that makes the call, "" at the root.
        operation: "relu", "hardtanh", "clamp"...
        kinks: where the function bends, per unit; bit c * num_kinks + k is on iff unit c exceeds kink k.
        channel_dim: the axis of the units, counted from 0.
        channel_dim_source: the operation it comes from, "given", "default 4-D", or "default 4-D, that of
            convolution was lost".
        num_units: length of that axis.
        num_positions: places per sample; None when axis 0 is not a multiple of the batch or does not list
            the samples in order, so that it cannot be told whose an evaluation is.
        dtype: of the pre-activation, "float32".
        smooth: the function has no kink and is observed at the sign of its input.
    """

    name: str
    module: str
    operation: str
    kinks: tuple[float, ...]
    channel_dim: int
    channel_dim_source: str
    num_units: int
    num_positions: int | None
    dtype: str
    smooth: bool

    @property
    def num_kinks(self) -> int:
        """Bits per unit."""
        return len(self.kinks)

    @property
    def width(self) -> int:
        """Bits per pattern: units x kinks."""
        return self.num_units * self.num_kinks

    def as_dict(self) -> dict[str, Any]:
        """The fields and `width` in plain values, for tables and `run.json`."""
        return {**asdict(self), "kinks": list(self.kinks), "width": self.width}


@dataclass(frozen=True, kw_only=True)
class Unobserved:
    """An activation, hook or module that was met and is not observed.

    `name` is where, `operation` what, `reason` why and what to do about it.
    """

    name: str
    module: str
    operation: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The fields in plain values."""
        return asdict(self)


# A short way for further batches of a site: takes the pre-activations and, where the activation is a ReLU, the tensor that
# is to get its result (the same one, in place, or another that is laid out alike). Returns whether it wrote that result,
# so that the activation need not run; None if it did nothing at all, and the batch must go to the consumer.
Lane = Callable[[torch.Tensor, torch.Tensor | None], bool | None]


class SiteBatch(NamedTuple):
    """The pre-activations of one site for one batch of the probe, as the consumer gets them.

    Args:
        site: whose they are.
        preactivations: detached, laid out as the model has them; valid only during the call, since an
            in-place activation overwrites them next. Not to be written to.
        batch_index: number of the batch.
        sample_offset: number of the batch's first sample in the probe.
        num_samples: samples in the batch.
        labels: int64 (num_samples,) on the CPU, or None.
    """

    site: Site
    preactivations: torch.Tensor
    batch_index: int
    sample_offset: int
    num_samples: int
    labels: torch.Tensor | None


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether a site's name is one of the globs, letter by letter, or matches one."""
    return any(name == glob or fnmatchcase(name, glob) for glob in globs)


def describe_site(
    name: str,
    module: str,
    call: ActivationCall,
    found: UnitAxis,
    mode: ObservationMode,
    num_samples: int | None,
) -> Site:
    """Make a Site of a recognised call; `num_samples` is None when axis 0 is not those of the batch in order.

    Raises:
        UnitAxisError: `channel_dim` names an axis that the tensor does not have, or that of the samples.
    """
    shape = call.tensor.shape
    axis, source = _unit_axis(name, len(shape), found, mode)
    evaluations = call.tensor.numel() // max(shape[axis], 1)
    return Site(
        name=name,
        module=module,
        operation=call.operation,
        kinks=call.kinks,
        channel_dim=axis,
        channel_dim_source=source,
        num_units=shape[axis],
        num_positions=None if num_samples is None else evaluations // num_samples,
        dtype=str(call.tensor.dtype).removeprefix("torch."),
        smooth=call.smooth,
    )


def _unit_axis(name: str, num_dims: int, found: UnitAxis, mode: ObservationMode) -> UnitAxis:
    axes = mode.axes
    # A name given in full wins over a glob that happens to match it as well.
    given = axes.get(name, next((axis for glob, axis in axes.items() if fnmatchcase(name, glob)), None))
    if given is None or not matches(name, mode.globs):
        return found
    axis = given + num_dims if given < 0 else given
    if not 0 < axis < num_dims:
        raise UnitAxisError(
            f'channel_dim={given} does not fit the site "{name}", whose pre-activations have {num_dims} '
            f"dimensions. Allowed: 1 to {num_dims - 1}, or {1 - num_dims} to -1 (axis 0 holds the samples). "
            f'Give this site an axis of its own with channel_dim={{"{name}": ...}}.'
        )
    return UnitAxis(axis, "given")


def check_selection(mode: ObservationMode, names: Sequence[str], unobserved: Iterable[Unobserved]) -> None:
    """Raise `UnknownSiteError` when a glob of `sites` or a key of `channel_dim` matches no name."""
    reasons = {one.name: one.reason for one in unobserved}
    for option, globs in (("sites", mode.globs), ("channel_dim", tuple(mode.axes))):
        for glob in globs:
            if glob == "*" or any(matches(name, (glob,)) for name in names):
                continue
            seen = f' "{glob}" was met but is not observed: {reasons[glob]}.' if glob in reasons else ""
            raise UnknownSiteError(
                f'no site matches {option}="{glob}".{seen} The model has {len(names)}; closest: '
                f"{closest(glob, names)}. List them with rs.sites(model, example_input)."
            )


def check_same_sites(
    expected: Sequence[tuple[str, str, int]], found: Sequence[tuple[str, str, int]], when: str
) -> None:
    """Raise `SitesChangedError` with the difference unless two lists of (name, operation, width) agree."""
    if list(expected) == list(found):
        return
    before, after = {one[0]: one for one in expected}, {one[0]: one for one in found}
    gone = [f'"{name}" was not called' for name in before if name not in after]
    new = [f'"{name}" is new' for name in after if name not in before]
    changed = [
        f'"{name}" was {before[name][1]} of width {before[name][2]} and is {after[name][1]} of width '
        f"{after[name][2]}"
        for name in before
        if name in after and before[name] != after[name]
    ]
    difference = [*gone, *new, *changed] or ["the same sites came in another order"]
    more = f" and {len(difference) - 6} more differences" if len(difference) > 6 else ""
    raise SitesChangedError(
        f"the forward pass visited other sites {when}: {'; '.join(difference[:6])}{more}. A measurement "
        "needs the same list every time: select sites that are always visited (sites=...), or make the "
        "forward pass in eval mode independent of the batch and of the step."
    )

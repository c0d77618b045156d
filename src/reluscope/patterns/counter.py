"""PatternCounter, which counts the patterns of a site batch by batch, and three functions without state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from reluscope.errors import DistributionError, EstimateError, KernelError, LabelsError, UnitAxisError
from reluscope.kernels import dispatch
from reluscope.kernels.fingerprint import DEFAULT_SEED, check_seed
from reluscope.kernels.gpu_values import DeviceValues
from reluscope.kernels.plan import Finished, KeyPlan
from reluscope.kernels.values import Form, Preactivations, Values, as_values
from reluscope.patterns.budget import Budget, BudgetedAccumulator
from reluscope.patterns.counts import JointCounts, PatternCounts, check_width
from reluscope.patterns.estimate import EstimatedCounts

__all__ = ["PatternCounter", "count_keys", "count_patterns", "pack_patterns"]


class _Last:
    """How the last batch lay in memory, while the next one that lies so can be counted by `repeat`."""

    __slots__ = ("dtype", "form", "shape", "strides")

    def __init__(self, batch: torch.Tensor, form: Form) -> None:
        self.shape, self.strides, self.dtype, self.form = batch.shape, batch.stride(), batch.dtype, form


class PatternCounter:
    """The growing distribution of one site's patterns, and of (pattern, group) pairs when groups are given.

    Not safe for two threads at once; two counters in two threads are.

    Args:
        width: bits of a pattern: units x kinks. At least 1, no upper limit.
        num_groups: number of groups (classes, say) that samples belong to; 0 counts no joint distribution.
        seed: keys the fingerprint that stands for patterns beyond 128 bits. Only counts of one seed merge.
        budget: the memory that this counter shares with others; past it the counts become an estimate
            (`estimate`), or stay exact in files where the budget spills. None: no limit.
        site: a name that decides, with the budget's seed, which patterns stay in an estimate.

    Raises:
        DistributionError: width or num_groups is no such number.
        KernelError: the seed is no unsigned 64-bit integer, or RELUSCOPE_KERNELS names no kernels.

    >>> counter = PatternCounter(2)
    >>> counter.update(np.array([[1.0, -1.0], [1.0, -2.0], [-1.0, 3.0]]))
    >>> counter.counts().keys.tolist(), counter.counts().counts.tolist()
    ([[1], [2]], [2, 1])
    """

    def __init__(
        self,
        width: int,
        *,
        num_groups: int = 0,
        seed: int = DEFAULT_SEED,
        budget: Budget | None = None,
        site: str = "",
    ) -> None:
        check_width(width)
        if not isinstance(num_groups, int | np.integer) or isinstance(num_groups, bool) or num_groups < 0:
            raise DistributionError(
                f"num_groups={num_groups!r} is no number of groups; give 0 (none) or more"
            )
        self.width = int(width)
        self.num_groups = int(num_groups)
        self.seed = check_seed(seed)
        self.num_evaluations = 0
        self.num_values = 0
        self._num_nan = 0
        self._plan = plan = KeyPlan(width=self.width, num_groups=self.num_groups, seed=self.seed)
        # Where batches are counted: on the device of the first one. None: by the kernels of the host, as with a budget.
        self._home: torch.device | None = None
        self._has_home = budget is not None
        self._accumulator: Any = (
            dispatch.accumulator(plan) if budget is None else budget.accumulator(plan, site)
        )
        self._finished: Finished | None = None
        self._is_closed = False
        self._last: _Last | None = None
        # The short way, which only the host's fast kernels have, and not with a look at a budget after every batch.
        self._again: Callable[[int, int], int | None] | None = getattr(self._accumulator, "again", None)

    def update(
        self,
        preactivations: Preactivations,
        channel_dim: int = 1,
        *,
        kinks: Sequence[float] = (0.0,),
        groups: torch.Tensor | np.ndarray | None = None,
    ) -> None:
        """Count a batch.

        Args:
            preactivations: tensor on the CPU or a GPU, or array, float16, bfloat16, float32 or float64, samples
                on axis 0. Counted where the first batch lies; one that lies elsewhere is copied there.
            channel_dim: the axis of the units.
            kinks: bit c * K + k is on iff unit c exceeds kink k, which is rounded to the dtype of the values
                first. 0.0, -0.0 and NaN are not above 0; NaN are counted in `num_nan`.
            groups: int64 (samples,), the group of each sample, which all its positions share. Given if and
                only if the counter has groups.

        Raises:
            DistributionError: the counter was closed.
            KernelError: a dtype, device or kink that cannot be packed.
            UnitAxisError: no such axis, or as many units as do not give the counter's width.
            LabelsError: groups that do not fit the samples.
            BudgetError: the budget is too small for the sites that share it.
            SpillError: the disk to spill to is full.
        """
        if self._is_closed:
            raise DistributionError("this counter was closed; open another one to count more")
        if not self._has_home:
            self._settle(preactivations)
        self._last = last = None
        if self._home is None and type(preactivations) is torch.Tensor and preactivations.is_cpu:
            values = as_values(preactivations, channel_dim, kinks)
            # Where it lies, not a copy; of an empty batch there is nothing to do again.
            is_there = values.address == preactivations.data_ptr() and preactivations.numel() > 0
            if is_there and groups is None and self._again is not None:
                last = _Last(preactivations, values.form)
        else:
            values = dispatch.values_at(self._home, preactivations, channel_dim, kinks)
        if values.form.width != self.width:
            raise UnitAxisError(
                f"{values.form.num_units} units with {len(values.form.kinks)} kinks give patterns of width "
                f"{values.form.width}, but the counter has width {self.width}; check channel_dim={channel_dim}"
            )
        group_of_sample = self._checked_groups(groups, values)
        self._finished = None
        self._num_nan += self._accumulator.add(values, group_of_sample)
        self.num_evaluations += values.form.num_evaluations
        self.num_values += values.form.num_values
        self._last = last

    def repeat(self, preactivations: torch.Tensor, target: torch.Tensor | None = None) -> bool | None:
        """Count a batch that lies in memory as the last one did, in the least time, and run its ReLU on the way.

        Between two operations of a forward pass Python is slow, since they leave none of it in the caches: this takes a
        fifth of what `update` does there.

        Args:
            preactivations: with the axis of units and the kinks of the last batch, without groups.
            target: where max(x, 0) is written if the kernels can do that in the same pass over memory; laid out as the
                pre-activations, their very memory or none in common. The result is torch's bit for bit.

        Returns:
            Whether the target was written; None where nothing was done, because the batch lies otherwise or there is no
            shorter way: `update` must count it.
        """
        last, again = self._last, self._again
        if (
            last is None
            or again is None
            or preactivations.shape != last.shape
            or preactivations.stride() != last.strides
            or preactivations.dtype != last.dtype
            or type(preactivations) is not torch.Tensor
            or not preactivations.is_cpu
            or preactivations.is_neg()
        ):
            return None
        form = last.form
        place = target.data_ptr() if target is not None and form.can_rectify else 0
        num_nan = again(preactivations.data_ptr(), place)
        if num_nan is None:
            return None
        self._finished = None
        self._num_nan += num_nan
        self.num_evaluations += form.num_evaluations
        self.num_values += form.num_values
        return place != 0

    @property
    def can_repeat(self) -> bool:
        """Whether `repeat` may take the next batch."""
        return self._last is not None

    def _settle(self, batch: Preactivations) -> None:
        """Count where the first batch lies."""
        self._home, self._has_home = dispatch.home_of(batch), True
        if self._home is not None:
            self._accumulator, self._again = dispatch.device_accumulator(self._plan, self._home), None

    @property
    def num_nan(self) -> int:
        """NaN among the pre-activations seen; where they are counted on a GPU, asking waits for it."""
        return self._num_nan if self._home is None else self._accumulator.num_nan()

    def close(self, *, pairs: bool = False) -> None:
        """End the count: the finished tables take the place of the state, which takes less memory than both.

        Args:
            pairs: whether `joint` will be asked for; without, only `joint_counts` can be.
        """
        if not self._is_closed:
            pairs = pairs and self.num_groups > 0 and self.is_exact
            self._finished = self._accumulator.finish(pairs=pairs, last=True)
            self._is_closed, self._last = True, None

    @property
    def is_exact(self) -> bool:
        """Whether everything counted so far is there; not, where the memory budget made it an estimate."""
        return not isinstance(self._accumulator, BudgetedAccumulator) or self._accumulator.is_exact

    def counts(self) -> PatternCounts:
        """The distribution of everything counted so far; the counter may be updated further.

        Raises:
            EstimateError: the memory budget made it an estimate.
        """
        return PatternCounts.from_finished(self._exact(pairs=False), self.width, self.seed)

    def estimate(self) -> EstimatedCounts | None:
        """What is left of the distribution where the memory budget made it an estimate; None where it is exact."""
        finished = self._finish(pairs=False)
        found = self._accumulator.thinned() if isinstance(self._accumulator, BudgetedAccumulator) else None
        return None if found is None else EstimatedCounts.of(finished, found, self.width, self.seed)

    def joint(self) -> JointCounts | None:
        """The joint distribution of patterns and groups, None without groups. Raises as `counts` does."""
        finished = self._exact(pairs=True)
        if finished.joint_pattern is None or finished.joint_group is None or finished.joint_counts is None:
            return None
        return JointCounts(
            pattern=finished.joint_pattern,
            group=finished.joint_group,
            counts=finished.joint_counts,
            num_groups=self.num_groups,
        )

    def joint_counts(self) -> np.ndarray | None:
        """The counts of `joint()` alone, int64 (J,), for a third of its memory; None without groups."""
        return self._exact(pairs=False).joint_counts

    @property
    def nbytes(self) -> int:
        """Bytes the counter holds now, finished tables included."""
        finished = 0 if self._finished is None else self._finished.nbytes
        return finished if self._is_closed else self._accumulator.nbytes + finished

    def __repr__(self) -> str:
        groups = f", num_groups={self.num_groups}" if self.num_groups else ""
        return f"PatternCounter(width={self.width}{groups}, num_evaluations={self.num_evaluations})"

    def _exact(self, *, pairs: bool) -> Finished:
        if not self.is_exact:
            raise EstimateError(
                f"the counts of {self!r} are an estimate: they did not fit the memory budget. estimate() has what is left "
                "of them; raise the budget, or give it a folder to spill to, to count exactly."
            )
        return self._finish(pairs=pairs)

    def _finish(self, *, pairs: bool) -> Finished:
        pairs = pairs and self.num_groups > 0
        if self._is_closed and pairs and self._finished and self._finished.joint_pattern is None:
            raise DistributionError("this counter was closed without its pairs; call close(pairs=True)")
        if self._finished is None or (pairs and self._finished.joint_pattern is None):
            finished: Finished = self._accumulator.finish(pairs=pairs)
            self._finished = finished
        return self._finished

    def _checked_groups(
        self, groups: torch.Tensor | np.ndarray | None, values: Values | DeviceValues
    ) -> np.ndarray | None:
        if (groups is None) != (self.num_groups == 0):
            found = "no groups were given" if groups is None else "groups were given"
            raise LabelsError(
                f"{found}, but the counter has num_groups={self.num_groups}; give them if and only if it has "
                "some"
            )
        if groups is None:
            return None
        if values.form.unit_axis == 0:
            raise UnitAxisError("groups belong to the samples on axis 0, but channel_dim=0 puts units there")
        array = groups.detach().cpu().numpy() if isinstance(groups, torch.Tensor) else np.asarray(groups)
        if array.shape != (values.form.num_samples,) or array.dtype.kind not in "iu":
            raise LabelsError(
                f"groups of dtype {array.dtype} and shape {array.shape} do not fit {values.form.num_samples} "
                f"samples; give int64 of shape ({values.form.num_samples},)"
            )
        if array.size and not (array.min() >= 0 and array.max() < self.num_groups):
            raise LabelsError(
                f"groups run from {array.min()} to {array.max()}; allowed are 0 to {self.num_groups - 1}"
            )
        return np.ascontiguousarray(array, np.int64)


def pack_patterns(
    preactivations: Preactivations, channel_dim: int = 1, *, kinks: Sequence[float] = (0.0,)
) -> np.ndarray:
    """The pattern of every evaluation, uint64 (evaluations, ceil(width / 64)).

    Evaluations come in C order of the array with the unit axis taken out, so sample by sample. Bit c * K + k
    is on iff unit c exceeds kink k (strictly; the kink is rounded to the dtype of the values first); bit b is
    bit b % 64 of word b // 64. 0.0, -0.0 and NaN are not above 0.

    Args:
        preactivations: tensor on the CPU or a GPU, or array, float16, bfloat16, float32 or float64.
        channel_dim: the axis of the units.
        kinks: where the activation bends: (0.0,) for ReLU, (0.0, 6.0) for ReLU6.

    Raises:
        KernelError: a dtype, device or kink that cannot be packed.
        UnitAxisError: the axis does not exist.

    >>> pack_patterns(np.array([[1.0, -1.0, 2.0], [0.0, 0.5, -0.0]])).tolist()
    [[5], [2]]
    """
    return dispatch.pack(
        dispatch.values_at(dispatch.home_of(preactivations), preactivations, channel_dim, kinks)
    )[0]


def count_keys(keys: np.ndarray, width: int, *, seed: int = DEFAULT_SEED) -> PatternCounts:
    """Count packed patterns, as `pack_patterns` gives them.

    Args:
        keys: uint64 (evaluations, ceil(width / 64)); with one word (evaluations,) will do.
        width: bits of a pattern.
        seed: keys the fingerprint that stands for patterns beyond 128 bits.

    Raises:
        KernelError: keys of another dtype or shape, or with bits beyond the width.

    >>> count_keys(np.array([3, 1, 3], np.uint64), width=2).counts.tolist()
    [1, 2]
    """
    check_width(width)
    plan = KeyPlan(width=int(width), num_groups=0, seed=check_seed(seed))
    words = _checked_words(keys, plan)
    finished = dispatch.count_words(plan, words, dispatch.home_of(words))
    return PatternCounts.from_finished(finished, plan.width, plan.seed)


def count_patterns(
    preactivations: Preactivations,
    channel_dim: int = 1,
    *,
    kinks: Sequence[float] = (0.0,),
    seed: int = DEFAULT_SEED,
) -> PatternCounts:
    """Pack and count at once: `count_keys(pack_patterns(x), width)` without the packed patterns in between.

    Arguments and errors are those of `pack_patterns`; `seed` keys the fingerprint beyond 128 bits.

    >>> count_patterns(np.array([[1.0, -1.0], [2.0, -2.0]])).counts.tolist()
    [2]
    """
    home = dispatch.home_of(preactivations)
    values = dispatch.values_at(home, preactivations, channel_dim, kinks)
    plan = KeyPlan(width=values.form.width, num_groups=0, seed=check_seed(seed))
    accumulator = _accumulator(plan, home, is_alone=True)
    accumulator.add(values, None)
    finished = accumulator.finish(pairs=False, last=True)
    return PatternCounts.from_finished(finished, plan.width, plan.seed)


def _accumulator(plan: KeyPlan, home: torch.device | None, *, is_alone: bool = False) -> Any:
    """An empty count on a device, or on the host."""
    return (
        dispatch.accumulator(plan, is_alone=is_alone)
        if home is None
        else dispatch.device_accumulator(plan, home)
    )


def _checked_words(keys: np.ndarray, plan: KeyPlan) -> np.ndarray:
    words = np.asarray(keys)
    if words.ndim == 1 and plan.num_words == 1:
        words = words.reshape(-1, 1)
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != plan.num_words:
        raise KernelError(
            f"keys of dtype {words.dtype} and shape {words.shape} are no patterns of width {plan.width}; "
            f"give uint64 of shape (evaluations, {plan.num_words})"
        )
    if plan.width % 64 and len(words) and int(words[:, -1].max()) >> (plan.width % 64):
        raise KernelError(f"a key has bits beyond width {plan.width}; check the width")
    return np.ascontiguousarray(words)

"""What the information about the labels would be if the labels meant nothing.

Plug-in information is biased high, the more so the more patterns are distinct. Shuffling the labels among the
samples keeps patterns, classes and bias, and removes the relation: what remains of the information is bias.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reluscope.errors import EmptyCountsError, LabelsError
from reluscope.measures.distribution import spectrum

__all__ = ["information_excess", "permuted_information"]

_BLOCK_CELLS = 1 << 20  # cells of the dense (pattern, class) table of one block: 8 MiB


def information_excess(
    pattern: npt.NDArray[np.integer],
    sample: npt.NDArray[np.integer],
    counts: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
    *,
    num_permutations: int,
    generator: np.random.Generator,
) -> float:
    """Information of patterns and labels minus its mean over permutations of the samples' labels, in bits.

    Args:
        pattern: index of the pattern, int64 (J,), of every (pattern, sample) pair that occurred.
        sample: index of the sample, int64 (J,), within 0 .. num_samples - 1.
        counts: occurrences of the pair, int64 (J,), every entry >= 1.
        labels: class of each sample, int64 (num_samples,).
        num_permutations: permutations to average over, at least 1.
        generator: the source of the permutations; the same state gives the same result.

    Raises:
        EmptyCountsError: no pair occurred.
        LabelsError: arrays of different length, a sample without a label, or no permutation asked for.

    Bounds: about 0 (labels without meaning) to H(L); below 0 by chance. The mean's own standard error falls
    as 1/sqrt(num_permutations). Source: reluscope; DEFINITIONS, "With labels".
    """
    table = _JointTable(pattern, sample, counts, labels)
    by_chance = table.permuted(num_permutations, generator)
    return table.information(table.classes) - float(by_chance.mean())


def permuted_information(
    pattern: npt.NDArray[np.integer],
    sample: npt.NDArray[np.integer],
    counts: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
    *,
    num_permutations: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Information of patterns and labels for each of several permutations of the samples' labels, in bits.

    Args:
        pattern: index of the pattern, int64 (J,), of every (pattern, sample) pair that occurred.
        sample: index of the sample, int64 (J,), within 0 .. num_samples - 1.
        counts: occurrences of the pair, int64 (J,), every entry >= 1.
        labels: class of each sample, int64 (num_samples,).
        num_permutations: how many, at least 1.
        generator: the source of the permutations; the same state gives the same result.

    Returns:
        float64 (num_permutations,).

    Raises:
        EmptyCountsError: no pair occurred.
        LabelsError: arrays of different length, a sample without a label, or no permutation asked for.

    Bounds: 0 to min(d, H(L)).
    """
    return _JointTable(pattern, sample, counts, labels).permuted(num_permutations, generator)


class _JointTable:
    """The (pattern, sample) pairs, sorted by pattern and split by whether the labels can matter to them.

    A pattern that occurs in one sample only lies in one class whatever the labels are: its share of H(A, L)
    is a constant. On a real probe most patterns are like that, so each permutation walks a small rest.
    """

    def __init__(
        self,
        pattern: npt.NDArray[np.integer],
        sample: npt.NDArray[np.integer],
        counts: npt.NDArray[np.integer],
        labels: npt.NDArray[np.integer],
    ) -> None:
        pattern, sample, counts, labels = (np.asarray(array) for array in (pattern, sample, counts, labels))
        _check(pattern, sample, counts, labels)
        order = np.argsort(pattern, kind="stable")
        starts = np.flatnonzero(np.diff(pattern[order], prepend=pattern[order[0]] - 1))
        num_pairs = np.diff(starts, append=pattern.size)
        self._sample, self._counts = sample[order], counts[order].astype(np.int64)
        pattern_counts = np.add.reduceat(self._counts, starts)
        shared = np.repeat(num_pairs > 1, num_pairs)
        self._num_evaluations = int(pattern_counts.sum())
        self._pattern_entropy = spectrum(pattern_counts).entropy()
        self._constant = self._plug_in_sum(self._counts[~shared])
        self._sample, self._counts = self._sample[shared], self._counts[shared]
        self._ends = np.cumsum(num_pairs[num_pairs > 1])
        self._index = np.repeat(np.arange(self._ends.size), num_pairs[num_pairs > 1])
        _, self.classes = np.unique(labels, return_inverse=True)
        self._num_classes = int(self.classes.max()) + 1
        self._evaluations = np.zeros(labels.size, dtype=np.int64)
        np.add.at(self._evaluations, sample, counts)

    def information(self, classes: npt.NDArray[np.integer]) -> float:
        """I(A; L) when sample i is of class `classes[i]`."""
        class_counts = np.zeros(self._num_classes, dtype=np.int64)
        np.add.at(class_counts, classes, self._evaluations)
        label_entropy = spectrum(class_counts[class_counts > 0]).entropy()
        joint = self._constant + math.fsum(self._block_sums(classes))
        joint_entropy = math.log2(self._num_evaluations) - joint / self._num_evaluations
        bits = self._pattern_entropy + label_entropy - joint_entropy
        return min(max(bits, 0.0), self._pattern_entropy, label_entropy)

    def permuted(self, num_permutations: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
        """I(A; L) for each of several permutations of the samples' classes."""
        if num_permutations < 1:
            raise LabelsError(
                f"{num_permutations} permutations of the labels were asked for; at least 1 is needed."
            )
        return np.array(
            [self.information(generator.permutation(self.classes)) for _ in range(num_permutations)]
        )

    def _block_sums(self, classes: npt.NDArray[np.integer]) -> list[float]:
        """Sums of c log2 c over (pattern, class) pairs of the shared patterns, by block of whole patterns."""
        sums: list[float] = []
        per_block = max(_BLOCK_CELLS // self._num_classes, 1)
        first_pair = 0
        for first in range(0, self._ends.size, per_block):
            last = min(first + per_block, self._ends.size)
            pairs = slice(first_pair, int(self._ends[last - 1]))
            first_pair = pairs.stop
            cells = (self._index[pairs] - first) * self._num_classes + classes[self._sample[pairs]]
            # float64 weights are exact up to 2^53 evaluations of one pattern in one class
            joint = np.bincount(cells, weights=self._counts[pairs])
            sums.append(self._plug_in_sum(joint[joint > 0]))
        return sums

    @staticmethod
    def _plug_in_sum(counts: npt.NDArray[np.integer] | npt.NDArray[np.float64]) -> float:
        values = counts.astype(np.float64)
        return float(values @ np.log2(values))


def _check(
    pattern: npt.NDArray[np.integer],
    sample: npt.NDArray[np.integer],
    counts: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
) -> None:
    if not pattern.shape == sample.shape == counts.shape or pattern.ndim != 1 or labels.ndim != 1:
        raise LabelsError(
            "pattern, sample and counts describe the same pairs, and labels the samples, all "
            f"one-dimensional; found shapes {pattern.shape}, {sample.shape}, {counts.shape} and "
            f"{labels.shape}."
        )
    if pattern.size == 0:
        raise EmptyCountsError(
            "information was asked for, but no (pattern, sample) pair occurred, so it is not defined."
        )
    if sample.min() < 0 or sample.max() >= labels.size:
        raise LabelsError(
            f"samples {int(sample.min())} .. {int(sample.max())} occur, but there are labels for "
            f"{labels.size} samples only (0-based). Pass one label for each sample of the probe."
        )

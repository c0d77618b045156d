"""Measures of a pattern distribution together with the labels of the probe.

Notation: A the pattern, L the class of the sample that the evaluation belongs to (for a convolutional site
the label of its image), N_c the evaluations of class c, C the classes present. Everything in bits. The
authors of [A] compute these in their code; the maxima here are ours, since one of theirs divides by zero.

Trap: plug-in information is biased *high*. When all patterns are distinct it equals H(L) whatever the labels.
Read it beside the coverage, or minus its mean over permutations of the labels
(`permutations.information_excess`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reluscope.errors import DistributionError, EmptyCountsError, LabelsError
from reluscope.measures.distribution import CountsLike, Spectrum, as_counts, spectrum
from reluscope.measures.patterns import check_widths, largest_entropy

__all__ = [
    "conditional_entropy",
    "information",
    "joint_by_class",
    "joint_entropy",
    "label_entropy",
    "largest_conditional",
    "largest_joint",
    "present_classes",
    "relative_conditional_entropy",
    "relative_information",
    "relative_joint_entropy",
    "summarize_labels",
]


def joint_entropy(joint_counts: CountsLike) -> float:
    """Entropy of pattern and class together, H(A, L), in bits.

    Args:
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.

    Bounds: 0 to min(d + log2 C, log2 N). Source: the authors' code of [A].

    >>> joint_entropy([1, 1, 1, 1])
    2.0
    """
    return _counted(joint_counts, "joint_entropy").entropy()


def relative_joint_entropy(
    joint_counts: CountsLike, class_evaluations: CountsLike, *, num_units: int, num_kinks: int = 1
) -> float:
    """Joint entropy as a share of the largest it could be, H(A, L) / min(units log2(K + 1) + log2 C, log2 N).

    Args:
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.
        LabelsError: the classes do not hold as many evaluations as the pairs.

    Bounds: 0 to 1; NaN when N = 1. Source: reluscope.
    """
    joint = _counted(joint_counts, "relative_joint_entropy")
    classes = present_classes(class_evaluations, joint.num_evaluations)
    return _share(joint.entropy(), largest_joint(classes, num_units=num_units, num_kinks=num_kinks))


def conditional_entropy(joint_counts: CountsLike, class_evaluations: CountsLike) -> float:
    """Entropy of the pattern within a class, H(A | L) = H(A, L) - H(L) = sum_c p(c) H(A | c), in bits.

    Args:
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.
        LabelsError: the classes do not hold as many evaluations as the pairs.

    Bounds: 0 to sum_c p(c) min(d, log2 N_c). Source: the authors' code of [A].

    >>> conditional_entropy([2, 2], [2, 2])
    0.0
    """
    joint = _counted(joint_counts, "conditional_entropy")
    return _conditional(joint, present_classes(class_evaluations, joint.num_evaluations))


def relative_conditional_entropy(
    joint_counts: CountsLike, class_evaluations: CountsLike, *, num_units: int, num_kinks: int = 1
) -> float:
    """Conditional entropy as a share of the largest it could be.

    H(A | L) / sum_c p(c) min(units log2(K + 1), log2 N_c).

    Args:
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.
        LabelsError: the classes do not hold as many evaluations as the pairs.

    Bounds: 0 to 1; NaN when every class has one evaluation. Source: reluscope.
    """
    joint = _counted(joint_counts, "relative_conditional_entropy")
    classes = present_classes(class_evaluations, joint.num_evaluations)
    largest = largest_conditional(classes, num_units=num_units, num_kinks=num_kinks)
    return _share(_conditional(joint, classes), largest)


def information(counts: CountsLike, joint_counts: CountsLike, class_evaluations: CountsLike) -> float:
    """Mutual information of pattern and class, I(A; L) = H(A) - H(A | L), in bits.

    Args:
        counts: occurrences of each pattern, every entry >= 1.
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.
        LabelsError: patterns, pairs and classes do not hold the same number of evaluations.

    Bounds: 0 to min(d, H(L)). Biased high; see the module's trap. Source: the authors' code of [A].

    >>> information([2, 2], [2, 2], [2, 2])
    1.0
    """
    found, joint = _counted(counts, "information"), _counted(joint_counts, "information")
    _check_same_evaluations(found, joint)
    return _information(found, joint, present_classes(class_evaluations, joint.num_evaluations))


def relative_information(
    counts: CountsLike,
    joint_counts: CountsLike,
    class_evaluations: CountsLike,
    *,
    num_units: int,
    num_kinks: int = 1,
) -> float:
    """Information as a share of the largest it could be, I(A; L) / min(units log2(K + 1), H(L)).

    Args:
        counts: occurrences of each pattern, every entry >= 1.
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.

    Raises:
        EmptyCountsError: nothing was counted.
        DistributionError: counts are not integers >= 1.
        LabelsError: patterns, pairs and classes do not hold the same number of evaluations.

    Bounds: 0 to 1; NaN when only one class is present. Source: reluscope.
    """
    bits = information(counts, joint_counts, class_evaluations)
    return _share(bits, min(num_units * math.log2(num_kinks + 1), label_entropy(class_evaluations)))


def joint_by_class(
    pattern: npt.NDArray[np.integer],
    sample: npt.NDArray[np.integer],
    counts: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
) -> npt.NDArray[np.int64]:
    """Occurrences of each (pattern, class) pair, from those of each (pattern, sample) pair.

    Args:
        pattern: index of the pattern, int64 (J,), of every (pattern, sample) pair that occurred.
        sample: index of the sample, int64 (J,), within 0 .. num_samples - 1.
        counts: occurrences of the pair, int64 (J,), every entry >= 1.
        labels: class of each sample, int64 (num_samples,).

    Returns:
        int64, one entry for each pair that occurred, in order of pattern and class.

    >>> pattern, sample = np.array([0, 0, 1]), np.array([0, 1, 1])
    >>> joint_by_class(pattern, sample, np.array([5, 2, 1]), np.array([7, 7])).tolist()
    [7, 1]
    """
    if len(pattern) == 0:
        return np.empty(0, dtype=np.int64)
    values, index = np.unique(labels, return_inverse=True)
    cells = pattern.astype(np.int64) * values.size + index[sample]
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    return np.add.reduceat(counts[order].astype(np.int64), starts)


def label_entropy(class_evaluations: CountsLike) -> float:
    """Entropy of the classes, H(L), in bits.

    Args:
        class_evaluations: evaluations (or samples) of each class, (num_classes,); classes with 0 are not
            present.

    Raises:
        EmptyCountsError: no class has any.
        DistributionError: not integers >= 0.

    Bounds: 0 to log2 C.

    >>> label_entropy([5, 5, 0])
    1.0
    """
    return _counted(_present(class_evaluations), "label_entropy").entropy()


def summarize_labels(
    counts: CountsLike,
    joint_counts: CountsLike,
    *,
    width: int,
    num_units: int,
    num_kinks: int,
    class_evaluations: CountsLike,
) -> dict[str, float]:
    """All measures of the family "labels" that need no permutation, in one walk over the two tables.

    Args:
        counts: occurrences of each pattern, every entry >= 1; may be empty.
        joint_counts: occurrences of each (pattern, class) pair that occurred, every entry >= 1; may be empty.
        width: bits of the pattern, num_units x num_kinks.
        num_units: channels or features of the site.
        num_kinks: K, kinks per unit.
        class_evaluations: N_c, evaluations of each class, (num_classes,); classes with 0 are not present.

    Returns:
        joint_entropy, relative_joint_entropy, conditional_entropy, relative_conditional_entropy, information,
        relative_information; NaN where nothing was counted or a maximum is 0. `information_excess` needs the
        samples, not only their classes: see `permutations.information_excess`.

    Raises:
        DistributionError: counts are not integers >= 1, or width is not num_units x num_kinks.
        LabelsError: patterns, pairs and classes do not hold the same number of evaluations.
    """
    check_widths(width=width, num_units=num_units, num_kinks=num_kinks)
    found, joint = spectrum(counts), spectrum(joint_counts)
    _check_same_evaluations(found, joint)
    names = ("joint_entropy", "conditional_entropy", "information")
    if joint.multiplicities.size == 0:
        return dict.fromkeys([f"{prefix}{name}" for name in names for prefix in ("", "relative_")], math.nan)
    classes = present_classes(class_evaluations, joint.num_evaluations)
    bits = (joint.entropy(), _conditional(joint, classes), _information(found, joint, classes))
    largest = (
        largest_joint(classes, num_units=num_units, num_kinks=num_kinks),
        largest_conditional(classes, num_units=num_units, num_kinks=num_kinks),
        min(num_units * math.log2(num_kinks + 1), spectrum(classes).entropy()),
    )
    row: dict[str, float] = {}
    for name, value, maximum in zip(names, bits, largest, strict=True):
        row[name] = value
        row[f"relative_{name}"] = _share(value, maximum)
    return row


def _conditional(joint: Spectrum, classes: npt.NDArray[np.int64]) -> float:
    # H(A, L) >= H(L) holds exactly; rounding may break it in the last bit.
    return max(joint.entropy() - spectrum(classes).entropy(), 0.0)


def _information(found: Spectrum, joint: Spectrum, classes: npt.NDArray[np.int64]) -> float:
    of_patterns, of_labels = found.entropy(), spectrum(classes).entropy()
    return min(max(of_patterns + of_labels - joint.entropy(), 0.0), of_patterns, of_labels)


def largest_joint(classes: npt.NDArray[np.int64], *, num_units: int, num_kinks: int) -> float:
    """The largest joint entropy, min(units log2(K + 1) + log2 C, log2 N), in bits, of classes of these sizes."""
    of_pairs = num_units * math.log2(num_kinks + 1) + math.log2(classes.size)
    return min(of_pairs, math.log2(int(classes.sum())))


def largest_conditional(classes: npt.NDArray[np.int64], *, num_units: int, num_kinks: int) -> float:
    """The largest conditional entropy, sum_c p(c) min(units log2(K + 1), log2 N_c), in bits."""
    num_evaluations = int(classes.sum())
    return math.fsum(
        size / num_evaluations * largest_entropy(size, num_units=num_units, num_kinks=num_kinks)
        for size in classes.tolist()
    )


def _share(value: float, largest: float) -> float:
    return min(value / largest, 1.0) if largest > 0.0 else math.nan


def _counted(counts: CountsLike, name: str) -> Spectrum:
    found = spectrum(counts)
    if found.multiplicities.size == 0:
        raise EmptyCountsError(
            f"{name} was asked for, but nothing was counted (N = 0), so it is not defined. "
            "`summarize_labels` gives NaN there."
        )
    return found


def _present(sizes: CountsLike) -> npt.NDArray[np.int64]:
    """The sizes of the classes that are present."""
    array = as_counts(sizes, what="the sizes of the classes")
    if array.size and array.min() < 0:
        raise DistributionError(f"the sizes of the classes must be at least 0, found {int(array.min())}.")
    return array[array > 0]


def present_classes(class_evaluations: CountsLike, num_evaluations: int) -> npt.NDArray[np.int64]:
    """Evaluations of each class that is present, checked against N."""
    present = _present(class_evaluations)
    if int(present.sum()) != num_evaluations:
        raise LabelsError(
            f"the classes hold {int(present.sum())} evaluations, the (pattern, class) pairs "
            f"{num_evaluations}; they must be the same evaluations. Pass samples of each class x positions "
            "per sample as class_evaluations."
        )
    return present


def _check_same_evaluations(found: Spectrum, joint: Spectrum) -> None:
    if found.num_evaluations != joint.num_evaluations:
        raise LabelsError(
            f"the patterns hold {found.num_evaluations} evaluations, the (pattern, class) pairs "
            f"{joint.num_evaluations}; they must be the same evaluations, each with its class."
        )

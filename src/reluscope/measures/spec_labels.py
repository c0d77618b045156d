"""Traits of the measures that need labels (`labels.py`, `permutations.py`)."""

from __future__ import annotations

from reluscope.measures.measure import Measure

__all__ = ["LABELS"]

LABELS: tuple[Measure, ...] = (
    Measure(
        name="joint_entropy",
        title="Joint entropy with the class",
        symbol="H(A, L)",
        unit="bits",
        family="labels",
        lower=0.0,
        upper="min(d + log2 C, log2 N)",
        direction="more even",
        source="[A], the authors' code",
        formula="-sum p(a, l) log2 p(a, l)",
        description=(
            "Entropy of pattern and class together. For a convolutional site the label of an image holds at "
            "each of its positions. It exists to be split into the conditional entropy and the entropy of "
            "the classes."
        ),
        dtype="float64",
        scale="linear",
        function="labels.joint_entropy",
    ),
    Measure(
        name="relative_joint_entropy",
        title="Relative joint entropy",
        symbol="H(A, L) / max",
        unit="1",
        family="labels",
        lower=0.0,
        upper=1.0,
        direction="more even",
        source="reluscope (the authors' code uses another maximum)",
        formula="joint_entropy / min(d + log2 C, log2 N), C classes present",
        description=(
            "Joint entropy as a share of the largest possible. It is 1 as soon as all evaluations differ, "
            "which at a low coverage is a fact about the probe."
        ),
        dtype="float64",
        scale="linear",
        function="labels.relative_joint_entropy",
    ),
    Measure(
        name="conditional_entropy",
        title="Entropy within a class",
        symbol="H(A | L)",
        unit="bits",
        family="labels",
        lower=0.0,
        upper="sum_c p(c) min(d, log2 N_c)",
        direction="more varied within classes",
        source="[A], the authors' code",
        formula="sum_c p(c) H(A | c) = H(A, L) - H(L)",
        description=(
            "How evenly the evaluations of one class spread over the patterns, averaged over the classes. A "
            "site that maps a class to few patterns has a low value. Each class has fewer evaluations than "
            "the whole, so it is biased low more strongly than the entropy."
        ),
        dtype="float64",
        scale="linear",
        function="labels.conditional_entropy",
    ),
    Measure(
        name="relative_conditional_entropy",
        title="Relative entropy within a class",
        symbol="H(A | L) / max",
        unit="1",
        family="labels",
        lower=0.0,
        upper=1.0,
        direction="more varied within classes",
        source="reluscope (the authors' code uses another maximum)",
        formula="conditional_entropy / sum_c p(c) min(d, log2 N_c)",
        description=(
            "Entropy within a class as a share of the largest possible for classes of these sizes. It is 1 "
            "when all evaluations of each class differ, which at a low coverage is a fact about the probe."
        ),
        dtype="float64",
        scale="linear",
        function="labels.relative_conditional_entropy",
    ),
    Measure(
        name="information",
        title="Information about the class",
        symbol="I(A; L)",
        unit="bits",
        family="labels",
        lower=0.0,
        upper="min(d, H(L))",
        direction="patterns tell more about the class",
        source="[A], the authors' code",
        formula="H(A) - H(A | L)",
        description=(
            "How many bits the pattern of one evaluation tells about the class of its sample. It is biased "
            "high: when all patterns are distinct it equals the entropy of the classes whatever the labels "
            "are. Trust it only at a coverage near 1, or take the excess over shuffled labels instead."
        ),
        dtype="float64",
        scale="linear",
        function="labels.information",
    ),
    Measure(
        name="relative_information",
        title="Relative information about the class",
        symbol="I(A; L) / max",
        unit="1",
        family="labels",
        lower=0.0,
        upper=1.0,
        direction="patterns tell more about the class",
        source="reluscope (the maximum of the authors' code divides by 0)",
        formula="information / min(d, H(L))",
        description=(
            "Information about the class as a share of the largest possible: at 1 the pattern tells the "
            "class. It shares the upward bias of the information, so 1 at a low coverage means nothing."
        ),
        dtype="float64",
        scale="linear",
        function="labels.relative_information",
    ),
    Measure(
        name="information_excess",
        title="Information beyond chance",
        symbol="I - I_perm",
        unit="bits",
        family="labels",
        lower=None,
        upper="min(d, H(L))",
        direction="patterns tell more about the class than by chance",
        source="reluscope; DEFINITIONS, With labels",
        formula="information - its mean over permutations of the samples' labels",
        description=(
            "Information about the class minus what shuffled labels give, which removes most of the bias. "
            "Labels are shuffled by image, so that positions of one image stay together. Around 0 the "
            "patterns tell nothing that chance would not; values slightly below 0 are chance too."
        ),
        dtype="float64",
        scale="linear",
        function="permutations.information_excess",
    ),
)

"""Traits of the measures of one distribution (`patterns.py`), exact and by hash list."""

from __future__ import annotations

from reluscope.measures.measure import Measure

__all__ = ["COUNTS", "HASHLIST", "QUALITY"]

COUNTS: tuple[Measure, ...] = (
    Measure(
        name="total",
        title="Distinct patterns",
        symbol="T",
        unit="patterns",
        family="counts",
        lower=0.0,
        upper="min(2^d, N)",
        direction="more patterns",
        source="[A] Eq. 5",
        formula="number of i with c_i > 0",
        description=(
            "How many different on/off patterns the site showed on the probe. It cannot exceed the number "
            "of evaluations N, nor 2^d for d bits, so totals of sites of different size are not comparable "
            "as they stand: see the share."
        ),
        dtype="int64",
        scale="log",
        function="patterns.total",
    ),
    Measure(
        name="total_fraction",
        title="Share of possible patterns",
        symbol="T / T_max",
        unit="1",
        family="counts",
        lower=0.0,
        upper=1.0,
        direction="nearer the ceiling",
        source="[A] Eq. 5, made relative",
        formula="total / min((K + 1)^units, N); with one kink K per unit, total / min(2^d, N)",
        description=(
            "Distinct patterns as a share of those that could have occurred. At 1 the site is at a ceiling: "
            "either every evaluation shows a pattern of its own, or every pattern there is was seen. "
            "Neither says anything about the network until the probe is larger."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.total_fraction",
    ),
    Measure(
        name="max_frequency",
        title="Most frequent pattern",
        symbol="M",
        unit="1",
        family="counts",
        lower=0.0,
        upper=1.0,
        direction="one pattern dominates",
        source="[A] Eq. 7",
        formula="max_i c_i / N",
        description=(
            "Share of the evaluations that show the commonest pattern, the site's default case. In images "
            "that is often the flat background. It is a single pattern: a site may be concentrated on a few "
            "hundred without showing it here."
        ),
        dtype="float64",
        scale="log",
        function="patterns.max_frequency",
    ),
    Measure(
        name="entropy",
        title="Entropy",
        symbol="H",
        unit="bits",
        family="counts",
        lower=0.0,
        upper="min(d, log2 N)",
        direction="more even",
        source="[A] Eq. 8, normalised by N",
        formula="-sum_i p_i log2 p_i, p_i = c_i / N",
        description=(
            "How evenly the evaluations spread over the patterns, in bits. It is estimated from the sample "
            "by inserting frequencies, which is biased low; where coverage is below 0.5 it is little more "
            "than log2 N."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.entropy",
    ),
    Measure(
        name="relative_entropy",
        title="Relative entropy",
        symbol="H / H_max",
        unit="1",
        family="counts",
        lower=0.0,
        upper=1.0,
        direction="more even",
        source="[A] Eq. 9, ActEnt",
        formula="entropy / min(units log2(K + 1), log2 N); with one kink per unit, entropy / min(d, log2 N)",
        description=(
            "Entropy as a share of the largest possible: 0 when all evaluations show one pattern, 1 when "
            "all possible patterns occur equally often or all evaluations differ. This is the paper's main "
            "curve. A value of 1 at a wide site usually says that the probe is too small, not that the "
            "layer is random: read it with coverage."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.relative_entropy",
    ),
    Measure(
        name="entropy_corrected",
        title="Entropy, bias corrected",
        symbol="H_MM",
        unit="bits",
        family="counts",
        lower=0.0,
        upper=None,
        direction="more even",
        source="Miller 1955 (Miller-Madow)",
        formula="entropy + (total - 1) / (2 N ln 2)",
        description=(
            "Entropy with the first-order correction for its downward bias. It may exceed the largest "
            "possible entropy. The correction assumes independent evaluations, which positions within an "
            "image are not, and means nothing at a coverage under 0.5."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.entropy_corrected",
    ),
    Measure(
        name="coverage",
        title="Coverage",
        symbol="C",
        unit="1",
        family="counts",
        lower=0.0,
        upper=1.0,
        direction="the probe suffices",
        source="Good 1953 (Good-Turing)",
        formula="1 - f_1 / N, f_1 = patterns seen once",
        description=(
            "How likely one more evaluation is to show a pattern already seen: whether the probe is large "
            "enough for the other numbers to describe the layer. Below 0.5 the entropy is the sample's and "
            "not the layer's, and similarities vanish by construction. Positions within an image are not "
            "independent, so it errs on the bright side."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.coverage",
    ),
)

HASHLIST: tuple[Measure, ...] = (
    Measure(
        name="hashlist_total",
        title="Distinct patterns, hash list",
        symbol="T_hash",
        unit="patterns",
        family="hashlist",
        lower=0.0,
        upper="min(size, 2^d, N)",
        direction="more patterns",
        source="[A] Algorithm 1",
        formula="used slots of the hash list",
        description=(
            "What the paper's hash list of fixed size counts as distinct patterns. Colliding patterns "
            "merge, so it is biased low; compare it with the exact number. Nothing else in the report "
            "depends on it."
        ),
        dtype="int64",
        scale="log",
        function="patterns.total",
    ),
    Measure(
        name="hashlist_entropy",
        title="Entropy, hash list",
        symbol="H_hash",
        unit="bits",
        family="hashlist",
        lower=0.0,
        upper="min(log2 size, d, log2 N)",
        direction="more even",
        source="[A] Algorithm 1, Eq. 8",
        formula="entropy of the counts in the used slots",
        description=(
            "Entropy as the paper's hash list gives it: biased low by the patterns that collide. Its "
            "distance to the exact entropy is the error of the paper's method at this occupancy."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.entropy",
    ),
    Measure(
        name="hashlist_max_frequency",
        title="Most frequent pattern, hash list",
        symbol="M_hash",
        unit="1",
        family="hashlist",
        lower=0.0,
        upper=1.0,
        direction="one slot dominates",
        source="[A] Algorithm 1, Eq. 7",
        formula="largest slot / N",
        description=(
            "Share of the evaluations in the fullest slot of the paper's hash list: biased high, since "
            "colliding patterns add up."
        ),
        dtype="float64",
        scale="log",
        function="patterns.max_frequency",
    ),
    Measure(
        name="occupancy",
        title="Hash list occupancy",
        symbol="occupancy",
        unit="1",
        family="hashlist",
        lower=0.0,
        upper=1.0,
        direction="more collisions",
        source="[A] Algorithm 1",
        formula="used slots / size",
        description=(
            "How full the paper's hash list is. The authors keep it under 0.15 to trust their figures; "
            "above, collisions distort total, entropy and similarity noticeably."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.occupancy",
    ),
)

QUALITY: tuple[Measure, ...] = (
    Measure(
        name="nan_fraction",
        title="NaN pre-activations",
        symbol="NaN",
        unit="1",
        family="quality",
        lower=0.0,
        upper=1.0,
        direction="more values that are no number",
        source="reluscope",
        formula="NaN pre-activations / pre-activations",
        description=(
            "Share of the site's pre-activations that were NaN. NaN is not above any kink, so it counts as "
            "off and the other numbers stay defined; anything but 0 says that the network has diverged."
        ),
        dtype="float64",
        scale="linear",
        function="patterns.nan_fraction",
    ),
)

"""Bounds of every entry of the table of traits, and the invariants that tie the measures together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reluscope import measures
from reluscope.measures import LAYER_MEASURES

Arrays = tuple[np.ndarray, ...]

thorough = settings(deadline=None, max_examples=150)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Counts that a site of some units and kinks can show, with those two."""
    num_units, num_kinks = draw(st.integers(1, 70)), draw(st.integers(1, 3))
    possible = min((num_kinks + 1) ** num_units, 60)
    counts = draw(st.lists(st.one_of(st.just(1), st.integers(1, 10**6)), min_size=1, max_size=possible))
    return np.array(counts, np.int64), num_units, num_kinks


@st.composite
def joint_tables(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Counts of (pattern, class) cells, (patterns, classes), every pattern seen, and the number of units."""
    num_units = draw(st.integers(1, 70))
    num_patterns, num_classes = draw(st.integers(1, min(2**num_units, 12))), draw(st.integers(1, 5))
    cells = draw(
        st.lists(
            st.sampled_from([0, 0, 1, 1, 2, 1000]),
            min_size=num_patterns * num_classes,
            max_size=num_patterns * num_classes,
        )
    )
    table = np.array(cells, np.int64).reshape(num_patterns, num_classes)
    table[:, 0] += table.sum(1) == 0
    return table, num_units


aligned = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=50).map(
    lambda rows: (
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
    )
)


def upper_bound(name: str, **sizes: float) -> float:
    """The bound of the entry as a number: "min(d, log2 N)" is read as the formula it is."""
    upper = LAYER_MEASURES[name].upper
    if upper is None:
        return math.inf
    if isinstance(upper, float):
        return upper
    return float(eval(FORMULAS[upper], {"log2": math.log2, "min": min}, sizes))


# How each bound that is given as text is computed; a new text in the table fails here until it is added.
FORMULAS = {
    "min(2^d, N)": "min(2.0 ** d, N)",
    "min(d, log2 N)": "min(d, log2(N))",
    "min(d + log2 C, log2 N)": "min(d + log2(C), log2(N))",
    "sum_c p(c) min(d, log2 N_c)": "within",
    "min(d, H(L))": "min(d, HL)",
    "min(size, 2^d, N)": "min(size, 2.0 ** d, N)",
    "min(log2 size, d, log2 N)": "min(log2(size), d, log2(N))",
}


def assert_within_bounds(row: dict[str, float], **sizes: float) -> None:
    for name, value in row.items():
        measure = LAYER_MEASURES[name]
        if math.isnan(value):
            continue
        # differences and sums of entropies are rounded; a single entropy is held to its bound exactly
        slack = 1e-12 if name in {"conditional_entropy", "information", "entropy_corrected"} else 0.0
        assert measure.lower is None or value >= measure.lower, (name, value)
        assert value <= upper_bound(name, **sizes) + slack, (name, value)


def test_every_textual_bound_has_a_formula() -> None:
    texts = {m.upper for m in LAYER_MEASURES.values() if isinstance(m.upper, str)}
    assert texts == set(FORMULAS)


@thorough
@given(tables())
def test_counts_stay_within_their_bounds(table: tuple[np.ndarray, int, int]) -> None:
    counts, num_units, num_kinks = table
    width = num_units * num_kinks
    row = measures.summarize(counts, width=width, num_units=num_units, num_kinks=num_kinks)
    assert_within_bounds(row, d=width, N=int(counts.sum()))
    assert row["total_fraction"] > 0
    assert row["max_frequency"] > 0
    assert row["entropy_corrected"] >= row["entropy"]
    assert_within_bounds(measures.summarize_hashlist(counts, size=64), d=width, N=int(counts.sum()), size=64)
    p = counts / counts.sum()
    # textbook form; 60 terms of at most 6 bits, rounded to about 1e-16 each
    assert row["entropy"] == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-12)


@thorough
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_patterns_does_not_matter(table, random) -> None:
    counts, num_units, num_kinks = table
    shuffled = counts.tolist()
    random.shuffle(shuffled)
    traits = {"width": num_units * num_kinks, "num_units": num_units, "num_kinks": num_kinks}
    assert repr(measures.summarize(shuffled, **traits)) == repr(measures.summarize(counts, **traits))


@thorough
@given(aligned)
def test_changes_stay_within_their_bounds_and_hang_together(pair: Arrays) -> None:
    before, after = pair
    row = measures.summarize_change(before, after)
    similarity = {f"{name}_to_init": row.pop(name) for name in ("weighted_jaccard", "jaccard")}
    total_before, total_after = np.count_nonzero(before), np.count_nonzero(after)
    assert_within_bounds(row, d=64, N=max(before.sum(), after.sum(), 1))
    assert_within_bounds(similarity)
    assert row["net_change"] == row["appeared"] - row["vanished"] == total_after - total_before
    if total_before + total_after:
        assert row["churn_rate"] == pytest.approx(1 - similarity["jaccard_to_init"], abs=1e-15)
        maxima = np.maximum(before, after).sum()
        assert similarity["weighted_jaccard_to_init"] == np.minimum(before, after).sum() / maxima
    if total_after:
        assert row["relative_change"] == row["net_change"] / total_after


@thorough
@given(aligned)
def test_time_reversed(pair: Arrays) -> None:
    there, back = measures.summarize_change(*pair), measures.summarize_change(*pair[::-1])
    assert there["appeared"] == back["vanished"]
    assert there["net_change"] == -back["net_change"]
    for name in ("weighted_jaccard", "jaccard", "churn_rate"):
        assert repr(there[name]) == repr(back[name])  # repr, so that NaN equals NaN


@thorough
@given(aligned)
def test_a_state_is_like_itself(pair: Arrays) -> None:
    row = measures.summarize_change(pair[0], pair[0])
    assert row["appeared"] == row["vanished"] == 0
    if pair[0].any():
        assert row["weighted_jaccard"] == row["jaccard"] == 1.0


@thorough
@given(joint_tables())
def test_labels_stay_within_their_bounds(drawn: tuple[np.ndarray, int]) -> None:
    table, num_units = drawn
    classes, counts = table.sum(0), table.sum(1)
    present = classes[classes > 0]
    num_evaluations = int(table.sum())
    row = measures.summarize_labels(
        counts,
        table[table > 0],
        width=num_units,
        num_units=num_units,
        num_kinks=1,
        class_evaluations=classes,
    )
    p = present / num_evaluations
    within = float((p * np.minimum(num_units, np.log2(present))).sum())
    of_labels = float(-(p * np.log2(p)).sum())
    assert_within_bounds(row, d=num_units, N=num_evaluations, C=present.size, within=within, HL=of_labels)
    of_patterns = measures.entropy(counts)
    assert row["information"] == pytest.approx(of_patterns - row["conditional_entropy"], abs=1e-12)
    by_class = [measures.entropy(column[column > 0]) for column in table.T if column.any()]
    assert row["conditional_entropy"] == pytest.approx(float(p @ by_class), abs=1e-12)


@thorough
@given(joint_tables(), st.integers(0, 2**32 - 1))
def test_information_beyond_chance_stays_below_information(drawn, seed: int) -> None:
    table, _num_units = drawn
    # every class is one sample here, so that permuting labels permutes columns and changes nothing at all
    pattern, sample = np.nonzero(table)
    excess = measures.information_excess(
        pattern,
        sample,
        table[pattern, sample],
        np.arange(table.shape[1]),
        num_permutations=2,
        generator=np.random.default_rng(seed),
    )
    assert excess == pytest.approx(0.0, abs=1e-12)


@thorough
@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_shares_stay_within_their_bounds(size: int, part: int) -> None:
    if part > size:
        size, part = part, size
    assert_within_bounds({"occupancy": measures.occupancy(part, size)})
    assert_within_bounds({"nan_fraction": measures.nan_fraction(part, size)})

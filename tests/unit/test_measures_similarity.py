"""Similarities from samples: against a reference in plain Python, against the truth, and their error bars."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reluscope.errors import DistributionError, IncompatibleCountsError
from reluscope.measures import jaccard, weighted_jaccard
from reluscope.measures.similarity import PatternSample, similarities, similarity_matrix

KINDS = ("weighted_jaccard", "jaccard")


def draw(counts: np.ndarray, u: np.ndarray, size: int, words: int = 1) -> PatternSample:
    """A sample of a distribution over the patterns 0, 1, 2, ..., with given u; count 0: not there."""
    there = np.flatnonzero(counts)
    total = int(counts.sum())
    tau = 0.0 if len(there) <= size else total / size
    kept = there[u[there] * tau < counts[there]]
    keys = kept[:, None].astype(np.uint64) if words == 1 else np.stack([kept % 7, kept], 1).astype(np.uint64)
    return PatternSample(keys, counts[kept].astype(np.int64), tau, total, len(there))


def distribution(shape: str, num: int = 20_000) -> np.ndarray:
    """Over 2 num patterns, of which the second half does not occur yet."""
    counts = {
        "zipf": np.maximum(1, 3e4 / np.arange(1, num + 1)),
        "distinct": np.ones(num),
        "two heavy": np.concatenate([[4e4, 3e4], np.ones(num - 2)]),
    }[shape]
    return np.concatenate([counts.astype(np.int64), np.zeros(num, np.int64)])


def churned(counts: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """The distribution after a share of the evaluations took another pattern, half of them a new one."""
    stay = generator.binomial(counts, 1 - share)
    moved = int((counts - stay).sum())
    half = len(counts) // 2
    old = generator.choice(half, moved, p=counts[:half] / counts.sum())
    np.add.at(stay, old + half * (generator.random(moved) < 0.5), 1)
    return stay


def truth(kind: str, a: np.ndarray, b: np.ndarray) -> float:
    return {"weighted_jaccard": weighted_jaccard, "jaccard": jaccard}[kind](a, b)


def reference(a: PatternSample, b: PatternSample, kind: str) -> tuple[float, float]:
    """The estimator as it is written down, pattern by pattern."""

    def table(sample):
        keys = [tuple(key) for key in sample.keys.tolist()]
        counts = dict(zip(keys, sample.counts.tolist(), strict=True))
        p = {key: min(1.0, c / sample.tau) if sample.tau else 1.0 for key, c in counts.items()}
        f = counts if kind == "weighted_jaccard" else dict.fromkeys(counts, 1)
        return f, p, sample.num_evaluations if kind == "weighted_jaccard" else sample.num_patterns

    (f_a, p_a, n_a), (f_b, p_b, n_b) = table(a), table(b)
    both = [key for key in f_a if key in f_b]
    total, tau = n_a + n_b, max(a.tau, b.tau)
    q = {key: min(p_a[key], p_b[key]) for key in both}
    m = {key: min(f_a[key], f_b[key]) for key in both}
    s_ht = math.fsum(m[key] / q[key] for key in both)
    estimated = math.fsum(f_a[key] / p_a[key] for key in f_a) + math.fsum(f_b[key] / p_b[key] for key in f_b)
    s = min(total * s_ht / estimated, n_a, n_b)
    r = s / total
    value = s / (total - s)
    if not both:
        most = min(-math.log(0.05) * tau, n_a, n_b)
        return 0.0, 0.5 * most / (total - most)
    if a.is_whole and b.is_whole:
        return value, 0.0
    variance = (
        math.fsum(m[key] ** 2 * (1 / q[key] - 1) / q[key] for key in both)
        + r**2
        * (
            math.fsum(f_a[key] ** 2 * (1 / p_a[key] - 1) / p_a[key] for key in f_a)
            + math.fsum(f_b[key] ** 2 * (1 / p_b[key] - 1) / p_b[key] for key in f_b)
            + math.fsum(2 * f_a[key] * f_b[key] * (1 / max(p_a[key], p_b[key]) - 1) / q[key] for key in both)
        )
        - 2
        * r
        * math.fsum(
            m[key] * (f_a[key] * (1 / p_a[key] - 1) + f_b[key] * (1 / p_b[key] - 1)) / q[key] for key in both
        )
    )
    unseen = (tau * (1 - 2 * r)) ** 2 + (tau * r) ** 2
    return value, total / (total - s) ** 2 * math.sqrt(max(variance, 0.0) + unseen)


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["zipf", "distinct", "two heavy"])
def test_the_matrix_is_the_written_down_estimator(shape, kind, words):
    generator = np.random.default_rng(0)
    states = [distribution(shape, 2000)]
    states += [churned(states[0], share, generator) for share in (0.01, 0.3, 0.9)]
    states += [2 * states[1], np.roll(states[0], 2000), states[0][:50]]  # N' != N, disjoint, a whole table
    u = generator.random(4000)
    samples = [draw(state, u, size, words) for state, size in zip(states, [99] * 5 + [40, 99], strict=True)]
    found = similarity_matrix(samples, kind)
    for row, a in enumerate(samples):
        for column, b in enumerate(samples):
            value, error = reference(a, b, kind) if row != column else (1.0, 0.0)
            assert found.value[row, column] == pytest.approx(value, rel=1e-12, abs=1e-15)
            # Where two numbers of the size of N tau cancel, their rounding is left: sqrt(eps) of the root.
            assert found.standard_error[row, column] == pytest.approx(error, rel=1e-3, abs=1e-7)
            assert found.exact[row, column] == (row == column or (a.is_whole and b.is_whole))
    one_by_one = similarities(samples[:2], samples[2:], kind)
    assert np.allclose(one_by_one.value, found.value[:2, 2:], rtol=1e-12, atol=0)
    assert np.allclose(one_by_one.standard_error, found.standard_error[:2, 2:], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("shape", ["zipf", "distinct", "two heavy"])
def test_standard_errors_are_the_spread(shape, share, kind):
    generator = np.random.default_rng(1)
    before = distribution(shape)
    after = churned(before, share, generator)
    draws = [
        similarity_matrix([draw(one, u, 512) for one in (before, after)], kind)
        for u in generator.random((150, len(before)))
    ]
    values = np.array([found.value[0, 1] for found in draws])
    errors = np.array([found.standard_error[0, 1] for found in draws])
    is_true = truth(kind, before, after)
    assert np.mean(np.abs(values - is_true) <= 2 * errors) >= 0.9
    # 150 draws know a spread to 6 %. From above the one unseen pattern on each side comes in: tau to S.
    total = np.sum(before > 0) + np.sum(after > 0) if kind == "jaccard" else 2 * before.sum()
    unseen = before.sum() / 512 / total * (1 + is_true) ** 2
    assert 0.85 * values.std() <= errors.mean() <= 1.15 * values.std() + unseen
    # A ratio is biased by less than its spread; that of sets, which hang on the few rare patterns sampled, by more.
    assert abs(values.mean() - is_true) < (0.35 if kind == "weighted_jaccard" else 0.7) * values.std() + 0.001


def test_unchanged_counts_are_exactly_alike():
    u = np.random.default_rng(2).random(40_000)
    counts = distribution("zipf")
    found = similarity_matrix([draw(counts, u, 256), draw(counts, u, 256)])
    assert found.value.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert found.exact.tolist() == [
        [True, False],
        [False, True],
    ]  # another step might differ where none looked
    assert 0.0 < found.standard_error[0, 1] == pytest.approx(1 / 256, rel=1e-6)


def test_nothing_in_common_has_an_upper_bound():
    counts = distribution("distinct")
    u = np.random.default_rng(3).random(40_000)
    other = np.roll(counts, 20_000)
    found = similarities([draw(counts, u, 100)], [draw(other, u, 100)])
    assert found.value.item() == 0.0
    assert 2 * found.standard_error.item() == pytest.approx(3 / (2 * 100), rel=0.02)
    # N' = 9 N: of 3 tau' = 3 * 9 N / 100, S cannot be more than N allows.
    found = similarities([draw(counts, u, 100)], [draw(9 * other, u, 100)])
    assert 2 * found.standard_error.item() == pytest.approx(0.27 / (10 - 0.27), rel=0.01)
    found = similarities([draw(counts, u, 2)], [draw(9 * other, u, 2)])
    assert 2 * found.standard_error.item() == pytest.approx(1 / 9)


def test_the_bound_holds_at_95_percent():
    """Truths at the bound itself: no pattern is in both samples of at most 5 % of draws."""
    generator = np.random.default_rng(4)
    size, num = 50, 20_000
    common = round(2.9957 * num / size)
    before, after = np.ones(2 * num, np.int64), np.ones(2 * num, np.int64)
    before[num:] = 0
    after[: num - common] = 0
    after[2 * num - common :] = 0
    met = 0
    for u in generator.random((1000, 2 * num)):
        a, b = draw(before, u, size), draw(after, u, size)
        met += bool(np.isin(a.keys, b.keys).any())
    assert 1 - met / 1000 == pytest.approx(0.05, abs=0.02)  # 3 standard errors of 1000 draws


def test_whole_tables_give_what_the_exact_measure_gives():
    generator = np.random.default_rng(5)
    states = [generator.poisson(lam, 3000) for lam in (0.5, 3.0, 0.7)]
    samples = [draw(state, np.zeros(3000), 3000) for state in states]
    for kind in KINDS:
        found = similarity_matrix(samples, kind)
        assert found.exact.all()
        assert not found.standard_error.any()
        for a in range(3):
            for b in range(3):
                assert found.value[a, b] == truth(kind, states[a], states[b])


def test_one_whole_table_and_a_sample():
    generator = np.random.default_rng(6)
    before = distribution("zipf", 2000)
    after = churned(before, 0.2, generator)
    whole = draw(before, np.zeros(4000), 4000)
    draws = [similarities([whole], [draw(after, u, 200)]) for u in generator.random((200, 4000))]
    off = np.array([one.value.item() for one in draws]) - truth("weighted_jaccard", before, after)
    errors = np.array([one.standard_error.item() for one in draws])
    assert not any(one.exact.item() for one in draws)
    assert np.mean(np.abs(off) <= 2 * errors) >= 0.9
    assert errors.mean() == pytest.approx(off.std(), rel=0.25)


def test_states_with_nothing_in_them():
    nothing = draw(np.zeros(3, np.int64), np.zeros(3), 5)
    something = draw(np.array([1, 2, 0]), np.zeros(3), 5)
    found = similarity_matrix([nothing, something, nothing])
    assert np.isnan(found.value[0, 0])
    assert np.isnan(found.value[0, 2])
    assert found.value[0, 1] == 0.0
    assert found.exact.all()
    assert similarity_matrix([]).value.shape == (0, 0)


def test_wrong_samples_are_refused():
    keys, counts = np.array([[1], [2]], np.uint64), np.array([1, 3])
    with pytest.raises(DistributionError, match="are not the whole table of 3 patterns"):
        PatternSample(keys, counts, 0.0, 4, 3)
    with pytest.raises(DistributionError, match="uint64"):
        PatternSample(keys.astype(np.int64), counts, 0.0, 4, 2)  # type: ignore[arg-type]
    with pytest.raises(DistributionError, match="at least 1"):
        PatternSample(keys, np.array([0, 3]), 2.0, 4, 2)
    with pytest.raises(DistributionError, match="tau=-1"):
        PatternSample(keys, counts, -1.0, 4, 2)
    sample = PatternSample(keys, counts, 0.0, 4, 2)
    wide = PatternSample(np.hstack([keys, keys]), counts, 0.0, 4, 2)
    with pytest.raises(IncompatibleCountsError, match="keys of 1 and 2 words"):
        similarities([sample], [wide])
    with pytest.raises(IncompatibleCountsError, match=r"'cosine'.*'weighted_jaccard', 'jaccard'"):
        similarity_matrix([sample], "cosine")  # type: ignore[arg-type]
    assert repr(sample) == "PatternSample(all 2 patterns, num_evaluations=4)"

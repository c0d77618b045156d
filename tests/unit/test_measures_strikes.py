"""Strikes: the rule against a reference that anybody can check, and made-up series with known ones."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from reluscope.errors import DistributionError
from reluscope.measures import StrikeRule, find_strikes
from reluscope.measures.strikes import robust_z

QUIET = StrikeRule()


def reference(steps, appeared, vanished, rule=QUIET):
    """The definition, one number at a time: [(step, kind, sites, z, number of sites)], and how many judged."""
    found, judged = [], 0
    for row in range(len(steps)):
        first = row  # of the stretch of consecutive steps that ends here
        while first > 0 and steps[first] == steps[first - 1] + 1 and known(appeared, vanished, first):
            first -= 1
        first += 1
        before = range(max(first, row - rule.window), row)
        if first > row or len(before) < rule.min_history:
            continue
        judged += 1
        for kind, change in (("appeared", appeared), ("vanished", vanished)):
            scores = {}
            for site in range(len(change[row])):
                past = [math.log1p(change[r][site]) for r in before]
                if any(math.isnan(x) for x in [*past, change[row][site]]):
                    continue
                median = statistics.median(past)
                mad = statistics.median([abs(x - median) for x in past])
                scores[site] = (math.log1p(change[row][site]) - median) / (1.4826 * max(mad, rule.mad_floor))
            jumped = {site: z for site, z in scores.items() if z > rule.z}
            if scores and len(jumped) >= rule.share * len(scores):
                found.append((steps[row], kind, tuple(jumped), tuple(jumped.values()), len(scores)))
    return found, judged


def known(appeared, vanished, row):
    return not (np.isnan(appeared[row]).all() or np.isnan(vanished[row]).all())


def series(num_steps=400, num_sites=6, seed=0, level=200.0, noise=0.15):
    rng = np.random.default_rng(seed)
    drawn = level * np.exp(noise * rng.standard_normal((2, num_steps, num_sites)))
    drawn[:, 0] = np.nan  # the first measurement has none before it
    return np.arange(num_steps), np.round(drawn[0]), np.round(drawn[1])


def plain(search):
    return [(one.step, one.kind, one.sites) for one in search.strikes]


def test_the_same_as_the_reference() -> None:
    steps, appeared, vanished = series(num_steps=260)
    steps = np.concatenate([steps[:180], steps[180:] * 2 - 170, [900]])  # gaps from 180 on
    steps[182:] -= np.arange(len(steps) - 182)  # and consecutive steps again, but not from the start
    appeared, vanished = (np.vstack([x, x[-1:]]) for x in (appeared, vanished))
    appeared[150, 1:5], vanished[151] = 5000, 4000
    appeared[40:60, 2] = np.nan
    vanished[120] = np.nan  # nothing known: a new history begins
    appeared[230] = 9000
    rule = StrikeRule(window=50, min_history=20)
    for used in (rule, StrikeRule(), StrikeRule(window=30, min_history=5, z=2.0, share=0.3)):
        search = find_strikes(steps, appeared, vanished, rule=used)
        expected, judged = reference(steps.tolist(), appeared, vanished, used)
        assert search.num_judged == judged
        assert search.num_judged + search.num_unjudged == len(steps)
        assert plain(search) == [one[:3] for one in expected]
        assert [one.num_sites for one in search.strikes] == [one[4] for one in expected]
        for ours, theirs in zip(search.strikes, expected, strict=True):
            np.testing.assert_allclose(ours.z, theirs[3], rtol=1e-9)  # log1p and medians of the same numbers
        assert expected


def test_noise_alone_has_no_strike() -> None:
    for seed in range(5):
        search = find_strikes(*series(seed=seed))
        assert search.strikes == ()
        assert search.num_judged == 400 - 1 - 20


def test_half_of_the_sites_are_enough_and_less_is_not() -> None:
    steps, appeared, vanished = series()
    appeared[300, :3] *= 20
    assert plain(find_strikes(steps, appeared, vanished)) == [(300, "appeared", (0, 1, 2))]
    appeared[300, 2] /= 20
    assert find_strikes(steps, appeared, vanished).strikes == ()


def test_appeared_then_vanished_are_two_strikes() -> None:
    steps, appeared, vanished = series()
    appeared[200], vanished[201] = 3000, 2900
    found = find_strikes(steps, appeared, vanished)
    assert plain(found) == [(200, "appeared", tuple(range(6))), (201, "vanished", tuple(range(6)))]
    assert min(found.strikes[0].z) > 5


def test_the_current_measurement_is_not_part_of_what_is_usual() -> None:
    rule = StrikeRule(window=2, min_history=2)
    z = robust_z([[0.0], [1.0], [100.0], [100.0]], rule=rule)
    assert np.isnan(z[:2]).all()
    assert z[2, 0] == pytest.approx((100 - 0.5) / (1.4826 * 0.5))
    assert z[3, 0] == pytest.approx((100 - 50.5) / (1.4826 * 49.5))


def test_the_floor_keeps_small_changes_at_still_sites_from_being_strikes() -> None:
    still = np.zeros((60, 4))
    still[50] = 1
    assert find_strikes(np.arange(60), still, still).strikes == ()
    still[50] = 2
    assert len(find_strikes(np.arange(60), still, still).strikes) == 2
    doubled = np.full((60, 4), 1000.0)
    doubled[50] = 2000
    assert find_strikes(np.arange(60), doubled, doubled * 0).strikes == ()
    doubled[50] = 2150
    assert len(find_strikes(np.arange(60), doubled, doubled * 0).strikes) == 1


def test_only_consecutive_steps_are_judged() -> None:
    steps, appeared, vanished = series()
    appeared[300] = 9000
    every_tenth = find_strikes(steps * 10, appeared, vanished)
    assert (every_tenth.strikes, every_tenth.num_judged, every_tenth.num_unjudged) == ((), 0, 400)
    gap = np.where(steps >= 290, steps + 5, steps)  # ten measurements after the gap: too few
    assert find_strikes(gap, appeared, vanished).strikes == ()
    gap = np.where(steps >= 275, steps + 5, steps)
    assert [one.step for one in find_strikes(gap, appeared, vanished).strikes] == [305]


def test_a_falling_trend_is_no_strike_and_an_empty_run_is_none_either() -> None:
    falling = 1e6 * np.exp(-np.arange(300) / 20)[:, None] * np.ones((1, 5))
    assert find_strikes(np.arange(300), falling, falling).strikes == ()
    nothing = find_strikes(np.empty(0), np.empty((0, 3)), np.empty((0, 3)))
    assert (nothing.strikes, nothing.num_judged) == ((), 0)


def test_wrong_input_is_told_in_words() -> None:
    with pytest.raises(DistributionError, match=r"steps of shape \(3,\), appeared \(2, 4\)"):
        find_strikes([0, 1, 2], np.zeros((2, 4)), np.zeros((2, 4)))
    with pytest.raises(DistributionError, match="do not increase"):
        find_strikes([0, 2, 2], np.zeros((3, 1)), np.zeros((3, 1)))
    with pytest.raises(DistributionError, match="negative"):
        find_strikes([0, 1], np.zeros((2, 1)), -np.ones((2, 1)))
    with pytest.raises(DistributionError, match="2 <= min_history <= window"):
        StrikeRule(window=10)
    with pytest.raises(DistributionError, match="share"):
        StrikeRule(share=0.0)

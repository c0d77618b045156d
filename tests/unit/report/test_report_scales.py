"""Scales: common ranges, maps and ticks."""

from __future__ import annotations

import numpy as np
import pytest

from reluscope.measures import LAYER_MEASURES
from reluscope.report.scales import fit_scale, nice_ticks, number


def fitted(name: str, *values: list[float]):
    return fit_scale(LAYER_MEASURES[name], [np.array(one, dtype=np.float64) for one in values])


def test_one_range_over_all_runs() -> None:
    scale = fitted("relative_entropy", [0.2, np.nan], [0.5, 0.9])
    assert (scale.kind, scale.low, scale.high) == ("linear", 0.2, 0.9)
    assert fitted("relative_entropy", [np.nan], []) is None


def test_changes_are_centred_on_zero() -> None:
    scale = fitted("net_change", [-10, 0], [99_999])
    assert scale.kind == "symlog"
    assert scale.low == -scale.high == pytest.approx(-5)
    assert scale.position([0.0]) == [0.0]
    assert scale.position([-3.0]) == -scale.position([3.0])
    assert len(scale.colors) % 2 == 1  # the middle stop is at zero
    assert (0.0, "0") in scale.ticks
    assert fitted("relative_change", [0.0, 0.0]).high > 0


def test_counts_may_be_zero_on_a_logarithmic_scale() -> None:
    scale = fitted("appeared", [0, 999_999])
    assert (scale.kind, scale.low, scale.high) == ("log1p", 0.0, 6.0)
    assert [text for _, text in scale.ticks][:2] == ["0", "1"]
    frequency = fitted("max_frequency", [1e-4, 0.1])
    assert frequency.kind == "log"
    np.testing.assert_allclose(frequency.position([1e-4, 0.1]), [-4, -1])
    assert fitted("max_frequency", [0.0, 0.1]).kind == "linear"


def test_what_hardly_moves_is_not_stretched() -> None:
    scale = fitted("coverage", [0.999, 1.0])
    assert scale.high == 1.0
    assert scale.high - scale.low == pytest.approx(0.05)
    low = fitted("nan_fraction", [0.0, 0.0])
    assert (low.low, low.high) == (0.0, 0.05)


@pytest.mark.parametrize("name", list(LAYER_MEASURES))
@pytest.mark.parametrize("values", [[0.5, 1.0], [1.0], [0.0], [0.0, 1.0], [1e-6, 1.0], [3.0, 2e7]])
def test_every_scale_can_be_drawn(name: str, values: list[float]) -> None:
    scale = fitted(name, values)
    assert scale.low < scale.high
    positions = scale.position(values)
    assert (positions >= scale.low - 1e-9).all()
    assert (positions <= scale.high + 1e-9).all()
    assert np.isnan(scale.position([np.nan])).all()
    ticks = [position for position, _ in scale.ticks]
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    assert len({text for _, text in scale.ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("values", "texts"),
    [([61.0, 139.0], ["80", "100", "120"]), ([1000.0], ["800", "1,000", "1,200", "1,400"])],
)
def test_counts_within_less_than_a_decade_have_round_ticks(values: list[float], texts: list[str]) -> None:
    assert [text for _, text in fitted("total", values).ticks] == texts


def test_numbers_and_ticks_as_people_write_them() -> None:
    assert [number(x) for x in (0.0, 12.0, 1e6, 0.12345678, 12345.6, 4.2e-6)] == [
        *("0", "12", "1,000,000", "0.1235", "12,346", "4.2e-06")
    ]
    assert nice_ticks(0.0, 3000.0) == [0.0, 1000.0, 2000.0, 3000.0]
    assert nice_ticks(0.13, 0.41) == [0.2, 0.3, 0.4]
    assert nice_ticks(5.0, 5.0) == [5.0]

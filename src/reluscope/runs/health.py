"""What stands out in a run, in words that name the layers: dead or saturated sites, too small a probe, dips, strikes.

Everything follows from the recorded rows alone. The thresholds are constants of this file;
docs/reading-a-report.md says what each finding means and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reluscope.errors import ReluscopeError
from reluscope.runs.strikes import RunStrike

if TYPE_CHECKING:
    from reluscope.runs.reader import Run

__all__ = ["COVERAGE_NEEDED", "Finding", "findings", "name_sites", "samples_needed"]

COVERAGE_NEEDED = 0.5
"""Coverage below which the entropy is the sample's rather than the layer's."""

_CONSTANT_ENTROPY = 0.01  # of the largest possible: less is one pattern and a few strays
_NEARLY_CONSTANT = 0.9  # share of the evaluations that have the same pattern
_DIP = 0.1  # of relative entropy
_REGAINED = 0.5  # share of a dip that counts as recovered
_TOO_MANY = 20.0  # times the probe: beyond, the extrapolation is not to be trusted
_MOST_FOLDS = 100.0  # exp of more overflows
_MOST_RANGES = 3
_MOST_STRIKES = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that stands out.

    Attributes:
        kind: "nan", "constant", "nearly_constant", "coverage", "entropy_dip" or "strike".
        title: the kind in a few words, for a heading.
        text: what was found and what it means, naming the sites.
        sites: all sites that it concerns, in the order of the forward pass.
        steps: the steps that it concerns, as far as it concerns single ones.
    """

    kind: str
    title: str
    text: str
    sites: tuple[str, ...]
    steps: tuple[int, ...] = ()


def findings(run: Run) -> list[Finding]:
    """Everything that stands out, the gravest first; nothing for a run without measurements."""
    if not run.steps:
        return []
    seen = _Seen(run)
    found = [_nan(seen), *_constant(seen), _coverage(seen), _dip(seen), _strikes(seen)]
    return [one for one in found if one is not None]


def name_sites(names: Sequence[str], among: Sequence[str]) -> str:
    """Sites in words: neighbours as a range, "all 19 sites" where they are all there are; with their numbers from 0.

    Args:
        names: the sites to name.
        among: all sites of the run, in the order of the forward pass.

    >>> name_sites(["b", "c", "d", "f"], ["a", "b", "c", "d", "e", "f"])
    '"b" to "d" and "f" (4 of 6 sites: 1-3, 5)'
    >>> name_sites(["b"], ["a", "b", "c"])
    '"b" (site 1)'
    """
    places = sorted({among.index(name) for name in names})
    if len(places) == len(among) > 2:
        return f"all {len(among)} sites"
    ranges: list[list[int]] = []
    for place in places:
        if ranges and place == ranges[-1][-1] + 1:
            ranges[-1].append(place)
        else:
            ranges.append([place])
    words = [word for places in ranges for word in _range(places, among)]
    shown = words[:_MOST_RANGES]
    if len(words) > _MOST_RANGES:
        listed = ", ".join(shown) + " and others"
    else:
        listed = ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]
    if len(places) == 1:
        return listed if len(among) == 1 else f"{listed} (site {places[0]})"
    if len(places) == len(among):
        return f"{listed} ({len(places)} of {len(among)} sites)"
    numbers = ", ".join(str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in ranges)
    return f"{listed} ({len(places)} of {len(among)} sites: {numbers})"


def _range(places: Sequence[int], among: Sequence[str]) -> list[str]:
    quoted = [f'"{among[place]}"' for place in places]
    return quoted if len(quoted) < 3 else [f"{quoted[0]} to {quoted[-1]}"]


def samples_needed(total: float, coverage: float, num_evaluations: float, num_samples: float) -> float:
    """Roughly how many samples bring the coverage C to 0.5; more often too many than too few.

    Good-Turing: the next evaluation shows a new pattern with probability 1 - C, so a = N (1 - C) / total is the
    local exponent of total ~ N^a, and C grows by (1 - a)(1 - C) each time N grows by a factor of e. That rate
    is taken on to 0.5. On ResNet-20 with CIFAR-10 it gave 1 to 2 times the true number where that was
    up to 20 times the probe, and 3 times beyond.

    Args:
        total: distinct patterns.
        coverage: C, under 0.5.
        num_evaluations: N.
        num_samples: samples of the probe.

    Returns:
        Samples, at least `num_samples`; infinite where nearly every pattern was seen once.

    >>> round(samples_needed(total=1000, coverage=0.25, num_evaluations=1000, num_samples=100))
    379
    """
    exponent = num_evaluations * (1.0 - coverage) / total if total else 1.0
    rate = (1.0 - exponent) * (1.0 - coverage)
    folds = max(0.0, COVERAGE_NEEDED - coverage) / rate if rate > 0.0 else math.inf
    return num_samples * math.exp(folds) if folds < _MOST_FOLDS else math.inf


class _Seen:
    """The rows of a run as arrays (step, site), read once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dataset = run.dataset.transpose("step", "site", ...)
        self.sites = [str(name) for name in self.dataset["site"].to_numpy()]
        self.steps = [int(step) for step in run.steps]

    def values(self, measure: str) -> npt.NDArray[np.float64] | None:
        if measure not in self.dataset:
            return None
        return self.dataset[measure].to_numpy().astype(np.float64)

    def named(self, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(self.sites[index] for index in np.flatnonzero(chosen))

    def words(self, chosen: npt.NDArray[np.bool_]) -> str:
        return name_sites(self.named(chosen), self.sites)


def _nan(seen: _Seen) -> Finding | None:
    fraction = seen.values("nan_fraction")
    if fraction is None or not (fraction > 0).any():
        return None
    sites = np.asarray((fraction > 0).any(axis=0))
    first = seen.steps[int(np.argmax((fraction > 0).any(axis=1)))]
    return Finding(
        kind="nan",
        title="NaN",
        text=f"NaN among the pre-activations of {seen.words(sites)}, first at step {first:,}.",
        sites=seen.named(sites),
        steps=(first,),
    )


def _constant(seen: _Seen) -> list[Finding]:
    """Sites whose pattern says nothing, or hardly anything, at the last step."""
    entropy, frequency = seen.values("relative_entropy"), seen.values("max_frequency")
    if entropy is None or frequency is None:
        return []
    constant = (entropy < _CONSTANT_ENTROPY) | (frequency == 1.0)
    nearly = (frequency >= _NEARLY_CONSTANT) & ~constant
    found = []
    if constant[-1].any():
        text = (
            f"{seen.words(constant[-1])} used one pattern for practically every evaluation at the last step"
            f"{_since(seen, constant)}: the layer is linear there, dead or saturated. {_sides(seen, constant[-1])}"
        )
        found.append(_at_last("constant", "Dead or saturated", text.strip(), seen, constant[-1]))
    if nearly[-1].any():
        shares = frequency[-1][nearly[-1]]
        text = (
            f"{seen.words(nearly[-1])} used one pattern for {_span(shares, '.0%')} of the evaluations at the last "
            f"step: nearly dead or saturated. {_sides(seen, nearly[-1])}"
        )
        found.append(_at_last("nearly_constant", "Nearly dead or saturated", text.strip(), seen, nearly[-1]))
    return found


def _at_last(kind: str, title: str, text: str, seen: _Seen, sites: npt.NDArray[np.bool_]) -> Finding:
    return Finding(kind=kind, title=title, text=text, sites=seen.named(sites), steps=(seen.steps[-1],))


def _since(seen: _Seen, held: npt.NDArray[np.bool_]) -> str:
    """From which step on the sites that hold now have held without a break, the latest of them."""
    now = held[:, held[-1]]
    broken = np.where(now.all(axis=0), -1, len(now) - 1 - np.argmax(~now[::-1], axis=0))
    first = int(broken.max()) + 1
    return f", and at every measurement since step {seen.steps[first]:,}" if first < len(now) - 1 else ""


def _sides(seen: _Seen, sites: npt.NDArray[np.bool_]) -> str:
    """Whether units are off or on there, where the run keeps a table that says so."""
    off, on = np.zeros(len(seen.sites), dtype=bool), np.zeros(len(seen.sites), dtype=bool)
    for index in np.flatnonzero(sites):
        share = _share_on(seen, seen.sites[index])
        off[index], on[index] = share == 0.0, share == 1.0
    words = [f"All units are off at {seen.words(off)}."] if off.any() else []
    words += [f"All units are on at {seen.words(on)}."] if on.any() else []
    return " ".join(words)


def _share_on(seen: _Seen, site: str) -> float | None:
    """Share of the bits that are on in the most frequent pattern of the last state; None where not kept."""
    table = _last_table(seen, site)
    if table is None:
        return None
    keys, counts, meta = table
    width = int(meta.get("width", 0))
    if not len(counts) or not 0 < width <= 64 * keys.shape[1]:  # wider: a fingerprint stands for the pattern
        return None
    top = keys[int(np.argmax(counts))]
    return sum(int(word).bit_count() for word in top) / width


def _last_table(seen: _Seen, site: str) -> Any:
    last = seen.steps[-1]
    for kind, step in (("final", None), ("all", last), ("init", None)):
        try:
            table = seen.run.table(kind, site, step)
        except ReluscopeError:  # not kept, or damaged, which the run's own warnings name
            continue
        if table[2]["step"] == last:
            return table
    return None


def _coverage(seen: _Seen) -> Finding | None:
    """Sites whose numbers are the sample's, and how large a probe would have to be."""
    coverage = seen.values("coverage")
    if coverage is None:
        return None
    low = coverage[-1] < COVERAGE_NEEDED
    if not low.any():
        return None
    text = (
        f"coverage is below {COVERAGE_NEEDED:g} at the last step for {seen.words(low)}, at "
        f"{_span(coverage[-1][low], '.2g')}: most patterns there were seen once, so the entropy is the sample's rather "
        "than the layer's, and similarities are near 0 by construction."
    )
    return _at_last("coverage", "Coverage too low", f"{text} {_larger_probe(seen, low)}".strip(), seen, low)


def _larger_probe(seen: _Seen, low: npt.NDArray[np.bool_]) -> str:
    probe = seen.run.info.get("probe")
    num_samples = probe.get("num_samples") if isinstance(probe, dict) else None
    columns = [seen.values(name) for name in ("total", "coverage", "num_evaluations")]
    if not isinstance(num_samples, int) or any(column is None for column in columns):
        return ""
    rows = np.stack([column[-1][low] for column in columns if column is not None], axis=1)
    needed = np.array([samples_needed(t, c, n, num_samples) for t, c, n in rows])
    within = needed <= _TOO_MANY * num_samples
    start = f"The probe of {num_samples:,} samples is too small for them"
    beyond = f"more than {_TOO_MANY:g} times as many"
    if not within.any():
        return f"{start}: {beyond} would be needed to reach {COVERAGE_NEEDED:g}."
    reach = _about(needed[within])
    if within.all():
        return f"{start}: {reach} would reach {COVERAGE_NEEDED:g}."
    far = low.copy()
    far[np.flatnonzero(low)[within]] = False
    return f"{start}: {reach} would reach {COVERAGE_NEEDED:g}, but {beyond} at {seen.words(far)}."


def _about(samples: npt.NDArray[np.float64]) -> str:
    """A number of samples to two digits, or their range over the sites."""
    least, most = (int(float(f"{value:.2g}")) for value in (samples.min(), samples.max()))
    return f"roughly {least:,}" if least == most else f"roughly {least:,} to {most:,}"


def _dip(seen: _Seen) -> Finding | None:
    """A fall of the entropy after the start, and what became of it."""
    entropy = seen.values("relative_entropy")
    if entropy is None or len(entropy) < 3:
        return None
    lowest = np.where(np.isfinite(entropy), entropy, np.inf).min(axis=0)
    depth = entropy[0] - lowest
    dipped = (depth > _DIP) & ~(entropy[-1] < _CONSTANT_ENTROPY)  # dead at the end: told already
    if not dipped.any():
        return None
    deepest = int(np.argmax(np.where(dipped, depth, -np.inf)))
    step = seen.steps[int(np.nanargmin(entropy[:, deepest]))]
    back = dipped & (entropy[-1] - lowest >= _REGAINED * depth)
    furthest = f", furthest at {name_sites([seen.sites[deepest]], seen.sites)}" if dipped.sum() > 1 else ""
    text = (
        f"relative entropy fell by more than {_DIP:g} below its first value at {seen.words(dipped)}{furthest}, by "
        f"{depth[deepest]:.2f} at step {step:,}; {_recovery(seen, dipped, back)}."
    )
    return Finding(
        kind="entropy_dip", title="Entropy dip", text=text, sites=seen.named(dipped), steps=(step,)
    )


def _recovery(seen: _Seen, dipped: npt.NDArray[np.bool_], back: npt.NDArray[np.bool_]) -> str:
    if not back.any():
        return "none of them has regained half of it by the last step"
    if (back == dipped).all():
        return "at least half of it was regained by the last step" + (" at each" if back.sum() > 1 else "")
    return (
        f"by the last step {back.sum()} of these {dipped.sum()} have regained at least half of it, not so "
        f"{seen.words(dipped & ~back)}"
    )


def _strikes(seen: _Seen) -> Finding | None:
    strikes = seen.run.strikes.strikes
    if not strikes:
        return None
    most = sorted(strikes, key=lambda one: -one.largest_z)[:_MOST_STRIKES]
    listed = "; ".join(_strike_in_words(one) for one in sorted(most, key=lambda one: one.step))
    rest = len(strikes) - len(most)
    text = (
        f"far more patterns than usual appeared or vanished in at least half of the sites at once, at {listed}"
        + (f"; and at {rest} further step{'s' if rest > 1 else ''}" if rest else "")
        + ". The batch of the update just before may be a bad one."
    )
    concerned = {name for one in strikes for name in (*one.appeared, *one.vanished)}
    return Finding(
        kind="strike",
        title="Strikes" if len(strikes) > 1 else "Strike",
        text=text,
        sites=tuple(name for name in seen.sites if name in concerned),
        steps=tuple(one.step for one in strikes),
    )


def _strike_in_words(strike: RunStrike) -> str:
    kinds = [
        f"{kind} at {len(sites)} of {strike.num_sites} sites"
        for kind, sites in (("appeared", strike.appeared), ("vanished", strike.vanished))
        if sites
    ]
    return f"step {strike.step:,} ({', '.join(kinds)})"


def _span(values: npt.NDArray[np.float64], digits: str) -> str:
    """One number, or the least and the largest."""
    least, most = (format(float(value), digits) for value in (values.min(), values.max()))
    return least if least == most else f"{least} to {most}"

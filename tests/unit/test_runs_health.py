"""Health in words: each finding on a made-up run that has it, and silence on one that has nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest

from reluscope.runs import RunWriter, open_run
from reluscope.runs.health import findings, name_sites, samples_needed
from reluscope.runs.strikes import strikes_of

SITES = [f"layer{stage}.{block}.relu" for stage in (1, 2, 3) for block in range(2)]
HEALTHY = {
    "total": 500,
    "max_frequency": 0.1,
    "relative_entropy": 0.8,
    "coverage": 0.95,
    "nan_fraction": 0.0,
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch) -> None:
    """These runs need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def record(tmp_path):
    """A closed run: `values[measure](step, site index)` replaces what a healthy run has."""

    def make(steps=range(5), info=None, tables=None, scalars=(), **values):
        writer = RunWriter.create(tmp_path / "run", {"probe": {"num_samples": 1000}} | (info or {}))
        for step in steps:
            rows = []
            for index, site in enumerate(SITES):
                row = HEALTHY | {name: value(step, index) for name, value in values.items()}
                rows.append(
                    row
                    | {"site": site, "site_index": index, "num_evaluations": 64_000, "width": 8}
                    | {"num_units": 8, "exact": True, "parameter_hash": str(step)}
                )
            writer.commit(step, rows, tables=tables if step == max(steps) else None)
        writer.add_scalars(scalars)
        writer.close()
        return open_run(tmp_path / "run")

    return make


def only(found):
    assert len(found) == 1
    return found[0]


def test_a_healthy_run_has_no_finding(record) -> None:
    run = record()
    assert findings(run) == []
    assert run.warnings == []


def test_a_run_without_measurements(tmp_path) -> None:
    RunWriter.create(tmp_path / "run", {}).close()
    run = open_run(tmp_path / "run")
    assert findings(run) == []
    assert strikes_of(run).strikes == ()


def test_nan(record) -> None:
    found = only(findings(record(nan_fraction=lambda step, site: 0.5 if step >= 2 and site > 0 else 0.0)))
    assert found.kind == "nan"
    assert found.text == (
        'NaN among the pre-activations of "layer1.1.relu" to "layer3.1.relu" (5 of 6 sites: 1-5), first at step 2.'
    )
    assert (found.sites, found.steps) == (tuple(SITES[1:]), (2,))


def test_dead_and_saturated_sites_with_their_tables(record) -> None:
    dead = (np.array([[0], [3]], dtype=np.uint64), np.array([63_990, 10], dtype=np.int64))
    on = (np.array([[255]], dtype=np.uint64), np.array([64_000], dtype=np.int64))
    meta = {"width": 8, "num_evaluations": 64_000}
    tables = {("final", SITES[4]): (*dead, meta), ("final", SITES[5]): (*on, meta)}

    def constant(step, site):
        return 0.001 if site >= 4 and step >= (2 if site == 4 else 1) else 0.8

    found = only(findings(record(tables=tables, relative_entropy=constant)))
    assert found.kind == "constant"
    assert found.text == (
        '"layer3.0.relu" and "layer3.1.relu" (2 of 6 sites: 4-5) used one pattern for practically every evaluation at '
        "the last step, and at every measurement since step 2: the layer is linear there, dead or saturated. "
        'All units are off at "layer3.0.relu" (site 4). All units are on at "layer3.1.relu" (site 5).'
    )
    assert found.steps == (4,)


def test_nearly_dead_sites_and_what_no_table_says(record) -> None:
    found = only(findings(record(max_frequency=lambda step, site: 0.9 + site / 1000 if site < 3 else 0.2)))
    assert found.kind == "nearly_constant"
    assert found.text == (
        '"layer1.0.relu" to "layer2.0.relu" (3 of 6 sites: 0-2) used one pattern for 90% of the evaluations at the last '
        "step: nearly dead or saturated."
    )


def test_low_coverage_and_how_large_a_probe(record) -> None:
    def total(step, site):
        return 40_000 if site == 3 else 60_000

    def coverage(step, site):
        return {3: 0.45, 4: 0.1, 5: 0.08}.get(site, 0.9)

    found = only(findings(record(total=total, coverage=coverage)))
    assert found.kind == "coverage"
    assert found.text == (
        'coverage is below 0.5 at the last step for "layer2.1.relu" to "layer3.1.relu" (3 of 6 sites: 3-5), at 0.08 to 0.45: '
        "most patterns there were seen once, so the entropy is the sample's rather than the layer's, and "
        "similarities are near 0 by construction. The probe of 1,000 samples is too small for them: roughly 2,100 "
        'would reach 0.5, but more than 20 times as many at "layer3.0.relu" and "layer3.1.relu" (2 of 6 sites: 4-5).'
    )


def test_samples_needed_against_a_law_with_known_growth() -> None:
    """Coverage that grows by 0.05 with each e-fold: total follows from d total / dN = 1 - coverage."""
    evaluations = np.arange(1, 2_000_001, dtype=np.float64)
    coverage = np.clip(0.05 * np.log(evaluations) - 0.2, 0.0, 0.5)  # 0.5 at exp(14) = 1.2 M
    total = np.cumsum(1.0 - coverage)
    at = 300_000
    needed = samples_needed(total[at], coverage[at], evaluations[at], evaluations[at])
    assert needed == pytest.approx(np.exp(14), rel=0.25)  # a rate taken on is no law
    assert samples_needed(1000, 0.0, 1000, 10) == np.inf  # all distinct
    assert samples_needed(1000, 0.499999, 1000, 10) == pytest.approx(10, rel=1e-3)
    assert samples_needed(0, 0.0, 0, 10) == np.inf


def test_an_entropy_dip_and_what_became_of_it(record) -> None:
    def entropy(step, site):
        if site in (2, 3):  # falls, and one comes back
            return {0: 0.8, 1: 0.5 if site == 2 else 0.6, 4: 0.75 if site == 2 else 0.62}.get(step, 0.65)
        return 0.8

    found = only(findings(record(relative_entropy=entropy)))
    assert found.kind == "entropy_dip"
    assert found.text == (
        'relative entropy fell by more than 0.1 below its first value at "layer2.0.relu" and "layer2.1.relu" (2 of 6 '
        'sites: 2-3), furthest at "layer2.0.relu" (site 2), by 0.30 at step 1; by the last step 1 of these 2 have '
        'regained at least half of it, not so "layer2.1.relu" (site 3).'
    )


def test_a_dip_at_one_site_names_it_once(record) -> None:
    def entropy(step, site):
        return 0.5 if (step, site) == (1, 2) else 0.8

    found = only(findings(record(relative_entropy=entropy)))
    assert 'its first value at "layer2.0.relu" (site 2), by 0.30 at step 1' in found.text
    assert found.text.count("layer2.0.relu") == 1
    assert found.steps == (1,)


def strike_values(kind, at):
    """A change that is the same all the time, but for 400 times more at some steps of one kind."""
    return {
        name: lambda step, site, name=name: None if step == 0 else 4000 if step in at and name == kind else 10
        for name in ("appeared", "vanished")
    }


def test_strikes_with_their_batches(record) -> None:
    scalars = [{"step": step, "loss": 1.0, "batch_indices": [step, step + 7]} for step in range(60)]
    run = record(range(60), scalars=scalars, **strike_values("appeared", {40, 41, 50, 55}))
    found = strikes_of(run)
    assert [one.step for one in found.strikes] == [40, 41, 50, 55]
    assert found.strikes[0].batch_indices == (39, 46)  # the update from 39 to 40
    assert (found.strikes[0].appeared, found.strikes[0].vanished) == (tuple(SITES), ())
    assert (found.num_judged, found.num_unjudged) == (39, 21)
    one = only(findings(run))
    assert one.text == (
        "far more patterns than usual appeared or vanished in at least half of the sites at once, at step 40 "
        "(appeared at 6 of 6 sites); step 41 (appeared at 6 of 6 sites); step 50 (appeared at 6 of 6 sites); and at "
        "1 further step. The batch of the update just before may be a bad one."
    )
    assert one.steps == (40, 41, 50, 55)
    assert one.text in run.warnings


def test_strikes_without_consecutive_steps_or_batches(record) -> None:
    found = strikes_of(record(range(0, 600, 10), **strike_values("vanished", {400})))
    assert (found.strikes, found.num_judged, found.num_unjudged) == ((), 0, 60)


def test_strikes_whose_batch_was_not_logged(record) -> None:
    found = only(strikes_of(record(range(60), **strike_values("vanished", {40}))).strikes)
    assert found.batch_indices is None
    assert found.vanished == tuple(SITES)


def test_names_of_sites_are_short() -> None:
    assert name_sites(SITES, SITES) == "all 6 sites"
    assert name_sites([SITES[3], SITES[0], SITES[1], SITES[2]], SITES) == (
        '"layer1.0.relu" to "layer2.1.relu" (4 of 6 sites: 0-3)'
    )
    names = [str(index) for index in range(20)]
    assert (
        name_sites(names[::2], names)
        == '"0", "2", "4" and others (10 of 20 sites: 0, 2, 4, 6, 8, 10, 12, 14, 16, 18)'
    )
    assert name_sites(["relu"], ["relu"]) == '"relu"'

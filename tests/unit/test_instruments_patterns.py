"""The pattern instrument: options, label measures, NaN, folded samples, comparisons with earlier states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reluscope as rs
from reluscope.errors import InstrumentError, LabelsError, ProbeError
from reluscope.instruments import Instrument, check_instruments, compare_to_init, compare_to_last


class Rectify(nn.Module):
    def forward(self, x):
        return F.relu(x)


CORNERS = torch.tensor([[1.0, -1], [1, -1], [-1, 1], [1, 1]])  # three patterns, the first twice


def row_of(inputs, classes=None, model=None, **options) -> dict:
    probe = rs.Probe(inputs, classes)
    return rs.measure(model or Rectify(), probe, instruments=[rs.Patterns(**options)]).rows()[0]


def test_a_row_by_hand():
    row = row_of(CORNERS)
    assert (row["site"], row["site_index"], row["num_units"], row["width"]) == ("relu", 0, 2, 2)
    assert (row["num_evaluations"], row["exact"], row["total"]) == (4, True, 3)
    assert row["entropy"] == pytest.approx(1.5)
    assert row["relative_entropy"] == pytest.approx(0.75)  # of min(2, log2 4)
    assert row["max_frequency"] == 0.5
    assert row["coverage"] == 0.5
    assert row["nan_fraction"] == 0.0
    assert "information" not in row


def test_labels_by_hand():
    """Patterns a a b c with classes 0 0 1 1: the pattern tells the class, so I = H(L) = 1 bit."""
    row = row_of(CORNERS, [5, 5, 9, 9])
    assert row["joint_entropy"] == pytest.approx(1.5)
    assert row["conditional_entropy"] == pytest.approx(0.5)  # 0 in class 5, 1 bit in class 9, half each
    assert row["information"] == pytest.approx(1.0)
    assert "information_excess" not in row
    assert "information" not in row_of(CORNERS, [5, 5, 9, 9], labels=False)


def test_labels_of_convolutional_sites_hold_at_every_position():
    images = torch.randn(12, 20, 5, 5)
    labels = torch.arange(12) % 3
    row = row_of(images, labels)
    bits = (images > 0).movedim(1, -1).flatten(0, -2).numpy()
    pairs = np.concatenate([bits, np.repeat(labels.numpy(), 25)[:, None]], axis=1)

    def entropy(table):
        share = np.unique(table, axis=0, return_counts=True)[1] / len(table)
        return -(share * np.log2(share)).sum()

    assert row["joint_entropy"] == pytest.approx(entropy(pairs), abs=1e-12)
    assert row["information"] == pytest.approx(entropy(bits) + math.log2(3) - entropy(pairs), abs=1e-10)


@pytest.mark.parametrize("width", [3, 16, 40, 64, 100, 140])
def test_permutations_change_no_other_column(width):
    torch.manual_seed(width)
    inputs, labels = torch.randn(30, width, 4, 4), torch.arange(30) % 3
    inputs[:, :, 2:] = 1.0  # so that patterns repeat
    plain, permuted = row_of(inputs, labels), row_of(inputs, labels, permutations=8)
    excess = permuted.pop("information_excess")
    assert permuted == pytest.approx(plain, nan_ok=True)
    assert excess < plain["information"] + 1e-12
    assert abs(excess) < 0.3  # the labels mean nothing here


def test_excess_sees_labels_that_mean_something():
    inputs = torch.randn(40, 3, 4, 4)
    labels = (torch.arange(40) % 2).long()
    inputs[labels == 1] = inputs[labels == 1].abs()
    assert row_of(inputs, labels, permutations=10)["information_excess"] > 0.3


def test_nan_is_counted_and_warned_about_once():
    inputs = torch.randn(10, 4)
    inputs[3, 1] = math.nan
    with pytest.warns(rs.errors.ReluscopeWarning, match=r'NaN among .* 1 of 1 sites \("relu"\)') as caught:
        snapshot = rs.measure(Rectify(), rs.Probe(inputs))
    assert len(caught) == 1
    assert snapshot.rows()[0]["nan_fraction"] == 1 / 40
    assert snapshot.patterns["relu"] == rs.count_patterns(torch.nan_to_num(inputs, nan=-1.0))


class Windows(nn.Module):
    """Folds windows into axis 0, sample-major; `odd` breaks the relation to the samples."""

    def __init__(self, odd: bool):
        super().__init__()
        self.odd = odd

    def forward(self, x):
        folded = x.reshape(-1, x.shape[-1])
        return F.relu(folded[1:] if self.odd else folded)


def test_windows_folded_into_the_batch_keep_their_labels():
    inputs, labels = torch.randn(8, 3, 6), torch.arange(8) % 2
    folded = row_of(inputs, labels, model=Windows(odd=False))
    spread = row_of(inputs, labels)  # 3-D: the units are on the last axis
    for name in ("joint_entropy", "information", "total"):
        assert folded[name] == pytest.approx(spread[name])


def test_samples_that_cannot_be_told_give_nan_and_the_reason():
    inputs, labels = torch.randn(8, 3, 6), torch.arange(8) % 2
    snapshot = rs.measure(Windows(odd=True), rs.Probe(inputs, labels))
    assert math.isnan(snapshot.rows()[0]["information"])
    assert snapshot.rows()[0]["total"] >= 1
    (result,) = snapshot.results["patterns"].values()
    assert "not a multiple of the batch" in result.reasons["information"]


@pytest.mark.parametrize("fold", [lambda x: torch.cat([x, x + 0.1]), lambda x: x.repeat(2, 1)])
def test_views_in_front_of_the_samples_give_nan_and_the_reason(fold):
    """Repeating each label would give one view's labels to the other's evaluations."""

    class Views(nn.Module):
        def forward(self, x):
            return F.relu(fold(x))

    snapshot = rs.measure(Views(), rs.Probe(torch.randn(16, 6), torch.arange(16) % 2))
    row = snapshot.rows()[0]
    assert row["num_evaluations"] == 32
    assert math.isnan(row["information"])
    assert math.isnan(row["joint_entropy"])
    assert "views" in snapshot.results["patterns"]["relu"].reasons["information"]


def test_hash_list_beside_the_exact_counts():
    inputs = torch.randn(300, 12)
    row = row_of(inputs, hashlist=64)
    assert row["hashlist_total"] <= 64 < row["total"]
    assert row["hashlist_entropy"] < row["entropy"]
    assert 0 < row["occupancy"] <= 1


def test_comparisons_by_hand():
    before = rs.count_patterns(CORNERS)  # a a b c
    after = rs.count_patterns(torch.tensor([[1.0, -1], [1, 1], [1, 1], [-1, -1]]))  # a c c d
    found = compare_to_last(before, after)
    assert (found["appeared"], found["vanished"], found["net_change"]) == (1, 1, 0)
    assert found["churn_rate"] == pytest.approx(2 / 4)
    assert found["weighted_jaccard_to_last"] == pytest.approx(2 / 6)  # min: a1 c1; max: a2 b1 c2 d1
    assert found["jaccard_to_last"] == pytest.approx(2 / 4)
    assert compare_to_init(before, after) == {
        "weighted_jaccard_to_init": found["weighted_jaccard_to_last"],
        "jaccard_to_init": found["jaccard_to_last"],
    }
    assert compare_to_init(before, before)["weighted_jaccard_to_init"] == 1.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": ("first",)}, r"asks for 'first'; allowed are 'init', 'final', 'all'"),
        ({"permutations": -1}, "permutations=-1 is not a whole number of at least 0"),
        ({"permutations": True}, "permutations=True is not a whole number"),
        ({"labels": 1}, "labels=1 must be True or False"),
        ({"hashlist": 0}, "hashlist=0 is not a whole number of at least 1"),
        ({"permutations": 3, "labels": False}, "set labels=True or permutations=0"),
    ],
)
def test_options_that_cannot_be(options, text):
    with pytest.raises(InstrumentError, match=text):
        rs.Patterns(**options)


def test_instruments_are_checked_against_the_probe():
    probe = rs.Probe(CORNERS)
    with pytest.raises(LabelsError, match="the probe has none"):
        check_instruments([rs.Patterns(permutations=2)], probe)
    with pytest.raises(InstrumentError, match="each kind can be used once"):
        check_instruments([rs.Patterns(), rs.Patterns()], probe)
    with pytest.raises(InstrumentError, match="no instruments"):
        check_instruments([], probe)
    for one in (rs.Patterns(), 3):
        with pytest.raises(InstrumentError, match=r"is no list; write instruments=\[rs.Patterns\(\)\]"):
            check_instruments(one, probe)
    with pytest.raises(InstrumentError, match="is not an instrument; allowed are instances"):
        check_instruments([rs.Patterns], probe)
    with pytest.raises(ProbeError, match=r"the probe is a Tensor; wrap the inputs: rs\.Probe"):
        check_instruments(None, CORNERS)
    assert check_instruments(None, probe) == (rs.Patterns(),)
    assert isinstance(rs.Patterns(), Instrument)


def test_numbers_of_numpy_are_numbers():
    options = rs.Patterns(permutations=np.int64(3), hashlist=np.int32(8)).as_dict()
    assert (options["permutations"], options["hashlist"]) == (3, 8)
    assert type(options["permutations"]) is int


def test_a_snapshot_fits_on_a_line():
    text = repr(rs.measure(Rectify(), rs.Probe(torch.randn(500, 30))))
    assert text.startswith("Snapshot(1 sites: relu; 0 calls not observed; patterns; ")
    assert len(text) < 100


def test_a_snapshot_without_patterns_says_so():
    snapshot = rs.measure(Rectify(), rs.Probe(CORNERS))
    bare = rs.Snapshot(sites=snapshot.sites, unobserved=(), results={}, seconds=0.0)
    with pytest.raises(InstrumentError, match="holds no patterns"):
        bare.patterns  # noqa: B018


def test_the_table_has_one_row_per_site_in_forward_order():
    model = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU6())
    table = rs.measure(model, rs.Probe(CORNERS, [0, 1, 0, 1])).to_dataframe()
    assert table.index.tolist() == ["1", "3"]
    assert table["width"].tolist() == [5, 6]
    assert set(table.columns) <= {"site_index", "num_units", "width", "num_evaluations", "exact"} | set(
        rs.measures.LAYER_MEASURES
    )

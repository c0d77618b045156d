"""Sentences: facts, empty states, labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reluscope.measures import LAYER_MEASURES
from reluscope.report import text

ENTROPY, CHURN = LAYER_MEASURES["entropy"], LAYER_MEASURES["churn_rate"]


def test_facts_of_a_run(make_view) -> None:
    assert text.facts(make_view()) == {
        "Model": "ResNet, 272,474 parameters",
        "Probe": "500 samples of 1 x 28 x 28, in batches of 100, 10 classes",
        "Measured in": "eval mode, batch norm on the probe batch's statistics",
        "Sites": "5 activation sites",
        "Measurements": "6, steps 0 to 15",
        "When": "2026-11-21 08:00 to 2026-11-21 08:05 UTC",
        "Cost": "0.25 s a measurement (median)",
        "End of training": "loss 0.3",
        "Environment": "reluscope 0.1.0, torch 2.13.0, cpu, 2 threads",
    }


def test_facts_of_a_training_of_the_lab(make_view) -> None:
    training = {
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "training": {"epochs": None, "steps": 3000, "batch_size": 64, "seed": 0},
        "data": {"name": "cifar10"},
    }
    facts = text.facts(make_view(info={"training": training, "held_out_accuracy": 0.875}))
    assert facts["Training"] == (
        "sgd, lr 0.1, momentum 0.9, constant schedule, 3,000 steps, batches of 64, seed 0, cifar10"
    )
    assert facts["End of training"] == "loss 0.3, 87.5% of the images kept back right"


def test_facts_that_are_not_known_are_left_out(make_view) -> None:
    nothing = {"times": (), "seconds": np.empty(0), "scalars": pd.DataFrame({"step": []})}
    assert text.facts(make_view(info={}, **nothing)) == {
        "Sites": "5 activation sites",
        "Measurements": "6, steps 0 to 15",
    }


def test_why_there_is_no_picture(make_view) -> None:
    view = make_view()
    assert text.nothing_to_draw(view, ENTROPY) is None
    nan = np.full((6, 5), np.nan)
    assert "all values are NaN" in text.nothing_to_draw(make_view(values={"entropy": nan}), ENTROPY)
    assert "probe with labels" in text.nothing_to_draw(make_view(values={}), LAYER_MEASURES["information"])
    assert "permutations=20" in text.nothing_to_draw(view, LAYER_MEASURES["information_excess"])
    assert "hashlist=" in text.nothing_to_draw(view, LAYER_MEASURES["occupancy"])
    assert "Only one measurement" in text.nothing_to_draw(make_view(num_steps=1), CHURN)
    empty = make_view(steps=np.empty(0, np.int64), values={})
    assert text.nothing_to_draw(empty, ENTROPY) == "Nothing has been measured in this run yet."


def test_notes_say_what_to_know_first(make_view) -> None:
    view = make_view(state="recording", warnings=("coverage is low",))
    notes = text.notes(view, 4)
    assert "still being recorded" in notes[0]
    assert "draws 4 of the 6 measurements" in notes[1]
    assert notes[2] == "Coverage is low."
    assert text.notes(make_view(), 6) == []
    assert "Only one measurement (step 0)" in text.notes(make_view(num_steps=1), 1)[0]


def test_labels_tell_sites_apart() -> None:
    long = [f"encoder.transformer.layers.{i}.feed_forward.activation" for i in range(12)]
    labels = text.site_labels(long)
    assert labels[11] == "….11.…"
    assert len(set(labels)) == 12
    assert text.site_labels(["relu", "relu#1"]) == ["relu", "relu#1"]
    mixed = ["stem.relu", "blocks.0.a_very_long_module_name.relu", "blocks.1.a_very_long_module_name.relu"]
    assert len(set(text.site_labels(mixed))) == 3
    assert all(len(label) <= 18 for label in text.site_labels(mixed))
    assert text.shorten("a" * 40, 11) == "aaaaa…aaaaa"


def test_ticks_hold_both_ends_of_the_steps() -> None:
    assert text.step_ticks(range(100), 5)[0] == 0
    assert text.step_ticks(range(100), 5)[-1] == 99
    assert text.step_ticks([7], 5) == [0]
    assert text.step_ticks([], 5) == []


def test_bounds_in_words() -> None:
    assert text.bounds(CHURN) == "0 to 1"
    assert text.bounds(ENTROPY) == "0 to min(d, log2 N)"
    assert text.bounds(LAYER_MEASURES["entropy_corrected"]) == "at least 0"
    assert text.bounds(LAYER_MEASURES["relative_change"]) == "no lower bound, at most 1"

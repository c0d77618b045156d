"""`reluscope bench` as a user types it: tables, JSON, CSV, lists, mistakes; and its progress bar."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from reluscope.bench import BenchDisplay, Progress, promises, read_rows
from reluscope.cli import main


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELUSCOPE_DATA_DIR", raising=False)


def test_counting_ends_with_a_verdict_per_promise(capsys):
    assert main(["bench", "counting", "--quick", "--only", "keys/zipf/16", "-o", "out/counting.csv"]) == 0
    out = capsys.readouterr().out
    assert "count_keys" in out
    assert "pandas value_counts" in out
    assert "Promises, each by its worst case (--quick: means nothing)" in out
    assert "promised at least 2.00" in out
    assert "not measured, promised at least 0.70" in out
    assert "load average" in out
    assert "Every number: out/counting.csv" in out
    rows = read_rows(Path("out/counting.csv"))
    assert {row.case for row in rows} == {"zipf/16"}


def test_an_output_that_cannot_be_is_refused_before_anything_runs(capsys, monkeypatch):
    Path("file").write_text("")
    monkeypatch.setattr("reluscope.bench.run_cases", lambda *_: pytest.fail("it ran"))
    assert main(["bench", "counting", "--only", "keys/zipf/16", "-o", "file/counting.csv"]) == 2
    assert "cannot be written" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_json_is_json_and_nothing_else(capsys):
    assert main(["bench", "overhead", "--quick", "--only", "scaling", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["quick"] is True
    assert [row["work"] for row in result["rows"]] == [100_000, 300_000]
    found = {one["name"]: one for one in result["promises"]}
    assert math.isfinite(found["scaling"]["worst"]["value"])  # of quick sizes the exponent means nothing
    assert found["overhead"]["is_kept"] is None
    assert found["overhead"]["limit"] == 1.1


def test_a_missed_promise_is_no_failure(capsys, monkeypatch):
    scaling = next(one for one in promises.PROMISES if one.name == "scaling")
    monkeypatch.setattr(promises, "PROMISES", (replace(scaling, limit=-9.0),))
    assert main(["bench", "overhead", "--quick", "--only", "scaling"]) == 0
    out = capsys.readouterr().out
    assert "promised at most -9.00" in out
    assert "0 of 1" in out


def test_cases_are_listed_without_running(capsys):
    assert main(["bench", "overhead", "--model", "toynet20", "--steps", "0,50", "--list"]) == 0
    assert capsys.readouterr().out.split() == [
        "overhead/toynet20-step0",
        "overhead/toynet20-step50",
        "parts/toynet20-step0",
        "parts/toynet20-step50",
        "first-use",
        "scaling",
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["counting", "--only", "kays"], "none of the"),
        (["counting", "--num-keys", "5"], "1000 or more"),
        (["counting", "--rounds", "0"], "give 1 or more"),
        (["counting", "--widths", "16,wide"], "no whole numbers"),
        (["counting", "--networks", "resnet"], 'Closest: "resnet20"'),
        (["overhead", "--model", "vgg"], "no network of the benchmark"),
        (["overhead", "--labels", "some"], "allowed are"),
        (["overhead", "--device", "tpu"], "allowed are cpu and cuda"),
        (["overhead", "--only", "scaling", "-o", "."], "is a folder"),
    ],
)
def test_mistakes_are_told_in_words(words, text, capsys):
    assert main(["bench", *words]) == 2
    assert text in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_missing_data_is_a_failed_run(capsys):
    words = ["bench", "overhead", "--quick", "--only", "overhead/toynet20-step0", "--data-dir", "nowhere"]
    assert main(words) == 1
    assert "DataError" in capsys.readouterr().err


def test_the_bar_shows_the_case_and_how_many(capsys):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with BenchDisplay(console) as display:
        display.show(Progress("keys/zipf/16", 2, 8, 0.5))
    assert "keys/zipf/16" in stream.getvalue()
    assert "case 3 of 8" in stream.getvalue()
    assert "left" in stream.getvalue()
    quiet = io.StringIO()
    with BenchDisplay(Console(file=quiet, force_terminal=True), quiet=True) as display:
        display.show(Progress("keys/zipf/16", 2, 8, 0.5))
    assert quiet.getvalue() == ""

"""`reluscope show` tells what stands out."""

from __future__ import annotations

import json

from reluscope.cli import main
from reluscope.cli.show import _strikes_in_words
from reluscope.runs import RunWriter


def record(path) -> None:
    """Sixty measurements of three sites with one strike; one site is dead."""
    with RunWriter.create(path, {"probe": {"num_samples": 10, "batch_size": 5, "num_classes": 2}}) as writer:
        for step in range(60):
            change = 900 if step == 40 else 3
            rows = [
                {"site": site, "site_index": index, "appeared": change, "vanished": 3, "exact": True}
                | {
                    "relative_entropy": 0.0 if index == 2 else 0.7,
                    "max_frequency": 1.0 if index == 2 else 0.1,
                }
                for index, site in enumerate("abc")
            ]
            writer.commit(step, rows)
        writer.add_scalars([{"step": 39, "batch_indices": [7, 8]}])


def test_show_names_layers_and_strikes(tmp_path, capsys) -> None:
    record(tmp_path / "run")
    assert main(["show", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "strikes       1 in 39 of 60 measurements" in lines
    assert [line.split()[:2] for line in lines if line.split()[1:2] == ["c"]] == [
        ["2", "c"]
    ]  # number and name
    warned = [line for line in lines if line.startswith("warning: ")]
    assert [line.split(" at ")[0] for line in warned] == [
        'warning: "c" (site 2) used one pattern for practically every evaluation',
        "warning: far more patterns than usual appeared or vanished in",
    ]
    assert "step 40 (appeared at 3 of 3 sites)" in warned[1]


def test_show_tells_no_strike_found_from_none_looked_for() -> None:
    nothing = {"strikes": [], "num_judged": 180, "num_unjudged": 101}
    assert _strikes_in_words(nothing) == "none in 180 of 281 measurements"
    seldom = {"strikes": [], "num_judged": 0, "num_unjudged": 101}
    assert _strikes_in_words(seldom).startswith("not looked for: that needs more than 20")


def test_show_json_has_findings_and_strikes(tmp_path, capsys) -> None:
    record(tmp_path / "run")
    assert main(["show", str(tmp_path / "run"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(one["kind"], one["sites"]) for one in content["health"]] == [
        ("constant", ["c"]),
        ("strike", ["a", "b", "c"]),
    ]
    (strike,) = content["strikes"]["strikes"]
    assert (strike["step"], strike["batch_indices"], strike["vanished"]) == (40, [7, 8], [])
    assert content["warnings"] == [one["text"] for one in content["health"]]

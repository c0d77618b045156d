"""From run folders to verdicts: reading, which runs are used, the page, the command."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from reluscope.cli import main
from reluscope.errors import RunNotFoundError
from reluscope.lab.claims import (
    JudgingDisplay,
    Verdict,
    chosen_studies,
    find_runs,
    judge,
    judge_folder,
    made_up_study,
    read_study,
)
from reluscope.lab.claims.commands import reproduce_command
from reluscope.lab.claims.verdict import Undecidable
from reluscope.runs import Run, RunWriter, open_run

NETS = ("toynet", "convnet", "resnet")


def write_run(folder, study, *, images_in_common=None):
    """A study as a run folder, written as the lab writes one.

    `images_in_common` (step, site) of 100 images have the pattern 1 and all others a pattern of their own per step,
    in exact tables, so that the similarity of two steps to each other is known.
    """
    method = "milestones" if study.method == "stepwise" else study.method
    names = [f"site{site}" for site in range(study.num_sites)]
    info = {
        "sites": [{"name": name, "width": 32, "num_units": 32} for name in names],
        "probe": {"num_samples": study.num_images},
        "training": {
            "model": {"name": study.net, "depth": 6 * study.blocks + 2, "activation": study.activation},
            "data": {"name": "cifar10"},
            "schedule": {"name": method},
            "training": {"seed": study.seed},
            "experiment": study.experiment,
            "scale": study.scale,
        },
        "training_steps": {"num_steps": study.num_steps, "steps_per_epoch": study.steps_per_epoch},
    }
    kinds = {"total": int, "appeared": int, "vanished": int, "exact": bool}
    with RunWriter.create(folder, info) as writer:
        for row, step in enumerate(study.steps.tolist()):
            values = {
                name: [None if math.isnan(value) else kinds.get(name, float)(value) for value in grid[row]]
                for name, grid in study.measures.items()
            }
            rows = [
                {"site": name, "site_index": site, **{measure: values[measure][site] for measure in values}}
                for site, name in enumerate(names)
            ]
            tables = None
            if images_in_common is not None:
                tables = {
                    ("all", name): table(step, images_in_common(step, site))
                    for site, name in enumerate(names)
                }
            writer.commit(step, rows, tables=tables)
        logged, rates = study.learning_rate
        writer.add_scalars(
            [{"step": int(step), "lr": float(rate)} for step, rate in zip(logged, rates, strict=True)]
        )


def table(step, num_common):
    own = np.full(1, 2 + step, np.uint64)
    keys = np.concatenate([np.ones(1, np.uint64), own])[:, None]
    counts = np.array([num_common, 100 - num_common], np.int64)
    kept = counts > 0
    return keys[kept], counts[kept], {"width": 32, "num_evaluations": 100}


def fig1(net, **more):
    """Total as in A1: 1,000 at step 1, then `drop` of it, then growth."""
    drop = more.pop("drop", 0.1)
    totals = {0: 1000, 1: 1000, 2: 1000 * drop, 50: 1000 * drop, 100: 1000 * drop, 200: 1200 * drop}
    return made_up_study(
        net, "fig1", list(totals), method="constant", total=lambda step, site: totals[step], **more
    )


def test_runs_on_disk_are_judged_as_studies_are(tmp_path):
    for net in NETS:
        write_run(tmp_path / "fig1" / "runs" / f"{net}20", fig1(net, num_images=4000, scale="laptop"))
    runs, left_out = find_runs(tmp_path)
    assert ([run.name for run in runs], left_out) == (["convnet20", "resnet20", "toynet20"], {})
    results = {result.claim.id: result for result in judge(runs)}
    assert results["A1"].verdict is Verdict.SUPPORTED
    assert results["A1"].part("printed totals").verdict is Verdict.TOO_SMALL
    assert results["A1"].part("drop").runs == ("fig1/toynet20",)
    assert results["A1"].part("drop").num_images == (4000,)
    assert results["A4"].verdict is Verdict.NOT_MEASURED
    assert "does not hold the measure max_frequency" in results["A4"].parts[0].reason
    assert results["A6"].verdict is Verdict.NOT_MEASURED


def test_a_violation_on_disk_is_contradicted(tmp_path):
    for net in NETS:
        write_run(tmp_path / net, fig1(net, drop=0.4))
    results = {result.claim.id: result for result in judge_folder(tmp_path).results}
    assert results["A1"].verdict is Verdict.CONTRADICTED


def test_similarity_on_disk_is_read_with_its_site_and_step(tmp_path):
    """A19: J to the end is c / (200 - c) where c of 100 images share the one pattern that is left at the end."""
    steps = [0, 1, 100, 200]

    def in_common(step, site):
        return 100 if step == 200 else 60 if site % 2 == 0 else 50

    needs = [("relu", "stepwise"), ("prelu", "stepwise"), ("relu", "cyclic"), ("relu", "onecycle")]
    for activation, method in needs:
        made = made_up_study("resnet", "fig3", steps, activation=activation, method=method)
        write_run(tmp_path / f"{activation}-{method}", made, images_in_common=in_common)
    study = read_study(open_run(tmp_path / "relu-stepwise"))
    assert study.method == "stepwise"
    found = study.similar(200, [100, 200])
    assert found.values[0, :3].tolist() == pytest.approx([60 / 140, 50 / 150, 60 / 140])
    assert found.values[1].tolist() == [1.0] * 19
    assert found.errors.tolist() == [[0.0] * 19] * 2
    (result,) = (result for result in judge_folder(tmp_path).results if result.claim.id == "A19")
    assert result.verdict is Verdict.SUPPORTED, result.parts[0].reason
    assert result.parts[0].checks[0].value == pytest.approx(60 / 140 - 50 / 150)


def test_a_run_without_samples_says_what_to_record(tmp_path):
    write_run(tmp_path / "one", made_up_study("convnet", "fig3", [0, 1, 50, 60, 100]))
    (result,) = (result for result in judge_folder(tmp_path).results if result.claim.id == "A10")
    assert result.parts[0].verdict is Verdict.NOT_MEASURED
    assert "neither samples nor tables" in result.parts[0].reason


def test_what_is_read_of_a_run(tmp_path):
    made = made_up_study(
        "toynet", "fig2", [0, 1, 9], blocks=2, seed=3, num_images=512, scale="laptop", relative_entropy=0.25
    )
    write_run(tmp_path / "mine", made)
    study = read_study(open_run(tmp_path / "mine"))
    for name in (
        "net",
        "blocks",
        "activation",
        "method",
        "seed",
        "experiment",
        "scale",
        "num_images",
        "num_steps",
    ):
        assert getattr(study, name) == getattr(made, name), name
    assert (study.name, study.data, study.steps.tolist()) == ("fig2/mine", "cifar10", [0, 1, 9])
    assert study.at("relative_entropy", 9).tolist() == [0.25] * 13
    assert study.learning_rate[1].tolist() == made.learning_rate[1].tolist()
    assert set(study.measures) == {"coverage", "relative_entropy"}


def test_runs_that_are_not_of_the_paper_are_left_out(tmp_path):
    with RunWriter.create(
        tmp_path / "own", {"sites": [{"name": "relu", "width": 8, "num_units": 8}]}
    ) as writer:
        writer.commit(0, [{"site": "relu", "site_index": 0, "total": 1}])
    write_run(tmp_path / "untagged", replace(fig1("resnet"), experiment=None))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{", encoding="utf-8")
    judged = judge_folder(tmp_path)
    assert judged.used == ()
    assert judged.left_out["own"] == "holds no measurements of a network of the paper that the lab trained"
    assert judged.left_out["untagged"] == "belongs to no figure"
    assert "is damaged" in judged.left_out["damaged"]


def test_one_run_is_used_of_each_training():
    laptop, paper = (
        fig1("resnet", scale=scale, num_images=n) for scale, n in (("laptop", 4000), ("paper", 2000))
    )
    names = ("laptop", "paper", "shorter")
    studies = [
        replace(study, name=name)
        for study, name in zip((laptop, paper, replace(paper, num_images=1000)), names, strict=True)
    ]
    used, left_out = chosen_studies(studies)
    assert [study.name for study in used] == ["paper"]
    assert left_out == {
        "laptop": "fig1 is judged on its paper runs",
        "shorter": "the same training as paper, which is as large or larger",
    }
    other = replace(laptop, experiment="fig4", name="other")
    assert [study.name for study in chosen_studies([*studies, other])[0]] == ["other", "paper"]


def test_the_command_writes_and_prints(tmp_path, capsys):
    for net in NETS:
        write_run(tmp_path / net, fig1(net))
    assert main(["claims", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "A21" in printed
    assert "1 supported" not in printed  # at n = 50,000 the made-up totals are not the printed ones
    page, values = (tmp_path / "claims.md").read_text(), json.loads((tmp_path / "claims.json").read_text())
    assert "## A1: contradicted" in page
    assert (
        'needs fig2 of resnet: `reluscope reproduce fig2 --only "resnet20-relu-stepwise-*" --out DIR`' in page
    )
    assert [claim["id"] for claim in values["claims"]] == [f"A{number}" for number in range(1, 22)]
    assert str(tmp_path) not in page

    assert main(["claims", str(tmp_path), "--json", "-o", str(tmp_path / "out" / "table.md")]) == 0
    assert json.loads(capsys.readouterr().out) == values
    assert (tmp_path / "out" / "table.md").read_text() == page
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == values
    for folder in (tmp_path / "out", tmp_path / "new"):
        assert main(["claims", str(tmp_path), "-o", str(folder)]) == 0
        assert (folder / "claims.md").read_text() == page
        assert json.loads((folder / "claims.json").read_text()) == values
    assert main(["claims", str(tmp_path), "-o", str(tmp_path / "table.json")]) == 2
    assert "neither a folder nor a .md file" in capsys.readouterr().err
    assert not (tmp_path / "table.json").exists()


def test_the_table_can_be_read_in_a_pipe(tmp_path, capsys, monkeypatch):
    for net in NETS:
        write_run(tmp_path / net, fig1(net, num_images=4000, scale="laptop"))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["claims", str(tmp_path)]) == 0
    wide = capsys.readouterr()
    assert wide.err == ""  # no bar where nobody looks
    lines = wide.out.splitlines()
    assert lines[0] == f"Claims, judged on 3 runs below {tmp_path}"
    assert lines[1].startswith("1 supported, 1 contradicted, ")  # the headline first
    table = [line for line in lines if line.startswith(" ")]
    assert max(map(len, table)) <= 100
    assert any(line.startswith(" A1*     supported      drop (n = 4,000, 1 seed, ") for line in table)
    starts = [number for number, line in enumerate(lines) if line.startswith(" A")]
    assert max(np.diff(starts)) <= 8  # lines of one claim
    assert len(starts) == 21
    monkeypatch.setenv("COLUMNS", "72")
    assert main(["claims", str(tmp_path)]) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines() if line.startswith(" ")) <= 72


def test_a_bar_over_runs_and_claims(tmp_path, capsys):
    for net in NETS:
        write_run(tmp_path / net, fig1(net))
    told = []
    judge_folder(tmp_path, on_progress=told.append)
    assert [one.done for one in told] == list(range(25))
    assert {one.total for one in told} == {24}  # three runs and 21 claims
    assert [told[0].doing, told[3].doing, told[-1].doing] == ["reading convnet", "judging A1", ""]
    for quiet, shown in ((False, True), (True, False)):
        drawn = io.StringIO()
        with JudgingDisplay(Console(file=drawn, force_terminal=True, width=100), quiet=quiet) as display:
            display.show(told[3])
        assert ("3/24" in drawn.getvalue()) is shown
        assert ("judging A1" in drawn.getvalue()) is shown
    assert capsys.readouterr() == ("", "")


def test_similarity_is_read_when_a_claim_asks_and_from_rows_where_they_hold_it(tmp_path, monkeypatch):
    """To the first measurement every row has an exact value: no sample is read for it."""
    steps = [0, 1, 41, *range(50, 91, 5)]
    made = made_up_study(
        "resnet", "fig1", steps, method="constant", coverage=1.0, exact=1,
        weighted_jaccard_to_init=lambda step, site: math.nan if step == 0 else 0.01 * (step + site),
    )  # fmt: skip
    write_run(tmp_path / "exact", made, images_in_common=lambda step, site: 50)
    asked = []
    compare = Run.similarity_to
    monkeypatch.setattr(Run, "similarity_to", lambda run, step: (asked.append(step), compare(run, step))[1])
    study = read_study(open_run(tmp_path / "exact"))
    found = study.similar(0, [0, 1, 41, 90])
    assert found.values[:, 2].tolist() == pytest.approx([1.0, 0.03, 0.43, 0.92])
    assert found.errors.tolist() == [[0.0] * 19] * 4
    # few steps are compared alone, and the same again from memory
    assert study.similar(1, [41, 1]).values[:, 0].tolist() == pytest.approx([50 / 150, 1.0])
    assert np.isnan(study.similarity(1, np.array([41])).values[study.steps == 90]).all()
    assert study.similar(1, 90).values[0] == pytest.approx(50 / 150)
    assert asked == []
    assert study.similar(1, study.steps).values[study.steps == 90, 0] == pytest.approx(50 / 150)
    assert study.similar(1, [1, 41, 50]).values[1, 0] == pytest.approx(50 / 150)
    assert asked == [1]
    for name, wrong in (("exact", 0), ("weighted_jaccard_to_init", math.nan)):
        grid = np.where(np.arange(19) == 7, wrong, made.measures[name])
        write_run(
            tmp_path / "not" / name,
            replace(made, measures={**made.measures, name: grid}),
            images_in_common=lambda *_: 50,
        )
        found = read_study(open_run(tmp_path / "not" / name)).similar(0, study.steps)
        assert (asked[-1], len(asked)) == (0, 2 + (name != "exact"))
        assert not np.isnan(found.values).any()


def test_commands_name_scale_and_seeds(tmp_path):
    command = reproduce_command("fig2", ["toynet20-relu-stepwise-*"], scale="laptop", seeds=5)
    assert command == 'reluscope reproduce fig2 --only "toynet20-relu-stepwise-*" --seeds 5 --out DIR'
    assert reproduce_command("fig2", ["*"], scale="smoke", seeds=3) == "reluscope reproduce fig2 --out DIR"
    cut = made_up_study("toynet", "fig2", [0, 1], seed=4, scale="laptop", num_steps=100)
    with pytest.raises(Undecidable, match='--only "toynet20-relu-stepwise-seed4" --seeds 5 --out DIR'):
        _ = cut.end


def test_no_folder(tmp_path, capsys):
    with pytest.raises(RunNotFoundError, match="where nothing is"):
        judge_folder(tmp_path / "none")
    assert main(["claims", str(tmp_path / "none")]) == 1
    assert "reluscope reproduce" in capsys.readouterr().err

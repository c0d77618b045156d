"""Every command as a user types it, the mistakes included: what is printed where, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from reluscope.cli import main
from reluscope.cli.console import plain
from reluscope.cli.tables import short

SMALL = [
    "mlp-mnist-sample",
    *("--set", "model.width=8", "--set", "model.hidden_layers=2", "--set", "training.steps=4"),
    *("--set", "probe.num_images=50"),
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELUSCOPE_DATA_DIR", raising=False)
    monkeypatch.delenv("RELUSCOPE_DEBUG", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "small"
    assert main(["train", *SMALL, "--run", str(folder), "--quiet"]) == 0
    return folder


def assert_one_line_error(capsys, *fragments: str) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    for fragment in fragments:
        assert fragment in captured.err


# Start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["show", "nosuch"]])
def test_what_needs_no_torch_does_not_import_it(arguments):
    script = textwrap.dedent(
        f"""
        import sys
        from reluscope.cli import main
        main({arguments!r})
        loaded = {{"torch", "numba", "plotly", "matplotlib"}} & set(sys.modules)
        sys.exit(f"loaded: {{loaded}}" if loaded else 0)
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_the_test_above_can_fail():
    script = "import sys, torch; sys.exit(bool({'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 1


def test_version(capsys):
    import reluscope

    assert main(["version"]) == main(["--version"]) == 0
    assert capsys.readouterr().out == f"reluscope {reluscope.__version__}\n" * 2


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("demo", "train", "show", "sites", "report", "version"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize(
    "arguments",
    [[], ["nosuch"], ["show"], ["report"], ["train"], ["train", "--resume"], ["show", "x", "--nosuch"]],
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: reluscope" in captured.err + captured.out
    assert "Traceback" not in captured.err


# train -----------------------------------------------------------------------------------------------------


def test_train_says_what_it_did_and_what_to_do_next(capsys):
    assert main(["train", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "4 updates, 5 measurements" in out
    assert "reluscope show runs/mlp-mnist-sample" in out


def test_train_json_is_json_alone(tmp_path, capsys):
    assert main(["train", *SMALL, "--run", "other", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    result = json.loads(captured.out)
    assert (result["run"], result["num_steps"], result["first_step"]) == ("other", 4, 0)


def test_train_resumes_without_the_specification(run, capsys):
    assert main(["train", "--resume", "--run", str(run)]) == 0
    assert "Nothing left to train: all 4 updates were done already" in capsys.readouterr().out


def test_train_show_prints_a_specification_that_trains(tmp_path, capsys):
    assert main(["train", *SMALL, "--show"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "mine.yaml", "--quiet"]) == 0
    assert (tmp_path / "runs" / "mine" / "run.json").is_file()


def test_train_list_names_the_presets(capsys):
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert "\nconvnet20-cifar10" in out
    assert all(
        "  " in line for line in out.splitlines()
    )  # the longest name too stands apart from its meaning
    assert main(["train", "--list", "--json"]) == 0
    assert "mlp-mnist" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["nosuch"], 2, 'no preset is called "nosuch"'),
        (["nosuch.yaml"], 2, "no specification at nosuch.yaml"),
        (["mlp-mnist", "--set", "optimizer.lrr=1"], 2, 'closest: "lr"'),
        (["mlp-mnist"], 1, "no data folder was named"),
        (["cifar10", "--data-dir", "x"], 2, "no preset"),
        (["resnet20-cifar10", "--data-dir", "nosuch"], 1, "Looked in nosuch/cifar-10-batches-py"),
        (["--resume", "--run", "nosuch"], 1, "there is nothing to resume"),
        ([*SMALL, "--set", "recording.sites=zzz"], 2, "zzz"),
        ([*SMALL, "--set", "probe.num_images=1000000"], 2, "Lower probe.num_images"),
        ([*SMALL, "--set", "optimizer.lr=1e30", "--set", "training.steps=30"], 1, "has diverged"),
    ],
)
def test_train_mistakes_are_one_line(arguments, code, fragment, capsys):
    assert main(["train", *arguments]) == code
    assert_one_line_error(capsys, fragment)


def test_a_training_that_failed_at_once_can_be_given_again(tmp_path, capsys):
    run = ["--run", "again", "--quiet"]
    assert main(["train", *SMALL, *run, "--set", "recording.sites=zzz"]) == 2
    assert main(["train", *SMALL, *run]) == 0
    capsys.readouterr()
    assert main(["show", "again"]) == 0
    assert "right, of the images kept back" in capsys.readouterr().out


def test_train_does_not_overwrite(run, capsys):
    assert main(["train", *SMALL, "--run", str(run)]) == 1
    assert_one_line_error(capsys, "a run is already at", f"reluscope train --resume --run {run}")


def test_train_stopped_by_the_user_says_how_to_go_on(monkeypatch, capsys):
    import reluscope.lab

    def stop(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(reluscope.lab, "train", stop)
    assert main(["train", *SMALL, "--run", "here"]) == 130
    assert "reluscope train --resume --run here" in capsys.readouterr().err


def test_debug_shows_where_an_error_came_from(monkeypatch):
    from reluscope.errors import SpecificationError

    monkeypatch.setenv("RELUSCOPE_DEBUG", "1")
    with pytest.raises(SpecificationError):
        main(["train", "nosuch"])


# show ------------------------------------------------------------------------------------------------------


def test_show_says_what_is_in_a_run(run, capsys):
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    for fragment in (
        "small (closed)",
        "MLP, 6,442 parameters",  # 784 * 8 + 8, 8 * 8 + 8, 8 * 10 + 10
        "50 samples, batches of 128, labels of 10 classes",
        "batch norm on statistics of each probe batch",
        "of steps 0 to 4",
        "step 3: loss",
        "hidden2.act",
        "J_W to init",
    ):
        assert fragment in out


def test_show_json_is_strict_json(run, capsys):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert main(["show", str(run), "--json"]) == 0
    content = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert content["steps"] == [0, 1, 2, 3, 4]
    assert [row["site"] for row in content["last"]] == ["hidden1.act", "hidden2.act"]
    assert content["last"][0]["step"] == 4
    assert content["info"]["model"]["class"] == "MLP"


def test_show_of_a_run_that_is_missing_or_damaged(tmp_path, capsys):
    assert main(["show", "nosuch"]) == 1
    assert_one_line_error(capsys, 'no run at "nosuch"')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert main(["show", "broken"]) == 1
    assert_one_line_error(capsys, "run.json")


# report ----------------------------------------------------------------------------------------------------


def test_report_writes_a_page(run, tmp_path, capsys):
    assert main(["report", str(run), "-o", "page.html"]) == 0
    assert capsys.readouterr().out.startswith("page.html (")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert main(["report", str(run), str(run), "-o", "two.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == "two.html"


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [(["nosuch"], 1, 'no run at "nosuch"'), (["RUN", "-o", "page.xyz"], 2, ".xyz")],
)
def test_report_mistakes_are_one_line(run, arguments, code, fragment, capsys):
    assert main(["report", *(str(run) if word == "RUN" else word for word in arguments)]) == code
    assert_one_line_error(capsys, fragment)


# sites -----------------------------------------------------------------------------------------------------

MODELS = """
import torch
def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.GELU(), torch.nn.ReLU())
made = net()
def needs(size): ...
def fails(): raise RuntimeError("no weights\\nhere")
def wrong(): return 3
number = 3
linear = torch.nn.Linear(4, 3)
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    name = f"models_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    yield name
    sys.modules.pop(name, None)


def test_sites_of_a_model_without_activations_says_so(models, capsys):
    assert main(["sites", "--model", f"{models}:linear", "--input", "2,4"]) == 0
    assert "no activation calls" in capsys.readouterr().out
    assert main(["sites", "--model", f"{models}:linear", "--input", "2,4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("name", ["net", "made"])
def test_sites_lists_what_is_observed_and_what_is_not(models, name, capsys):
    assert main(["sites", "--model", f"{models}:{name}", "--input", "2,4", "--json"]) == 0
    rows = {row["operation"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["relu"]["observed"] is True
    assert rows["relu"]["width"] == 3
    assert rows["gelu"]["observed"] is False
    assert rows["gelu"]["width"] is None
    assert main(["sites", "--model", f"{models}:{name}", "--input", "2,4"]) == 0
    out = capsys.readouterr().out
    assert "2 activation calls, 1 of them observed" in out
    assert 'not observed: "1": gelu is smooth' in out
    assert max(len(line.rstrip()) for line in out.splitlines()[1:5]) <= 80  # fits on a terminal


def test_sites_of_smooth_activations_on_request(models, capsys):
    assert main(["sites", "--model", f"{models}:net", "--input", "2,4", "--smooth", "--json"]) == 0
    assert all(row["observed"] for row in json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("name", "shape", "code", "fragment"),
    [
        ("net", "2,5", 1, "fails on an input of shape 2,5: RuntimeError"),
        ("fails", "2,4", 1, "raised RuntimeError: no weights here"),
        ("needs", "2,4", 1, "missing 1 required positional argument"),
    ],
)
def test_sites_of_a_model_that_fails_is_one_line(models, name, shape, code, fragment, capsys):
    assert main(["sites", "--model", f"{models}:{name}", "--input", shape]) == code
    assert_one_line_error(capsys, fragment)


@pytest.mark.parametrize(
    ("address", "shape", "fragment"),
    [
        ("{}:nett", "2,4", 'Closest: "net"'),
        ("{}:wrong", "2,4", "returned a int"),
        ("{}:number", "2,4", "is a int, not a model"),
        ("{}", "2,4", "names no model"),
        ("nosuchmodule:net", "2,4", "there is no module"),
        ("{}:net", "2,x", "is no shape"),
        ("{}:net", "0,4", "is no shape"),
    ],
)
def test_sites_usage_mistakes(models, address, shape, fragment, capsys):
    assert main(["sites", "--model", address.format(models), "--input", shape]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert fragment in error


# The pieces ------------------------------------------------------------------------------------------------


def test_plain_values():
    import numpy as np
    import pandas as pd

    found = plain(
        {"a": np.float64("nan"), "b": np.array([1.5, np.inf]), "c": np.int64(3), "d": pd.NA, "e": True}
    )
    assert found == {"a": None, "b": [1.5, None], "c": 3, "d": None, "e": True}
    assert isinstance(found["c"], int)


def test_short_values():
    found = [
        short(value) for value in (0.123456, 22000000, float("nan"), None, (0.0, 6.0), True, "relu", 1e-9)
    ]
    assert found == ["0.1235", "22,000,000", "-", "-", "0, 6", "yes", "relu", "1e-09"]

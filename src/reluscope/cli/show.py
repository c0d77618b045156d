"""`reluscope show`: what a run holds, in words and numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reluscope.cli.console import plain, print_json, print_line
from reluscope.cli.tables import print_table, short

__all__ = ["show"]

# What fits beside each other on a terminal; --json has every column.
_COLUMNS = {
    "site_index": "#",
    "site": "site",
    "width": "width",
    "total": "patterns",
    "relative_entropy": "rel. entropy",
    "max_frequency": "max freq.",
    "coverage": "coverage",
    "churn_rate": "churn",
    "weighted_jaccard_to_init": "J_W to init",
}


def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON and nothing else.")
    ] = False,
) -> None:
    """Show what is in a run: model, probe, steps, the last measurement of every site, and what stands out."""
    from reluscope.runs import open_run

    opened = open_run(run)
    content = _content(opened)
    if as_json:
        print_json(content)
        return
    for name, value in _headlines(content).items():
        print_line(f"{name:<14}{value}")
    if content["last"]:
        rows = [
            {title: row.get(name) for name, title in _COLUMNS.items() if name in row}
            for row in content["last"]
        ]
        print_line()
        print_table(rows, title=f"Measured at step {content['steps'][-1]}")
    for text in content["warnings"]:
        print_line(f"warning: {text}")


def _content(run: Any) -> dict[str, Any]:
    """Everything `--json` prints."""
    layers = run.layers
    last = layers[layers["step"] == run.steps[-1]] if run.steps else layers
    scalars = run.scalars.drop(columns="batch_indices", errors="ignore")
    return plain(
        {
            "run": str(run.path),
            "name": run.name,
            "state": run.state,
            "info": run.info,
            "steps": run.steps,
            "warnings": run.warnings,
            "health": [asdict(finding) for finding in run.health],
            "strikes": asdict(run.strikes),
            "last_scalars": scalars.tail(1).to_dict("records")[0] if len(scalars) else None,
            "last": last.to_dict("records"),
        }
    )


def _headlines(content: dict[str, Any]) -> dict[str, str]:
    """What was trained, observed and recorded, a short line each as far as the facts are there."""
    info, steps = content["info"], content["steps"]
    lines = {"run": f"{content['name']} ({content['state']})"}
    if model := info.get("model"):
        lines["model"] = f"{model['class']}, {short(model['num_parameters'])} parameters"
    if probe := info.get("probe"):
        labels = f"labels of {probe['num_classes']} classes" if probe.get("has_labels") else "no labels"
        lines["probe"] = f"{short(probe['num_samples'])} samples, batches of {probe['batch_size']}, {labels}"
    if mode := info.get("mode"):
        lines["mode"] = _mode_in_words(mode)
    if steps:
        lines["measurements"] = f"{len(steps)}, of steps {short(steps[0])} to {short(steps[-1])}"
    else:
        lines["measurements"] = "none yet"
    if steps:
        lines["strikes"] = _strikes_in_words(content["strikes"])
    if scalars := content["last_scalars"]:
        numbers = [f"{name} {short(value)}" for name, value in scalars.items() if name != "step"]
        lines["training"] = f"step {short(scalars['step'])}: {', '.join(numbers) or 'nothing logged'}"
    if (accuracy := info.get("held_out_accuracy")) is not None:
        lines["held out"] = f"{accuracy:.1%} right, of the images kept back, at the end"
    if "created" in info:
        versions = info.get("environment", {})
        made_by = f", reluscope {versions['reluscope']}, torch {versions['torch']}" if versions else ""
        lines["created"] = f"{info['created'][:19].replace('T', ' ')} UTC{made_by}"
    if unobserved := info.get("unobserved"):
        calls = "1 activation call" if len(unobserved) == 1 else f"{len(unobserved)} activation calls"
        lines["not observed"] = f"{calls}; --json says why"
    return lines


def _strikes_in_words(strikes: dict[str, Any]) -> str:
    """How many there are among how many measurements: none found is not none looked for."""
    judged, rest = strikes["num_judged"], strikes["num_unjudged"]
    if not judged:
        return "not looked for: that needs more than 20 measurements at consecutive steps"
    return f"{short(len(strikes['strikes'])) if strikes['strikes'] else 'none'} in {short(judged)} of " + (
        f"{short(judged + rest)} measurements"
    )


def _mode_in_words(mode: dict[str, Any]) -> str:
    """How the model was observed: what differs from the usual, and always the batch norm."""
    statistics = {"batch": "statistics of each probe batch", "running": "running statistics"}
    words = [f"batch norm on {statistics.get(mode.get('batch_norm', ''), mode.get('batch_norm'))}"]
    if mode.get("sites") != "*":
        words.append(f"sites {short(mode['sites'])}")
    words += [
        f"{name} {short(mode[name])}" for name in ("channel_dim", "autocast") if mode.get(name) is not None
    ]
    if mode.get("smooth"):
        words.append("smooth activations at their sign")
    return ", ".join(words)

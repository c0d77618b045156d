"""Every sentence of the report that depends on what a run holds: facts, empty states, names for axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reluscope.measures.spec import Measure
from reluscope.report.scales import number
from reluscope.report.view import RunView

__all__ = [
    "bounds",
    "facts",
    "no_similarities",
    "not_recorded",
    "notes",
    "nothing_to_draw",
    "sentence",
    "shorten",
    "shown_ticks",
    "site_labels",
    "step_ticks",
    "unit",
]

_REASONS = {
    "labels": "needs a probe with labels, rs.Probe(inputs, labels), and rs.Patterns(labels=True)",
    "hashlist": "runs only when asked for: rs.Patterns(hashlist=30_000)",
    "changes": "needs at least two measurements",
    "similarity": "needs at least two measurements",
}


def shorten(name: str, limit: int = 18) -> str:
    """A long name with its middle left out: the ends tell sites apart.

    >>> shorten("encoder.layers.11.mlp.activation", 18)
    'encoder.…ctivation'
    """
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - 1 - tail]}…{name[-tail:]}"


def site_labels(names: Sequence[str], limit: int = 18) -> list[str]:
    """Names of sites for an axis: what all long names share at either end goes first, then their middle.

    >>> site_labels(["net.encoder.0.mlp.activation", "net.encoder.1.mlp.activation"])
    ['….0.…', '….1.…']
    """
    if len(names) < 2 or all(len(name) <= limit for name in names):
        return [shorten(name, limit) for name in names]
    parts = [name.split(".") for name in names]
    least = min(map(len, parts)) - 1  # something of each name stays
    first = _shared(parts, least)
    last = _shared([part[::-1] for part in parts], least - first)
    kept = [".".join(part[first : len(part) - last]) for part in parts]
    before, after = "…." if first else "", ".…" if last else ""
    return [shorten(f"{before}{name}{after}", limit) for name in kept]


def _shared(parts: Sequence[Sequence[str]], most: int) -> int:
    """How many components all begin with, at most `most`."""
    count = 0
    while count < most and len({part[count] for part in parts}) == 1:
        count += 1
    return count


def shown_ticks(count: int, limit: int) -> list[int]:
    """Indices to label among `count`, at most about `limit`, evenly apart, the first among them.

    >>> shown_ticks(5, 10), shown_ticks(10, 4)
    ([0, 1, 2, 3, 4], [0, 3, 6, 9])
    """
    every = max(1, -(-count // limit))
    return list(range(0, count, every))


def step_ticks(steps: Sequence[int], limit: int = 7) -> list[int]:
    """Indices of measurements to label: about `limit`, the first and the last among them."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    return sorted({round(x) for x in np.linspace(0, len(steps) - 1, limit)})


def bounds(measure: Measure) -> str:
    """The bounds in words: "0 to 1", "0 to min(d, log2 N)", "no lower bound, at most 1"."""
    upper = measure.upper if isinstance(measure.upper, str | None) else f"{measure.upper:g}"
    if measure.lower is None:
        return "no bounds" if upper is None else f"no lower bound, at most {upper}"
    return f"at least {measure.lower:g}" if upper is None else f"{measure.lower:g} to {upper}"


def unit(measure: Measure) -> str:
    """The unit in words; dimensionless measures are shares or ratios."""
    return "dimensionless" if measure.unit == "1" else measure.unit


def not_recorded(measure: Measure) -> str:
    """Why a measure is in none of the runs."""
    if measure.name == "information_excess":
        return "runs only when asked for: rs.Patterns(permutations=20), with a probe that has labels"
    return _REASONS.get(measure.family, "was not recorded by these runs")


def nothing_to_draw(view: RunView, measure: Measure) -> str | None:
    """Why there is no picture of this measure for this run; None when there is one."""
    if view.has(measure.name):
        return None
    if len(view.steps) == 0:
        return "Nothing has been measured in this run yet."
    if measure.family in ("changes", "similarity") and len(view.steps) == 1:
        return "Only one measurement so far: there is nothing to compare it with."
    if measure.name in view.values:
        return (
            f"{measure.title} is not defined at any of the {len(view.steps)} measurements of this run (all "
            "values are NaN)."
        )
    return f"This run did not record it: {not_recorded(measure)}."


def no_similarities(view: RunView) -> str:
    """Why there is no map of the similarities of its steps."""
    if len(view.steps) < 2:
        return "Needs at least two measurements."
    return (
        "This run keeps neither samples nor tables of at least two steps. rs.Patterns(sample_size=4096) samples "
        'while recording, rs.Patterns(keep=("all",)) keeps every table.'
    )


def notes(view: RunView, shown: int) -> list[str]:
    """What to know before reading the pictures of this run: its state, and the run's own warnings."""
    found = []
    if view.state == "recording":
        found.append(
            f"This run was still being recorded when the page was written: it shows the {len(view.steps)} "
            "measurements taken until then. Write the report again to see more."
        )
    if len(view.steps) == 1:
        found.append(
            f"Only one measurement (step {view.steps[0]:,}): the heat maps have a single column, and nothing "
            "can be said about changes."
        )
    if shown < len(view.steps):
        found.append(
            f"The page draws {shown:,} of the {len(view.steps):,} measurements, evenly chosen; all of them "
            "are in the run."
        )
    return found + [sentence(text) for text in view.warnings]


def facts(view: RunView) -> dict[str, str]:
    """What was trained and measured, label and value, in reading order; what is not known is left out."""
    info = view.info
    found: dict[str, str] = {"Model": _model(info)}
    found["Probe"] = _probe(info.get("probe"))
    found["Measured in"] = _mode(info.get("mode"))
    found["Sites"] = _num_sites(len(view.sites))
    found["Measurements"] = _measurements(view)
    found["When"] = _when(view)
    found["Cost"] = _cost(view)
    found["Training"] = _training(info.get("training"))
    found["End of training"] = _last_scalars(view)
    found["Environment"] = _environment(info.get("environment"))
    return {label: value for label, value in found.items() if value}


def _num_sites(count: int) -> str:
    return f"{count:,} activation site" + ("s" if count > 1 else "") if count else ""


def _model(info: Mapping[str, Any]) -> str:
    model = info.get("model")
    if not isinstance(model, Mapping):
        return str(model or "")
    name = str(model.get("class", ""))
    parameters = model.get("num_parameters")
    counted = f"{int(parameters):,} parameters" if isinstance(parameters, int) else ""
    return ", ".join(part for part in (name, counted) if part)


def _probe(probe: Any) -> str:
    if not isinstance(probe, Mapping):
        return str(probe or "")
    samples, batch, classes = (probe.get(key) for key in ("num_samples", "batch_size", "num_classes"))
    inputs = probe.get("inputs") or [{}]
    shape = " x ".join(str(size) for size in inputs[0].get("shape", [])[1:])
    of_shape = f" of {shape}" if shape and len(inputs) == 1 else ""
    parts = [f"{samples:,} samples{of_shape}" if isinstance(samples, int) else ""]
    parts.append(f"in batches of {batch}" if batch else "")
    parts.append(f"{classes} classes" if probe.get("has_labels") and classes else "no labels")
    return ", ".join(part for part in parts if part)


def _mode(mode: Any) -> str:
    if not isinstance(mode, Mapping):
        return str(mode or "")
    norm = {
        "batch": "eval mode, batch norm on the probe batch's statistics",
        "running": "eval mode, batch norm on running statistics",
    }
    parts = [norm.get(str(mode.get("batch_norm")), "eval mode")]
    if mode.get("sites") not in (None, "*"):
        parts.append(f"sites {mode['sites']}")
    if mode.get("autocast"):
        parts.append(f"autocast {mode['autocast']}")
    if mode.get("smooth"):
        parts.append("smooth activations by sign")
    return ", ".join(parts)


def _measurements(view: RunView) -> str:
    if len(view.steps) == 0:
        return "none yet"
    if len(view.steps) == 1:
        return f"1, at step {view.steps[0]:,}"
    return f"{len(view.steps):,}, steps {view.steps[0]:,} to {view.steps[-1]:,}"


def _when(view: RunView) -> str:
    known = sorted(time for time in view.times if time)
    if not known:
        return ""
    first, last = (time[:16].replace("T", " ") for time in (known[0], known[-1]))
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def _cost(view: RunView) -> str:
    known = view.seconds[np.isfinite(view.seconds)]
    return f"{np.median(known):.2g} s a measurement (median)" if known.size else ""


def _last_scalars(view: RunView) -> str:
    parts = []
    for name in ("loss", "accuracy"):
        if name in view.scalars:
            known = view.scalars[name].to_numpy(dtype=np.float64)
            known = known[np.isfinite(known)]
            if known.size:
                parts.append(f"{name} {number(float(known[-1]))}")
    held_out = view.info.get("held_out_accuracy")
    if isinstance(held_out, int | float):
        parts.append(f"{held_out:.1%} of the images kept back right")
    return ", ".join(parts)


def _training(training: Any) -> str:
    """The settings of a training of the lab: optimizer, schedule, length, batches, data, seed."""
    if not isinstance(training, Mapping):
        return ""
    optimizer, schedule, length, data = (
        training.get(section) or {} for section in ("optimizer", "schedule", "training", "data")
    )
    parts = [f"{optimizer['name']}, lr {number(optimizer['lr'])}" if {"name", "lr"} <= set(optimizer) else ""]
    parts += [
        f"{key.replace('_', ' ')} {optimizer[key]}"
        for key in ("momentum", "weight_decay")
        if optimizer.get(key)
    ]
    parts.append(f"{schedule['name']} schedule" if schedule.get("name") else "")
    parts += [f"{length[key]:,} {key}" for key in ("epochs", "steps") if length.get(key)]
    parts.append(f"batches of {length['batch_size']}" if length.get("batch_size") else "")
    parts.append(f"seed {length['seed']}" if "seed" in length else "")
    parts.append(str(data.get("name") or ""))
    return ", ".join(part for part in parts if part)


def _environment(found: Any) -> str:
    """Versions, device and layout: what may change bits by rounding."""
    if not isinstance(found, Mapping):
        return ""
    parts = [f"{name} {found[name]}" for name in ("reluscope", "torch", "numpy") if name in found]
    parts.extend(", ".join(map(str, found[name])) for name in ("device", "dtypes") if found.get(name))
    if found.get("threads"):
        parts.append(f"{found['threads']} thread" + ("s" if found["threads"] != 1 else ""))
    if found.get("memory_format") not in (None, "contiguous"):
        parts.append(str(found["memory_format"]).replace("_", "-"))
    return ", ".join(parts)


def sentence(text: str) -> str:
    """With a capital at its start and a stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")

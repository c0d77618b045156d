"""The commands that make a training that is missing, cut off or needed with more seeds.

They name the trainings by `--only`, so that nothing else is trained, and leave DIR for the folder that is judged.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import cache

from reluscope.lab.experiments import NUMBERS, SCALES, experiment

__all__ = ["reproduce_command", "training_name"]

_DEFAULT_SCALE = "laptop"


def training_name(
    net: str, blocks: int | None, activation: str, method: str | None, seed: int | None = None
) -> str:
    """The name of a training in a figure; a glob where a detail is None.

    >>> training_name("fixup_resnet", 3, "relu", "stepwise"), training_name("toynet", 3, "relu", None)
    ('fixup-resnet20-relu-stepwise-*', 'toynet20-relu-*')
    """
    depth = "*" if blocks is None else str(6 * blocks + 2)
    words = [net.replace("_", "-") + depth, activation]
    if method is not None:
        words.append(method)
    return "-".join([*words, "*" if seed is None else f"seed{seed}"])


def reproduce_command(
    figure: str, names: Sequence[str], *, scale: str | None = None, seeds: int | None = None
) -> str:
    """The command that trains these trainings of a figure, and no other.

    Args:
        figure: "fig1" to "fig4".
        names: names or globs; `--only` is left out when they are all that the figure has.
        scale: of the runs that are there; None and "smoke" for the default, since smoke decides nothing.
        seeds: how many are needed of each; None, or no more than the scale has, for its own number.
    """
    scale = scale if scale in SCALES and scale != "smoke" else _DEFAULT_SCALE
    words = ["reluscope reproduce", figure]
    if not all(any(fnmatch.fnmatchcase(one, name) for name in names) for one in _names(figure, scale)):
        words += [f'--only "{name}"' for name in dict.fromkeys(names)]
    if scale != _DEFAULT_SCALE:
        words.append(f"--scale {scale}")
    if seeds is not None and seeds > NUMBERS[figure][scale].seeds:
        words.append(f"--seeds {seeds}")
    return " ".join([*words, "--out DIR"])


@cache
def _names(figure: str, scale: str) -> tuple[str, ...]:
    return tuple(name for name, _ in experiment(figure, scale))

"""Which trainings a claim is about, and what makes those that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reluscope.lab.claims.commands import reproduce_command, training_name
from reluscope.lab.claims.study import NET_NAMES, Study

__all__ = ["Need", "commands_for"]

_SCALES = ("smoke", "laptop", "paper")  # in this order


@dataclass(frozen=True, kw_only=True)
class Need:
    """Which trainings a claim is about.

    Attributes:
        experiment: the figure they belong to, "fig1" to "fig4".
        net: "resnet", "convnet", "toynet", "pyramidnet" or "fixup_resnet".
        activation: "relu" or "prelu".
        method: "stepwise", "cyclic", "onecycle"; None for whatever the figure uses.
        blocks: b; None for every depth.
    """

    experiment: str
    net: str
    activation: str = "relu"
    method: str | None = "stepwise"
    blocks: int | None = 3

    def covers(self, study: Study) -> bool:
        """Whether a training is one of these."""
        return (
            (study.experiment, study.net, study.activation) == (self.experiment, self.net, self.activation)
            and self.method in (None, study.method)
            and self.blocks in (None, study.blocks)
        )

    @property
    def text(self) -> str:
        """The trainings in words: "fig3 of convnet (prelu, stepwise)"."""
        details = [word for word in (self.activation, self.method) if word is not None]
        if self.blocks is None:
            details.append("every depth")
        plain = details == ["relu", "stepwise"] or details == ["relu"]
        return f"{self.experiment} of {self.net}" + ("" if plain else f" ({', '.join(details)})")

    @property
    def name(self) -> str:
        """Their names in the figure, as a glob: "convnet20-prelu-stepwise-*"."""
        return training_name(self.net, self.blocks, self.activation, self.method)

    @property
    def title(self) -> str:
        """The network, and what is special about its training."""
        name = NET_NAMES.get(self.net, self.net)
        special = [self.activation] if self.activation != "relu" else []
        special += [self.method] if self.method not in (None, "stepwise") else []
        return " ".join([name, *special])


def commands_for(
    needs: Sequence[Need], studies: Sequence[Study], *, seeds: int | None = None
) -> tuple[str, ...]:
    """One command per figure that makes these trainings.

    Args:
        needs: of any figures.
        studies: what is there: of a figure that was begun, the same scale is asked for.
        seeds: how many are needed of each; None: the scale's number.
    """
    by_figure: dict[str, list[str]] = {}
    for need in needs:
        by_figure.setdefault(need.experiment, []).append(need.name)
    return tuple(
        reproduce_command(figure, names, scale=_scale_of(figure, studies), seeds=seeds)
        for figure, names in by_figure.items()
    )


def _scale_of(figure: str, studies: Sequence[Study]) -> str | None:
    scales = {study.scale for study in studies if study.experiment == figure}
    return max((scale for scale in _SCALES if scale in scales), key=_SCALES.index, default=None)

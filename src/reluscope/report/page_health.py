"""The sections of the page that say what stands out: findings in words, and the list of strikes."""

from __future__ import annotations

import html
from collections.abc import Sequence

from reluscope.report import markup
from reluscope.report.text import sentence
from reluscope.report.view import RunView
from reluscope.runs.health import name_sites
from reluscope.runs.strikes import RunStrike

__all__ = ["health_section", "strikes_section"]

_MOST_STRIKES = 50
_FIRST_INDICES = 8
_NOTHING_STANDS_OUT = (
    "Nothing stands out: no NaN, no dead or saturated site, no coverage under 0.5 at the last step, no dip of the "
    "entropy, no strike. This says what was looked for, not that all is well."
)


def health_section(views: Sequence[RunView]) -> str:
    """What stands out in each run, naming its sites; that nothing does is said too."""
    lead = (
        "What stands out in the recorded numbers, and at which sites. These are rules of thumb: they point at what to "
        "look at, and what is not recorded they cannot see."
    )
    parts = [_findings(view, with_name=len(views) > 1) for view in views]
    return f'<h2 id="health">Health</h2><p class="lead">{lead}</p>{"".join(parts)}'


def strikes_section(views: Sequence[RunView]) -> str:
    """Every strike with its step, its sites and the batch that led there."""
    lead = (
        "Steps at which far more patterns than usual appeared or vanished in at least half of the sites at once: a "
        "robust z-score above 5 against the 100 measurements before. [A] suspects unfavourable batches. The batch is the "
        "one of the update just before. Triangles above the heat maps of changes mark them."
    )
    parts = [_strikes(view, with_name=len(views) > 1) for view in views]
    return f'<h2 id="strikes">Strikes</h2><p class="lead">{lead}</p>{"".join(parts)}'


def _findings(view: RunView, *, with_name: bool) -> str:
    head = f"<h3>{html.escape(view.name)}</h3>" if with_name else ""
    if not len(view.steps):
        return head + markup.empty("Nothing has been measured in this run yet.", 80)
    if not view.findings:
        return head + f'<p class="hint">{_NOTHING_STANDS_OUT}</p>'
    items = "".join(
        f"<dt>{html.escape(finding.title)}</dt><dd>{html.escape(sentence(finding.text))}</dd>"
        for finding in view.findings
    )
    return f'{head}<dl class="findings">{items}</dl>'


def _strikes(view: RunView, *, with_name: bool) -> str:
    head = f"<h3>{html.escape(view.name)}</h3>" if with_name else ""
    found = view.strikes
    if not found.num_judged:
        return head + markup.empty(
            "Could not be looked for: that needs more than 20 measurements at consecutive steps. schedule=rs.every(1), or "
            "--set recording.every=1 on the command line, records them.",
            80,
        )
    judged = f"{found.num_judged:,} of {found.num_judged + found.num_unjudged:,} measurements could be judged"
    unjudged = "; the others do not follow the step before, or too few measurements do before them."
    told = f'<p class="hint">{judged}{unjudged if found.num_unjudged else "."}</p>'
    if not found.strikes:
        return f"{head}{told}<p>No strike among them.</p>"
    largest = sorted(found.strikes, key=lambda one: -one.largest_z)[:_MOST_STRIKES]
    rows = "".join(_strike(strike, view) for strike in sorted(largest, key=lambda one: one.step))
    rest = len(found.strikes) - len(largest)
    more = f'<p class="hint">The {_MOST_STRIKES} largest of {len(found.strikes):,}.</p>' if rest else ""
    return (
        f'{head}{told}<div class="scroll"><table class="strikes"><thead><tr><th class="n">step</th><th>appeared at</th>'
        '<th>vanished at</th><th class="n">largest z</th><th>training images in the batch</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_what_indices_are(view)}{more}"
    )


def _what_indices_are(view: RunView) -> str:
    """Into what the indices of a training of the lab point; of another one its own loop knows."""
    if "batch_indices" in view.info:
        words = f"{view.info['batch_indices']}, counted from 0"
    elif "training_steps" in view.info:  # of the lab, before it logged anything else
        words = "places among the images that are trained on, without those kept back: of lab.load_for(...).images, from 0"
    else:
        return ""
    return f'<p class="hint">Training images: {html.escape(words)}.</p>'


def _strike(strike: RunStrike, view: RunView) -> str:
    cells = [
        html.escape(name_sites(sites, view.sites)) if sites else "-"
        for sites in (strike.appeared, strike.vanished)
    ]
    return (
        f'<tr><td class="n">{strike.step:,}</td><td>{cells[0]}</td><td>{cells[1]}</td>'
        f'<td class="n">{strike.largest_z:.0f}</td><td>{_batch(strike)}</td></tr>'
    )


def _batch(strike: RunStrike) -> str:
    """The first indices, and all of them on demand."""
    if strike.batch_indices is None:
        return "not logged: recorder.log(step, batch_indices=...)"
    indices = [str(index) for index in strike.batch_indices]
    if len(indices) <= _FIRST_INDICES:
        return ", ".join(indices)
    first = ", ".join(indices[:_FIRST_INDICES])
    return f"<details><summary>{first}, ... ({len(indices)})</summary>{', '.join(indices)}</details>"

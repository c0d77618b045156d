"""The pass: run the model over the probe, frozen and quiet, and hand the pre-activations of each site on."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reluscope.errors import NoSitesError, ProbeError
from reluscope.observe import quiet
from reluscope.observe.frames import framed_modules
from reluscope.observe.hooks import list_silent_hooks
from reluscope.observe.mode import ObservationMode
from reluscope.observe.parameters import ParameterKeeper
from reluscope.observe.probe import Probe, probe_tensors
from reluscope.observe.sites import (
    Lane,
    Site,
    SiteBatch,
    Unobserved,
    check_same_sites,
    check_selection,
    matches,
)
from reluscope.observe.state import find_hidden_modules, kept_attributes
from reluscope.observe.subject import Inventory, check_model, list_scripted, named_parameters, take_inventory
from reluscope.observe.watcher import BatchInfo, Watcher

__all__ = ["Observation", "observe", "run_pass"]

# Some guards set what the whole process shares. Two passes at once would put back each other's settings.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one pass has met.

    Args:
        sites: the selected sites, in the order of the forward pass.
        all_sites: all of them, selected or not.
        unobserved: activations, hooks and modules that were met and are not observed, with the reason.
        num_samples: samples that went through the model.
    """

    sites: tuple[Site, ...]
    all_sites: tuple[Site, ...]
    unobserved: tuple[Unobserved, ...]
    num_samples: int


def observe(
    model: nn.Module,
    probe: Probe,
    mode: ObservationMode,
    consume: Callable[[SiteBatch], None],
    *,
    lane: Callable[[Site], Lane | None] | None = None,
    expected: Sequence[Site] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Observation:
    """Run one measurement's pass over the probe and hand every selected site's pre-activations to `consume`.

    The model is left as it was: parameters, buffers, attributes, gradients, modes, hooks and random streams.
    An exception of the model passes through unchanged, with a note, after everything is restored.

    Args:
        model: any module; DataParallel, DistributedDataParallel and `torch.compile` wrappers are taken off.
        probe: the inputs.
        mode: what is observed, and in which state.
        consume: called once per selected site and batch, in the order of the forward pass, before the
            activation runs.
        lane: asked for every selected site when the first batch has passed: a short way for the others, or None.
        expected: the sites of an earlier observation, which this one must visit again.
        on_batch: called after each batch with its index, from 0, and the number of batches.

    Raises:
        UnsupportedModelError: no module, scripted as a whole, or lazy and not yet initialised.
        NoSitesError: the pass calls no activation that can be observed.
        UnknownSiteError: a name or glob of the mode matches no site.
        SitesChangedError: a batch, or this pass against `expected`, visited other sites.
        UnitAxisError: `channel_dim` does not fit a site.
        ProbeError: `batch_norm="batch"` and a batch of one.
        MeasurementError: the forward pass changed a parameter in a way that cannot be undone.
    """
    watcher, unobserved = run_pass(model, probe, mode, consume, expected, on_batch, lane=lane)
    if not watcher.sites:
        raise NoSitesError(_no_sites(unobserved))
    return Observation(
        sites=tuple(site for site in watcher.sites if matches(site.name, mode.globs)),
        all_sites=tuple(watcher.sites),
        unobserved=tuple(unobserved),
        num_samples=probe.num_samples,
    )


def run_pass(
    model: nn.Module,
    probe: Probe,
    mode: ObservationMode,
    consume: Callable[[SiteBatch], None],
    expected: Sequence[Site] | None,
    on_batch: Callable[[int, int], None] | None,
    *,
    lane: Callable[[Site], Lane | None] | None = None,
    first_only: bool = False,
) -> tuple[Watcher, list[Unobserved]]:
    """`observe` without the demand for a site; `first_only` stops after one batch."""
    root = check_model(model)
    with _ONE_AT_A_TIME:
        inventory = take_inventory(root)
        hidden = find_hidden_modules(inventory.everything)
        everything = [*inventory.everything, *hidden]
        parameters = ParameterKeeper(named_parameters(inventory, hidden))
        refuse = functools.partial(_refuse_batch_of_one, probe)
        norms = nn.modules.batchnorm._BatchNorm
        if mode.batch_norm == "batch" and any(isinstance(one, norms) for one in everything):
            refuse()
        watcher = Watcher(mode, inventory.modules.keys(), consume, parameters, refuse, lane=lane)
        unobserved = [*list_silent_hooks(inventory.modules), *list_scripted(inventory)]
        with _guarded(inventory, everything, parameters, watcher, mode):
            for index in _watched_batches(inventory, probe, watcher):
                if index == 0:
                    _check_first(watcher, mode, expected)
                if on_batch is not None:
                    on_batch(index, probe.num_batches)
                if first_only:
                    break
    return watcher, [*watcher.unobserved.values(), *unobserved]


def _watched_batches(inventory: Inventory, probe: Probe, watcher: Watcher) -> Iterator[int]:
    """Run the model on one batch after the other; the number of each that has passed."""
    offset = 0
    for index, (args, kwargs, labels) in enumerate(probe.batches(inventory.device)):
        size = min(probe.batch_size, probe.num_samples - offset)
        inputs = [one for one in probe_tensors((args, kwargs)) if one.ndim]
        watcher.begin(BatchInfo(index, offset, size, labels), inputs)
        with _noted(index, probe.num_batches):
            with watcher:
                inventory.root(*args, **kwargs)
            watcher.end()
        yield index
        offset += size


@contextmanager
def _guarded(
    inventory: Inventory,
    everything: list[nn.Module],
    parameters: ParameterKeeper,
    watcher: Watcher,
    mode: ObservationMode,
) -> Iterator[None]:
    """All guards. Attributes come first and are put back last, so that they see the modules as they were."""
    device_type = inventory.device.type if inventory.device else "cpu"
    plain = [module for module in everything if not isinstance(module, torch.jit.ScriptModule)]
    guards: list[Callable[[], Any]] = [
        torch.no_grad,
        quiet.ambient_modes,
        parameters.keep,
        lambda: kept_attributes(plain),
        lambda: quiet.kept_script_buffers(inventory.scripted.values()),
        lambda: quiet.silent_hooks(plain),
        quiet.silent_global_hooks,
        lambda: quiet.framed_forwards(framed_modules(inventory, watcher)),
        lambda: quiet.eval_mode(everything),
        quiet.eager_only,
        quiet.random_streams,
        lambda: quiet.ambient_autocast(device_type, mode.autocast),  # pyright: ignore[reportArgumentType]
        quiet.parametrization_cache,
        quiet.quiet_checkpoints,
    ]
    with ExitStack() as stack:
        for guard in guards:
            stack.enter_context(guard())
        yield


@contextmanager
def _noted(index: int, num_batches: int) -> Iterator[None]:
    """Say in a note on the model's own exception where it was raised."""
    try:
        yield
    except BaseException as error:
        error.add_note(
            f"reluscope: raised during a measurement, in batch {index} of {num_batches} of the probe."
        )
        raise


def _check_first(watcher: Watcher, mode: ObservationMode, expected: Sequence[Site] | None) -> None:
    if watcher.sites:
        check_selection(mode, [site.name for site in watcher.sites], watcher.unobserved.values())
    if expected is not None:
        known = [(site.name, site.operation, site.width) for site in expected]
        found = [label for label in watcher.labels if matches(label[0], mode.globs)]
        check_same_sites(known, found, "than at the earlier measurement")


def _refuse_batch_of_one(probe: Probe) -> None:
    if probe.last_batch_size > 1:
        return
    if probe.num_samples == 1 or probe.batch_size == 1:
        found = f"{probe.num_samples} samples in batches of {probe.batch_size}"
    else:
        found = f"{probe.num_samples} samples in batches of {probe.batch_size} leave a last batch of one"
    raise ProbeError(
        'batch_norm="batch" normalises with the statistics of each batch, and a batch of one has none: '
        f'{found}. Use another batch_size, another number of samples, or batch_norm="running".'
    )


def _no_sites(unobserved: Sequence[Unobserved]) -> str:
    seen = "; ".join(f'"{one.name}" ({one.operation}): {one.reason}' for one in unobserved[:6])
    return (
        "the forward pass calls no activation that can be observed. "
        + (f"Met, but not observed: {seen}. " if seen else "No activation at all was met. ")
        + "Observed are ReLU and its relatives in module, functional and in-place form, clamp(min=0) and "
        "maximum(x, 0), and with smooth=True the sign at GELU, SiLU, tanh and their like."
    )

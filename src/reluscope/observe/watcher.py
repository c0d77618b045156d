"""The watcher: a torch function mode that sees every call of a forward pass and hands pre-activations on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from reluscope.observe.activations import ActivationCall, Recogniser, activation_table, is_transformed
from reluscope.observe.axes import AxisTags
from reluscope.observe.frames import Frame
from reluscope.observe.functions import canonical
from reluscope.observe.masks import MaskTracker
from reluscope.observe.mode import ObservationMode
from reluscope.observe.names import Namer
from reluscope.observe.parameters import ParameterKeeper, writes_in_place
from reluscope.observe.samples import SampleTags
from reluscope.observe.sites import (
    Lane,
    Site,
    SiteBatch,
    Unobserved,
    check_same_sites,
    describe_site,
    matches,
)

__all__ = ["BatchInfo", "Watcher"]

Label = tuple[str, str, int]
_FULL_FLOATS = (torch.float32, torch.float64)
# torch's own, whatever may stand in their place later on.
_RELU_IN_PLACE = (torch.relu_, torch.Tensor.relu_)
_RELU = (functional.relu, torch.relu, torch.Tensor.relu, *_RELU_IN_PLACE)

_TRANSFORMED = (
    "it is called inside torch.func (vmap, grad, jvp...), where a tensor shows one sample and holds another; "
    "call the activation outside of the transformation"
)


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """The batch that is passing through the model."""

    index: int
    offset: int
    num_samples: int
    labels: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class _Decision:
    """What the first batch decided on one recognised call; later batches follow it."""

    path: str
    operation: str
    base: str  # of the site's name, before numbering
    site: Site | None
    selected: bool

    def is_of(self, frame: Frame, operation: str) -> bool:
        return self.path == frame.path and self.operation == operation


def _labels(sites: Iterable[Site]) -> list[Label]:
    return [(site.name, site.operation, site.width) for site in sites]


def _is_bare(tensor: torch.Tensor) -> bool:
    """Whether nothing but a tensor's values counts, 32-bit or more: no gradient, tangent, subclass or dispatch mode looks on."""
    return (
        type(tensor) is torch.Tensor
        and tensor.dtype in _FULL_FLOATS
        and not tensor.requires_grad
        and forward_ad._current_level < 0
        and torch._C._len_torch_dispatch_stack() == 0
    )


class Watcher(TorchFunctionMode):
    """Watches one measurement, batch after batch; the first batch fixes the list of sites.

    Args:
        mode: what is observed.
        paths: all module paths of the model.
        consume: receives the selected sites' batches, before the activation runs.
        parameters: told of every call that may write to a parameter, before it runs.
        refuse_batch_norm: called when a batch norm is met that must not be normalised with the batch.
        lane: gives a selected site's short way for further batches, or None.
    """

    def __init__(
        self,
        mode: ObservationMode,
        paths: Collection[str],
        consume: Callable[[SiteBatch], None],
        parameters: ParameterKeeper,
        refuse_batch_norm: Callable[[], None],
        *,
        lane: Callable[[Site], Lane | None] | None = None,
    ) -> None:
        super().__init__()
        self.stack: list[Frame] = [Frame("", False)]
        self.sites: list[Site] = []  # all, selected or not
        self.unobserved: dict[tuple[str, str], Unobserved] = {}
        self.failure: BaseException | None = None
        self._mode, self._paths, self._consume = mode, paths, consume
        self._parameters, self._refuse_batch_norm = parameters, refuse_batch_norm
        self._handlers: dict[Any, Callable[..., Any] | None] = self._make_handlers()
        self._lane_of = lane
        self._decisions: list[_Decision] = []
        self._lanes: list[Lane | None] = []  # of each decision, from the second batch on
        self._samples, self._masks = SampleTags(), MaskTracker()
        self._tags = AxisTags(self._samples)
        self.is_first = True
        self._diverged = False
        self._has_batch_norm = False  # none was met yet

    # One batch ---------------------------------------------------------------------------------------------

    def begin(self, batch: BatchInfo, inputs: list[torch.Tensor]) -> None:
        """Get ready for the next batch; `inputs` are the tensors that the model gets."""
        self._batch = batch
        if self.is_first:
            self._samples.begin(inputs, batch.num_samples)
        elif not self._lanes and self._lane_of is not None:
            self._lanes = [
                self._lane_of(one.site) if one.selected and one.site else None for one in self._decisions
            ]
        self._namer = Namer(self._paths)
        self._different: list[Label] = []  # sites since the first that differs from those of the first batch
        self._cursor = 0  # recognised calls up to there

    def end(self) -> None:
        """Check that the batch visited what the first one did."""
        if self.failure is not None:
            raise self.failure  # the model's own `except` swallowed it
        if not self.is_first:
            found = [
                *_labels(one.site for one in self._decisions[: self._cursor] if one.site),
                *self._different,
            ]
            check_same_sites(self.labels, found, f"in batch {self._batch.index} than in batch 0")
        self.is_first = False

    @property
    def labels(self) -> list[Label]:
        """(name, operation, width) of every site."""
        return _labels(self.sites)

    @property
    def normalises_with_batch(self) -> bool:
        """Whether batch norms take the statistics of each batch."""
        return self._mode.batch_norm == "batch"

    # One call ----------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            handler = self._handlers[func]
        except KeyError:
            handler = self._handlers[func] = self._handler_of(func)
        if kwargs is None:
            kwargs = {}
        elif "out" in kwargs:
            self._parameters.about_to_write(func, args, kwargs)
        if not self.is_first:
            return func(*args, **kwargs) if handler is None else handler(func, args, kwargs)
        result = func(*args, **kwargs) if handler is None else handler(func, args, kwargs)
        known = canonical(func)
        if isinstance(result, (torch.Tensor, tuple, list)):
            self._tags.note(known, args, kwargs, result)
            self._samples.note(known, args, kwargs, result)
        if (use := self._masks.note(known, args, kwargs, result)) is not None:
            self._list_mask(use)
        return result

    def _make_handlers(self) -> dict[Any, Callable[..., Any] | None]:
        handlers: dict[Any, Callable[..., Any] | None] = {}
        for function, recognise in activation_table().items():
            handlers[function] = functools.partial(self._recognised, recognise, writes_in_place(function))
        handlers.update(
            (function, functools.partial(self._relu, function in _RELU_IN_PLACE)) for function in _RELU
        )
        if self._mode.batch_norm == "batch":
            handlers[functional.batch_norm] = self._batch_norm
            handlers[torch.batch_norm] = self._raw_batch_norm
        return handlers

    def _handler_of(self, func: Any) -> Callable[..., Any] | None:
        """For a function met for the first time: an operator is handled as the function it stands for."""
        known = canonical(func)
        if known is not func and (handler := self._handlers.get(known)) is not None:
            return handler
        return self._write if writes_in_place(func) else None

    def _write(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._parameters.about_to_write(func, args, kwargs)
        return func(*args, **kwargs)

    def _recognised(
        self, recognise: Recogniser, writes: bool, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = recognise(args, kwargs)
        if call is not None:
            self.activation(self.stack[-1], call)
        return self._write(func, args, kwargs) if writes else func(*args, **kwargs)

    def _relu(self, writes: bool, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """F.relu(input, inplace=False), torch.relu(input), input.relu() and their in-place forms."""
        tensor = args[0] if args else kwargs.get("input", kwargs.get("self"))
        if not isinstance(tensor, torch.Tensor):
            return func(*args, **kwargs)
        if "out" in kwargs:  # an operator's: the result belongs there
            self.activation(self.stack[-1], ActivationCall("relu", tensor))
            return func(*args, **kwargs)
        if writes:
            self._parameters.about_to_write(func, args, kwargs)
        in_place = writes or bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
        result = self.relu(self.stack[-1], tensor, in_place=in_place)
        return func(*args, **kwargs) if result is None else result

    def relu(self, frame: Frame, tensor: torch.Tensor, *, in_place: bool) -> torch.Tensor | None:
        """A ReLU is about to run: hand its input on if it is a site; its result where it need not run any more."""
        index = self._cursor
        lane = self._lanes[index] if index < len(self._lanes) else None
        if lane is not None and self._decisions[index].is_of(frame, "relu"):
            output = None
            if _is_bare(tensor):
                # The strides of an axis of length 1 mean nothing, and torch chooses others than `empty_like`.
                output = tensor if in_place else None if 1 in tensor.shape else torch.empty_like(tensor)
            try:
                is_written = lane(tensor, output)
            except BaseException as error:
                self.failure = error
                raise
            if is_written is not None:
                self._cursor = index + 1
                if not is_written:
                    return None
                if in_place and not tensor.is_inference():
                    increment_version(tensor)
                return output
            del output  # its memory, before the activation takes as much
        self.activation(frame, ActivationCall("relu", tensor))
        return None

    def activation(self, frame: Frame, call: ActivationCall) -> None:
        """An activation is about to run: hand its input on if it is a site."""
        if self.is_first:
            decision = self._decide(frame, call)
            self._decisions.append(decision)
        elif (decision := self._follow(frame, call)) is None:
            return
        site = decision.site
        if site is None:
            return
        if decision.selected:
            batch = self._batch
            try:
                self._consume(
                    SiteBatch(
                        site, call.tensor.detach(), batch.index, batch.offset, batch.num_samples, batch.labels
                    )
                )
            except BaseException as error:
                self.failure = error
                raise

    def _decide(self, frame: Frame, call: ActivationCall) -> _Decision:
        """The first batch: is the call a site, how is it called, is it selected?"""
        base = self._namer.base(frame.path, call.operation, is_module_call=frame.is_activation)
        ignored = _Decision(frame.path, call.operation, base, None, False)
        if is_transformed(call.tensor):
            self._list(base, frame.path, call.operation, _TRANSFORMED)
            return ignored
        if call.guarded and not self._is_batch(call.tensor):
            return ignored
        reason = call.reason or self._unusable(call)
        if reason:
            self._list(base, frame.path, call.operation, reason)
            return ignored
        name = self._namer.name(base)
        try:
            site = describe_site(
                name,
                frame.path,
                call,
                self._tags.find(call.tensor),
                self._mode,
                self._batch.num_samples if self._samples.is_sample_major(call.tensor) else None,
            )
        except BaseException as error:
            self.failure = error
            raise
        self.sites.append(site)
        return _Decision(frame.path, call.operation, base, site, matches(name, self._mode.globs))

    def _follow(self, frame: Frame, call: ActivationCall) -> _Decision | None:
        """Later batches: the decision of the first, or None once the calls differ from it."""
        if not self._diverged and self._cursor < len(self._decisions):
            decision = self._decisions[self._cursor]
            if decision.is_of(frame, call.operation):
                site, shape = decision.site, call.tensor.shape
                if site is None or (
                    len(shape) > site.channel_dim and shape[site.channel_dim] == site.num_units
                ):
                    self._cursor += 1
                    return decision
        if not self._diverged:
            self._diverged, self._lanes = True, []
            for decision in self._decisions[: self._cursor]:
                if decision.site is not None:
                    self._namer.name(decision.base)
        # From here on only for the text of the error: names as a first batch would give them.
        hidden = is_transformed(call.tensor) or call.reason or self._unusable(call)
        if not hidden and (not call.guarded or self._is_batch(call.tensor)):
            base = self._namer.base(frame.path, call.operation, is_module_call=frame.is_activation)
            axis = self._tags.find(call.tensor).axis
            width = call.tensor.shape[axis] * len(call.kinks)
            self._different.append((self._namer.name(base), call.operation, width))
        return None

    def _is_batch(self, tensor: torch.Tensor) -> bool:
        return (
            tensor.is_floating_point()
            and tensor.ndim >= 2
            and tensor.shape[0] > 0
            and tensor.shape[0] % self._batch.num_samples == 0
            and not isinstance(tensor, torch.nn.Parameter)
        )

    def _unusable(self, call: ActivationCall) -> str:
        """Why a recognised call is not observed, or nothing."""
        if call.smooth and not self._mode.smooth:
            return f"{call.operation} is smooth and has no kink; smooth=True observes the sign of its input"
        if not call.tensor.is_floating_point():
            return f"its input is of dtype {call.tensor.dtype}, not floating"
        if call.tensor.ndim < 2 or call.tensor.numel() == 0:
            return f"its input has shape {tuple(call.tensor.shape)}: no axis of units beside that of samples"
        return ""

    # What is listed -----------------------------------------------------------------------------------------

    def _list(self, name: str, module: str, operation: str, reason: str) -> None:
        entry = Unobserved(name=name, module=module, operation=operation, reason=reason)
        self.unobserved.setdefault((name, operation), entry)

    def _list_mask(self, function: str) -> None:
        path = self.stack[-1].path
        self._list(
            self._namer.base(path, function, is_module_call=False),
            path,
            function,
            f"{function} completes a rectifier spelled out, which is not observed; "
            "write it as F.relu or clamp(min=0)",
        )

    # Batch norm ---------------------------------------------------------------------------------------------

    def _batch_norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)."""
        return self._with_batch_statistics(func, args, kwargs, (1, 2, 5))

    def _raw_batch_norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, ...)."""
        return self._with_batch_statistics(func, args, kwargs, (3, 4, 5))

    def _with_batch_statistics(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        places: tuple[int, ...],
    ) -> Any:
        """Without running statistics torch takes the batch's, and has nothing to update."""
        if not self._has_batch_norm:
            try:
                self._refuse_batch_norm()
            except BaseException as error:
                self.failure = error
                raise
            self._has_batch_norm = True
        changed = list(args)
        names = ("running_mean", "running_var", "training")
        for place, name, value in zip(places, names, (None, None, True), strict=True):
            if place < len(changed):
                changed[place] = value
            else:
                kwargs = {**kwargs, name: value}
        return func(*changed, **kwargs)

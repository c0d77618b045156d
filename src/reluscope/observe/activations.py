"""The table of activation functions: which calls are activations, and where their kinks lie.

A bit per kink is on iff the pre-activation exceeds the kink. The table maps what a `TorchFunctionMode` sees,
which is the outermost function (`F.relu`, not the `torch.relu` inside), to a recogniser that reads the
call's arguments.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional

__all__ = ["ActivationCall", "Recogniser", "activation_table", "is_activation_module", "is_transformed"]


class ActivationCall(NamedTuple):
    """One call of an activation function, read but not yet run.

    `guarded` calls (clamp, maximum, methods that serve other ends as well) are sites only on floating
    tensors of at least two dimensions whose axis 0 is the batch. `reason` says why the call cannot be
    observed at all.
    """

    operation: str
    tensor: torch.Tensor
    kinks: tuple[float, ...] = (0.0,)
    smooth: bool = False
    guarded: bool = False
    reason: str = ""


Recogniser = Callable[[tuple[Any, ...], Mapping[str, Any]], ActivationCall | None]


def is_activation_module(module: object) -> bool:
    """Whether a module is one of torch's activation modules, or derived from one: it names its own call."""
    return any(
        base.__module__ == "torch.nn.modules.activation" and base.__name__ != "MultiheadAttention"
        for base in type(module).__mro__
    )


def _argument(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], index: int, name: str, default: Any = None
) -> Any:
    if len(args) > index:
        return args[index]
    # Operators (torch.ops.aten) call their first argument self.
    return kwargs.get(name, kwargs.get("self", default) if index == 0 else default)


def is_transformed(tensor: torch.Tensor) -> bool:
    """Whether a tensor belongs to a transformation of torch.func, so that its values cannot be read."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore


def _number(value: Any) -> float | None:
    """A Python number, or the value of a tensor with one element; None for everything else."""
    if isinstance(value, (int, float)):
        return float(value)
    if (
        isinstance(value, torch.Tensor)
        and value.numel() == 1
        and not value.is_complex()
        and not is_transformed(value)
    ):
        return float(value.item())
    return None


def _fixed(operation: str, *kinks: float, smooth: bool = False, guarded: bool = False) -> Recogniser:
    def recognise(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
        tensor = _argument(args, kwargs, 0, "input")
        if not isinstance(tensor, torch.Tensor):
            return None
        return ActivationCall(operation, tensor, kinks, smooth, guarded)

    return recognise


def _bounded(
    operation: str, parameters: tuple[tuple[str, float], ...], *, symmetric: bool = False
) -> Recogniser:
    """Kinks from arguments that follow the input: (name, default) each; `symmetric` puts them at -l and l."""

    def recognise(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
        tensor = _argument(args, kwargs, 0, "input")
        if not isinstance(tensor, torch.Tensor):
            return None
        found = [
            _number(_argument(args, kwargs, i, name, value)) for i, (name, value) in enumerate(parameters, 1)
        ]
        kinks = [value for value in found if value is not None]
        if len(kinks) < len(parameters):
            return ActivationCall(operation, tensor, reason=f"{operation} with bounds that are not numbers")
        if symmetric:
            kinks = [0.0 - kinks[0], kinks[0]]
        return ActivationCall(operation, tensor, tuple(kinks))

    return recognise


def _clamp(names: tuple[str | None, str | None]) -> Recogniser:
    """clamp and its relatives; `names` are those of the lower and upper bound, None where there is none."""

    def recognise(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
        tensor = _argument(args, kwargs, 0, "input")
        if not isinstance(tensor, torch.Tensor):
            return None
        bounds = [
            _argument(args, kwargs, i, name)
            for i, name in enumerate((name for name in names if name is not None), 1)
        ]
        given = [bound for bound in bounds if bound is not None]
        numbers = [_number(bound) for bound in given]
        if any(number is None for number in numbers):
            return ActivationCall("clamp", tensor, guarded=True, reason="clamp with a bound per element")
        kinks = tuple(float(number) for number in numbers if number is not None and math.isfinite(number))
        if len(kinks) == 2 or (kinks == (0.0,) and numbers[0] == 0.0 and bounds[0] is not None and names[0]):
            return ActivationCall("clamp", tensor, kinks, guarded=True)
        return None  # clamp(min=1e-6) keeps a logarithm finite: no activation

    return recognise


def _maximum(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
    """maximum(x, 0) with the zero on either side: a number-like tensor, or one of zeros throughout."""
    left, right = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if not isinstance(left, torch.Tensor) or not isinstance(right, torch.Tensor):
        return None  # max(x, dim) reduces
    for tensor, bound in ((left, right), (right, left)):
        if is_transformed(bound):
            return ActivationCall("maximum", left)  # whether the other one is zero cannot be read
        if (bound.numel() < tensor.numel() or bound.shape == tensor.shape) and not bool(bound.any()):
            return ActivationCall("maximum", tensor, guarded=True)
    return None


def _fused(operation: str, reason: str) -> Recogniser:
    """A call that holds an activation within, listed with the reason why it is not observed."""

    def recognise(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ActivationCall | None:
        tensor = _argument(args, kwargs, 0, "input")
        if not isinstance(tensor, torch.Tensor):
            return None
        return ActivationCall(operation, tensor, reason=reason)

    return recognise


def _kinked() -> dict[str, Recogniser]:
    """Functions by name; each is looked up in every namespace that may hold it, plain and in-place."""
    return {
        "relu": _fixed("relu", 0.0),
        "leaky_relu": _fixed("leaky_relu", 0.0),
        "prelu": _fixed("prelu", 0.0),
        "rrelu": _fixed("rrelu", 0.0),
        "relu6": _fixed("relu6", 0.0, 6.0),
        "hardsigmoid": _fixed("hardsigmoid", -3.0, 3.0),
        "hardtanh": _bounded("hardtanh", (("min_val", -1.0), ("max_val", 1.0))),
        "threshold": _bounded("threshold", (("threshold", 0.0),)),
        "hardshrink": _bounded("hardshrink", (("lambd", 0.5),), symmetric=True),
        "softshrink": _bounded("softshrink", (("lambd", 0.5),), symmetric=True),
        "clamp": _clamp(("min", "max")),
        "clip": _clamp(("min", "max")),
        "clamp_min": _clamp(("min", None)),
        "clamp_max": _clamp((None, "max")),
        "maximum": _maximum,
        "fmax": _maximum,
        "max": _maximum,
    }


# tanh and sigmoid serve as gates and in losses too, so like clamp they count only where axis 0 is the batch.
_SMOOTH = (
    *("gelu", "silu", "elu", "selu", "celu", "mish", "softplus"),
    *("hardswish", "logsigmoid", "softsign", "tanhshrink", "tanh", "sigmoid"),
)

_RECURRENT = (
    "the recurrent kernel computes its activations inside one fused call; write the recurrence with RNN "
    "cells and F.relu to observe it"
)
_ENCODER = "torch's fused encoder layer computes its activation inside one call"


def _fused_table() -> dict[str, Recogniser]:
    recurrent = {
        "rnn_relu": "rnn_relu",
        "rnn_relu_cell": "rnn_relu",
        "rnn_tanh": "rnn_tanh",
        "rnn_tanh_cell": "rnn_tanh",
        "lstm": "lstm",
        "lstm_cell": "lstm",
        "gru": "gru",
        "gru_cell": "gru",
    }
    table = {name: _fused(operation, _RECURRENT) for name, operation in recurrent.items()}
    table["_transformer_encoder_layer_fwd"] = _fused("transformer_encoder_layer", _ENCODER)
    table["glu"] = _fused("glu", "a gate, the product of one half with the sigmoid of the other, has no kink")
    return table


@functools.cache
def activation_table() -> dict[Any, Recogniser]:
    """Every torch function that is an activation, with the recogniser of its calls.

    Keys are the function objects that `__torch_function__` receives: of `torch`, `torch.Tensor`,
    `torch.nn.functional` and `torch._C._nn`, plain and in-place, as far as this torch version has them.
    """
    named = _kinked()
    named.update((name, _fixed(name, 0.0, smooth=True, guarded=True)) for name in _SMOOTH)
    named.update(_fused_table())
    table: dict[Any, Recogniser] = {}
    for name, recogniser in named.items():
        for namespace in (torch, torch.Tensor, functional, torch._C._nn):  # pyright: ignore
            for spelling in (name, name + "_"):
                function = getattr(namespace, spelling, None)
                if function is not None:
                    table[function] = recogniser
    return table

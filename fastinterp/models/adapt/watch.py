"""Watching a pass of a module: which functions are called, what a layer gives, what stands before a last softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What may stand between a convolution and its activation, by the names that torch's functions have.
_BETWEEN = frozenset(
    (
        "batch_norm",
        "dropout",
        "dropout1d",
        "feature_dropout",
        "alpha_dropout",
        "squeeze",
        "unsqueeze",
        "transpose",
        "permute",
        "movedim",
        "swapaxes",
        "view",
        "reshape",
        "flatten",
        "contiguous",
    )
)
ACTIVATIONS = frozenset(
    (
        "relu",
        "relu_",
        "leaky_relu",
        "leaky_relu_",
        "prelu",
        "relu6",
        "hardtanh",
        "hardtanh_",
        "tanh",
        "tanh_",
        "sigmoid",
        "sigmoid_",
        "gelu",
        "silu",
        "elu",
        "elu_",
        "selu",
        "celu",
        "softplus",
        "mish",
        "hardswish",
        "hardsigmoid",
        "rrelu",
        "softsign",
    )
)
_VIEWS = frozenset(
    (
        "squeeze",
        "unsqueeze",
        "view",
        "reshape",
        "flatten",
        "contiguous",
        "select",
        "__getitem__",
    )
)
_LAST = {"sigmoid": "sigmoid", "logsigmoid": "sigmoid", "softmax": "softmax", "log_softmax": "softmax"}


class Reached(BaseException):
    """Ends a pass at the layer that was asked for. No Exception: a module's own handlers must not catch it."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a module in a pass: what is explained is its output.

    Attributes:
        module: dotted name.
        call: which of its calls, from 1.
        activated: whether that output goes straight into an activation function, whose output is then explained.
    """

    module: str
    call: int
    activated: bool

    @property
    def name(self) -> str:
        """The layer's name: the module's, with the number of the call where it is not the first."""
        return self.module if self.call == 1 else f"{self.module}:{self.call}"


@dataclass
class Passed:
    """What one pass gave.

    Attributes:
        embedded: (B, L, D) word vectors, the start of the gradient's way.
        outputs: the module's class scores as they came, before a softmax or sigmoid at the end; None of a pass that
            ended at the layer.
        last: "softmax" or "sigmoid" where the module ends in one, else None.
        layer: the layer's output as it came; None where the pass had no such call.
        calls: what was called in a pass that recorded its calls.
    """

    embedded: Tensor | None = None
    outputs: Tensor | None = None
    last: str | None = None
    layer: Tensor | None = None
    calls: list[LayerCall] = field(default_factory=list)


class Watch(TorchFunctionMode):
    """Sees each function that a pass calls: finds a layer's activation, and what a last softmax was given."""

    def __init__(self, passed: Passed, layer: LayerCall | None, stop: bool, records: bool) -> None:
        super().__init__()
        self._passed, self._layer, self._stop, self._records = passed, layer, stop, records
        self._calls: dict[str, int] = {}
        # By the identity of tensors, all of which are kept alive so that none gets another's.
        self._awaited: dict[int, LayerCall] = {}
        self._before: dict[int, tuple[Tensor, str]] = {}
        self._alive: list[Tensor] = []

    def layer_hook(self) -> Callable[..., object]:
        """The hook of the layer that is read."""
        layer = self._layer
        count = 0

        def read(module: nn.Module, given: object, output: Any) -> object:
            nonlocal count
            count += 1
            if layer is None or count != layer.call:
                return None
            first = _first_of(output)
            if not isinstance(first, Tensor):
                raise ValueError(
                    f"layer: expected one that gives a tensor, got {type(output).__name__} from {layer.name}; name a "
                    "layer behind it"
                )
            if layer.activated:
                self._await(first, layer)
                return None
            kept = self._read(first)
            return (kept, *output[1:]) if isinstance(output, tuple) else kept

        return read

    def recording_hook(self, name: str) -> Callable[..., None]:
        """The hook of a module whose calls are listed."""

        def record(module: nn.Module, given: object, output: Any) -> None:
            self._calls[name] = self._calls.get(name, 0) + 1
            first = _first_of(output)
            if isinstance(first, Tensor):
                call = LayerCall(name, self._calls[name], False)
                self._passed.calls.append(call)
                self._await(first, call)

        return record

    def before_softmax(self, outputs: Tensor) -> tuple[Tensor, str | None]:
        """Returns what the softmax or sigmoid that gave the outputs was given, and which it was."""
        return self._before.get(id(outputs), (outputs, None))

    def _await(self, output: Tensor, call: LayerCall) -> None:
        self._alive.append(output)
        self._awaited[id(output)] = call

    def _read(self, output: Tensor) -> Tensor:
        """Keeps the layer's output; what goes on is a copy, which may be written into."""
        self._passed.layer = output
        if self._stop:
            raise Reached
        return output.clone()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        source = args[0] if args else (kwargs or {}).get("input")
        if not isinstance(result, Tensor) or not isinstance(source, Tensor):
            return result
        name, key = getattr(func, "__name__", ""), id(source)
        if name in _LAST:
            self._alive.append(result)
            self._before[id(result)] = (source, _LAST[name])
        elif name in _VIEWS and key in self._before:
            scores, last = self._before[key]
            self._alive.append(result)
            self._before[id(result)] = (func(scores, *args[1:], **(kwargs or {})), last)
        call = self._awaited.get(key)
        if call is None:
            return result
        if name in _BETWEEN:
            self._await(result, call)
        elif name in ACTIVATIONS:
            if self._records:
                self._note(call)
            elif self._passed.layer is None:
                return self._read(result)
        return result

    def _note(self, call: LayerCall) -> None:
        """Notes that what was listed for a call goes through an activation first."""
        calls = self._passed.calls
        if call in calls:
            calls[calls.index(call)] = LayerCall(call.module, call.call, True)


def _first_of(output: Any) -> Any:
    """Returns what a layer gives, or the first of several things; a packed sequence is one."""
    return output[0] if isinstance(output, tuple) and not hasattr(output, "batch_sizes") else output

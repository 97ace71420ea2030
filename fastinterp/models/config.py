"""The shape of a ConvTextModel."""

from __future__ import annotations

import dataclasses
import operator
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "identity": nn.Identity,
    "tanh": nn.Tanh,
}

# No weight depends on the length of the frame, so nothing else would stop a damaged one before memory runs out.
MOST_POSITIONS = 1_000_000


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a ConvTextModel.

    Attributes:
        classes: names of the classes.
        length: L, number of token positions of the sentence frame, at most a million; longer sentences are cut.
        channels: channels of each convolution, first layer first.
        kernel_sizes: kernel width of each convolution.
        embedding_dimension: D, width of a word vector.
        activation: "relu", "leaky_relu" (slope 0.01), "identity" or "tanh".
        dropout: probability that a feature is dropped before the linear layer, in training. Table 2 gives none; a
            high one spreads the evidence so that fewer optimised inputs get their class back (matching rate).

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    classes: tuple[str, ...]
    length: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    embedding_dimension: int = 300
    activation: str = "relu"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        names = self.classes
        _expect(
            isinstance(names, tuple)
            and len(names) >= 2
            and all(isinstance(name, str) for name in names)
            and len(set(names)) == len(names),
            f"classes: expected at least two different names, got {reprlib.repr(names)}",
        )
        for name in names:
            _expect(_is_utf8(name), f"classes: {reprlib.repr(name)} holds a lone surrogate, which UTF-8 cannot write")
        for field in ("length", "embedding_dimension"):
            value = getattr(self, field)
            number = _positive_integer(value)
            _expect(number is not None, f"{field}: expected a positive integer, got {reprlib.repr(value)}")
            object.__setattr__(self, field, number)
        _expect(
            self.length <= MOST_POSITIONS,
            f"length: expected at most {MOST_POSITIONS}, got {reprlib.repr(self.length)}",
        )
        for field in ("channels", "kernel_sizes"):
            value = getattr(self, field)
            numbers = tuple(map(_positive_integer, value)) if isinstance(value, tuple) else ()
            _expect(
                len(numbers) > 0 and None not in numbers,
                f"{field}: expected one positive integer per layer, got {reprlib.repr(value)}",
            )
            object.__setattr__(self, field, numbers)
        _expect(
            len(self.channels) == len(self.kernel_sizes),
            f"kernel_sizes: expected {len(self.channels)} values, one per layer, got {len(self.kernel_sizes)}",
        )
        _expect(
            isinstance(self.activation, str) and self.activation in ACTIVATIONS,
            f"activation: expected one of {', '.join(ACTIVATIONS)}, got {reprlib.repr(self.activation)}",
        )
        _expect(
            isinstance(self.dropout, (int, float)) and not isinstance(self.dropout, bool) and 0 <= self.dropout < 1,
            f"dropout: expected a number from 0 to below 1, got {reprlib.repr(self.dropout)}",
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> ModelConfig:
        """Returns the configuration of a JSON object with the attributes' names; lists stand for tuples.

        Raises:
            ValueError: a field is unknown, missing or wrong; the message names it.
        """
        known = {each.name: each for each in dataclasses.fields(cls)}
        unknown = next((name for name in fields if name not in known), None)
        _expect(unknown is None, f"unknown field {reprlib.repr(unknown)}")
        required = [name for name, each in known.items() if each.default is dataclasses.MISSING]
        missing = next((name for name in required if name not in fields), None)
        _expect(missing is None, f"{missing} is missing")
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        return cls(**given)

    @classmethod
    def preset(cls, name: str, classes: Sequence[str], embedding_dimension: int = 300) -> ModelConfig:
        """Returns a configuration of the paper's Table 2 by the name of its data set, "mr" or "ag_news"."""
        if name not in _PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(_PRESETS)}, got {reprlib.repr(name)}")
        length, channels = _PRESETS[name]
        return cls(tuple(classes), length, channels, (5,) * len(channels), embedding_dimension)

    @property
    def layers(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def check_layer(self, layer: int) -> int:
        """Returns `layer` if it is the index of a convolution; raises ValueError otherwise."""
        index = _integer(layer)
        if index is None or not 0 <= index < self.layers:
            raise ValueError(
                f"layer: expected 0 to {self.layers - 1} (this model has {self.layers}), got {reprlib.repr(layer)}"
            )
        return index

    def receptive_field(self, layer: int) -> tuple[int, int]:
        """Returns how many tokens before and after its own position a location of `layer` sees."""
        kernels = self.kernel_sizes[: self.check_layer(layer) + 1]
        return sum((kernel - 1) // 2 for kernel in kernels), sum(kernel // 2 for kernel in kernels)


_PRESETS = {"mr": (56, (128, 64, 32)), "ag_news": (195, (512, 256, 128, 64))}


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _integer(value: object) -> int | None:
    """Returns Python's and NumPy's integers as Python's; None for all else, True and False included."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array or a tensor that is no integer
        return None


def _positive_integer(value: object) -> int | None:
    number = _integer(value)
    return number if number is not None and number > 0 else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

"""The shape of a ConvTextModel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "identity": nn.Identity,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a ConvTextModel.

    Attributes:
        classes: names of the classes.
        length: L, number of token positions of the sentence frame; longer sentences are cut.
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
        _expect(
            isinstance(self.classes, tuple)
            and len(self.classes) >= 2
            and all(isinstance(name, str) for name in self.classes)
            and len(set(self.classes)) == len(self.classes),
            f"classes: expected at least two different names, got {self.classes!r}",
        )
        for name in ("length", "embedding_dimension"):
            value = getattr(self, name)
            _expect(_is_positive_integer(value), f"{name}: expected a positive integer, got {value!r}")
        for name in ("channels", "kernel_sizes"):
            value = getattr(self, name)
            _expect(
                isinstance(value, tuple) and len(value) > 0 and all(map(_is_positive_integer, value)),
                f"{name}: expected one positive integer per layer, got {value!r}",
            )
        _expect(
            len(self.channels) == len(self.kernel_sizes),
            f"kernel_sizes: expected {len(self.channels)} values, one per layer, got {len(self.kernel_sizes)}",
        )
        _expect(
            self.activation in ACTIVATIONS,
            f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation!r}",
        )
        _expect(
            isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1,
            f"dropout: expected a number from 0 to below 1, got {self.dropout!r}",
        )

    @classmethod
    def preset(cls, name: str, classes: Sequence[str], embedding_dimension: int = 300) -> ModelConfig:
        """Returns a configuration of the paper's Table 2 by the name of its data set, "mr" or "ag_news"."""
        if name not in _PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(_PRESETS)}, got {name!r}")
        length, channels = _PRESETS[name]
        return cls(tuple(classes), length, channels, (5,) * len(channels), embedding_dimension)

    @property
    def layers(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def check_layer(self, layer: int) -> int:
        """Returns `layer` if it is the index of a convolution; raises ValueError otherwise."""
        _expect(
            isinstance(layer, int) and 0 <= layer < self.layers,
            f"layer: expected 0 to {self.layers - 1} (this model has {self.layers}), got {layer!r}",
        )
        return layer

    def receptive_field(self, layer: int) -> tuple[int, int]:
        """Returns how many tokens before and after its own position a location of `layer` sees."""
        kernels = self.kernel_sizes[: self.check_layer(layer) + 1]
        return sum((kernel - 1) // 2 for kernel in kernels), sum(kernel // 2 for kernel in kernels)


_PRESETS = {"mr": (56, (128, 64, 32)), "ag_news": (195, (512, 256, 128, 64))}


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

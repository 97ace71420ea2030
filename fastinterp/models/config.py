"""The shape of a ConvTextModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fastinterp.text.choice import TokenizerChoice, make_tokenizer, tokenizer_from_fields
from fastinterp.text.kim import KimTokenizer
from fastinterp.validation import choice, flag, got, integer, number

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
        tokenizer: what cuts the texts; as `make_tokenizer`, which makes a tokeniser of it. The paper's by default; for
            texts of your own "unicode" loses less.
        branches: whether the convolutions stand beside each other instead of upon each other: each reads the word
            vectors, and the maxima over time of all of them go to the linear layer (Kim 2014).

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
        TypeError: a tokeniser of another kind.
    """

    classes: tuple[str, ...]
    length: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    embedding_dimension: int = 300
    activation: str = "relu"
    dropout: float = 0.1
    # These are not in the repr, which is part of the fingerprint of models that were saved before there was a choice.
    tokenizer: TokenizerChoice = dataclasses.field(default_factory=KimTokenizer, repr=False)
    branches: bool = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        names = self.classes
        _expect(
            isinstance(names, tuple)
            and len(names) >= 2
            and all(isinstance(name, str) for name in names)
            and len(set(names)) == len(names),
            f"classes: expected at least two different names, got {got(names)}",
        )
        for name in names:
            _expect(_is_utf8(name), f"classes: {got(name)} holds a lone surrogate, which UTF-8 cannot write")
        checked: dict[str, object] = {
            "length": integer("length", self.length, least=1, most=MOST_POSITIONS),
            "embedding_dimension": integer("embedding_dimension", self.embedding_dimension, least=1),
            "channels": _one_per_layer("channels", self.channels),
            "kernel_sizes": _one_per_layer("kernel_sizes", self.kernel_sizes),
            "activation": choice("activation", self.activation, ACTIVATIONS),
            "dropout": number("dropout", self.dropout, least=0, below=1),
            "tokenizer": make_tokenizer(self.tokenizer),
            "branches": flag("branches", self.branches),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        _expect(
            len(self.channels) == len(self.kernel_sizes),
            f"kernel_sizes: expected {len(self.channels)} values, one per layer, got {len(self.kernel_sizes)}",
        )

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> ModelConfig:
        """Returns the configuration of a JSON object with the attributes' names; lists stand for tuples.

        Where it names no tokeniser it is of before there was a choice, and means the paper's.

        Raises:
            ValueError: a field is unknown, missing or wrong; the message names it.
        """
        known = {each.name: each for each in dataclasses.fields(cls)}
        unknown = next((name for name in fields if name not in known), None)
        _expect(unknown is None, f"unknown field {got(unknown)}")
        required = [
            name
            for name, each in known.items()
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        ]
        missing = next((name for name in required if name not in fields), None)
        _expect(missing is None, f"{missing} is missing")
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        if "tokenizer" in given:
            given["tokenizer"] = tokenizer_from_fields(given["tokenizer"])
        return cls(**given)

    def to_fields(self) -> dict[str, object]:
        """Returns what `from_fields` takes, as JSON knows it; of a stack the same as before there were branches."""
        fields: dict[str, object] = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        if not self.branches:
            del fields["branches"]
        return {**fields, "tokenizer": make_tokenizer(self.tokenizer).to_fields()}

    @classmethod
    def preset(cls, name: str, classes: Sequence[str], embedding_dimension: int = 300) -> ModelConfig:
        """Returns a configuration by name.

        Args:
            name: "mr" or "ag_news", the data sets of the paper's Table 2; "kim", the network of Kim (2014) for MR; or
                "table" for texts of your own.
            classes: names of the classes.
            embedding_dimension: D.
        """
        shape = _PRESETS[choice("preset", name, _PRESETS)]
        return cls(classes=tuple(classes), embedding_dimension=embedding_dimension, **shape)

    @property
    def layers(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def check_layer(self, layer: object) -> int:
        """Returns `layer` if it is the index of a convolution; raises ValueError otherwise."""
        return integer("layer", layer, least=0, most=self.layers - 1)

    @property
    def ends(self) -> tuple[int, ...]:
        """The convolutions whose maxima over time the linear layer reads, in their order there."""
        return tuple(range(self.layers)) if self.branches else (self.layers - 1,)

    def chain(self, layer: int) -> tuple[int, ...]:
        """Returns the convolutions that lead from the word vectors to `layer`, which is the last of them."""
        place = self.check_layer(layer)
        return (place,) if self.branches else tuple(range(place + 1))

    def receptive_field(self, layer: int) -> tuple[int, int]:
        """Returns how many tokens before and after its own position a location of `layer` sees."""
        kernels = [self.kernel_sizes[i] for i in self.chain(layer)]
        return sum((kernel - 1) // 2 for kernel in kernels), sum(kernel // 2 for kernel in kernels)


_MR: dict[str, Any] = {"length": 56, "channels": (128, 64, 32), "kernel_sizes": (5, 5, 5)}
_PRESETS: dict[str, dict[str, Any]] = {
    "mr": _MR,
    "ag_news": {"length": 195, "channels": (512, 256, 128, 64), "kernel_sizes": (5, 5, 5, 5)},
    "table": _MR,
    "kim": {
        "length": 56,
        "channels": (100, 100, 100),
        "kernel_sizes": (3, 4, 5),
        "dropout": 0.5,
        "branches": True,
    },
}


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _one_per_layer(name: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not values:
        raise ValueError(f"{name}: expected one positive integer per layer, got {got(values)}")
    return tuple(integer(name, value, least=1) for value in values)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

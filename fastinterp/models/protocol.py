"""What explaining needs of a model: the one interface between the method and whatever classifier it explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fastinterp.text.tokenizer import TokenizedText


@dataclass(frozen=True)
class ReadSentences:
    """Sentences as a model reads them.

    Attributes:
        texts: tokens of each sentence, all of them, and what was dropped.
        ids: (B, L) int64 on the CPU, cut or padded to the frame.
    """

    texts: tuple[TokenizedText, ...]
    ids: Tensor


@dataclass(frozen=True, eq=False)  # tensors have no single truth value to compare by
class ConvolutionStack:
    """The 'same' convolutions that lead from the word vectors to a layer, each followed by the activation.

    Attributes:
        weights: per layer (C_out, C_in, K).
        biases: per layer (C_out,).
        activation: "relu", "leaky_relu", "identity" or "tanh".
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: str

    @property
    def before(self) -> int:
        """How many tokens before its own position a location of the last layer sees."""
        return sum((weight.shape[2] - 1) // 2 for weight in self.weights)

    @property
    def after(self) -> int:
        """How many tokens after its own position it sees."""
        return sum(weight.shape[2] // 2 for weight in self.weights)

    @property
    def channels(self) -> int:
        """C of the last layer."""
        return int(self.weights[-1].shape[0])


@dataclass(frozen=True, eq=False)
class PreparedWeights:
    """What is computed once for a model's weights, after they were checked.

    Attributes:
        inverse_norms: (V,) float32 on the model's device, reciprocal norms of the word vectors; 0 for padding, the
            unknown word and vectors that are zero, which are never found.
        searchable: how many words can be found.
        kept: other results that depend on the weights alone, by what they are; gone when a weight changes.
    """

    inverse_norms: Tensor
    searchable: int
    kept: dict[object, Any] = field(default_factory=dict)


class TextClassifier(Protocol):
    """A classifier of texts whose hidden layers can be explained.

    Everything it returns is float32 and on its device, but for token ids, which are on the CPU.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def length(self) -> int:
        """L, token positions of the sentence frame."""
        ...

    @property
    def layers(self) -> int:
        """Number of layers that can be explained."""
        ...

    @property
    def device(self) -> torch.device:
        """Where everything about the model is computed."""
        ...

    @property
    def words(self) -> Sequence[str]:
        """The V words by id."""
        ...

    @property
    def word_vectors(self) -> Tensor:
        """(V, D) vectors of the words; that of padding is zero."""
        ...

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, C_last) and bias (classes,) of what follows the maximum over time."""
        ...

    def read(self, sentences: Sequence[str]) -> ReadSentences:
        """Returns tokens and ids of raw sentences."""
        ...

    def token_ids(self, token_lists: Sequence[Sequence[str]]) -> Tensor:
        """Returns ids (B, L) int64, on the CPU, of sentences that are tokens already."""
        ...

    def is_known(self, token: str) -> bool:
        """Whether the model has a vector of its own for the token."""
        ...

    def stack(self, layer: int) -> ConvolutionStack:
        """Returns the convolutions up to and including `layer`; raises ValueError where there is no such layer."""
        ...

    def prepared(self) -> PreparedWeights:
        """Returns what is computed once for the weights; raises ValueError where they cannot be explained."""
        ...

    def companion(self, name: str) -> Path | None:
        """Returns the path of another file that was saved with the model, None where there is none."""
        ...

    def fingerprint(self) -> str:
        """Returns a SHA-256, in hex, of all that decides what the model computes; another one after each change."""
        ...

    def class_scores(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, in evaluation mode, of token ids (B, L), on the CPU."""
        ...

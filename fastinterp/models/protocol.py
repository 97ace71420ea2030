"""What explaining needs of a model: the one interface between the method and whatever classifier it explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fastinterp.models.receptive_field import ReceptiveField
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


@dataclass(frozen=True)
class LayerPath:
    """By what a layer is explained.

    Attributes:
        name: "kernels", or "module" for the module's own passes and autograd.
        reason: why, in a few words.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class LayerPass:
    """What a module's own pass gives of a layer, for b sentences with at most P locations.

    Attributes:
        class_scores: (b, classes) float32, before softmax.
        activations: (b, P, C) float32; 0 where a sentence has no such location.
        gradients: (b, P, C) float32, of the explained score by them (Eq. 2).
    """

    class_scores: Tensor
    activations: Tensor
    gradients: Tensor


@dataclass(frozen=True, eq=False)
class Places:
    """Where N locations are, for a module's own pass over their receptive fields.

    Attributes:
        location: (N,) int64, position in the layer.
        frame: (N,) int64, positions of the sentence that each is of.
        ids: (N, R) int64 on the CPU, token ids of the fields, 0 where there is no token.
    """

    location: Tensor
    frame: Tensor
    ids: Tensor


FieldFunction = Callable[[Tensor], Tensor]  # inputs (n, R, D) of fields to activations (n, C)


class ModuleLayer(Protocol):
    """A layer of a module that is explained by the module's own passes."""

    def explain(
        self, ids: Tensor, choose: Callable[[Tensor, list[int]], Sequence[int]], versus: int | None
    ) -> LayerPass:
        """Returns activations of a layer and the gradients of a class score by them.

        Args:
            ids: (b, L) int64, on the CPU; padding only behind the tokens.
            choose: gives the explained classes for the class scores (n, classes) of the sentences in n rows of `ids`.
            versus: the class whose score is taken away from it, if any.
        """
        ...

    def gradient_times_input(self, ids: Tensor) -> Tensor:
        """Returns x_p . dS/dx_p for the predicted class of sentences (b, L), through the whole module: (b, L)."""
        ...

    def in_fields(self, places: Places, most: int) -> Iterator[tuple[Tensor, FieldFunction]]:
        """Yields which of N locations can be computed at once, `most` at most, (n,) int64, and the function.

        The function takes inputs (n, R, D) of their fields and returns activations (n, C), to be differentiated.
        """
        ...


@dataclass(frozen=True, eq=False)  # tensors have no single truth value to compare by
class ConvolutionStack:
    """The 'same' convolutions that lead from the word vectors to a layer, each followed by the activation.

    Where the layer's field says so, a location is computed without padding, or only every so many are the layer's.

    Attributes:
        weights: per layer (C_out, C_in, K).
        biases: per layer (C_out,).
        activation: as of `Problems`: "relu", "leaky_relu", "leaky_relu:SLOPE", "identity" or "tanh".
        below: the indices that the lower ones have among the model's layers; by default 0, 1, 2, ...
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    activation: str
    below: tuple[int, ...] | None = None

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
        """L, token positions of the longest sentence frame."""
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
        """(V, D) vectors of the words; that of padding is zero in a model of ours."""
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

    def frames(self, ids: Tensor) -> Tensor:
        """Returns how many positions the frame of each sentence (B, L) has: (B,) int64, on the CPU."""
        ...

    def own_tokens(self, ids: Tensor) -> Tensor:
        """Returns (B, 2) int64, on the CPU: each sentence's first token, and one past its last.

        Special tokens around the text, such as [CLS], are not its own.
        """
        ...

    def layer_index(self, layer: object) -> int:
        """Returns the index of a layer given by index, or by name where layers have one; raises ValueError."""
        ...

    def layer_name(self, layer: int) -> str:
        """Returns what the layer is called."""
        ...

    def path(self, layer: int) -> LayerPath:
        """Returns by what a layer is explained."""
        ...

    def field(self, layer: int) -> ReceptiveField:
        """Returns what each location of a layer sees."""
        ...

    def locations(self, layer: int, frames: Tensor) -> Tensor:
        """Returns how many locations a layer has in sentences with these frames (B,): (B,) int64."""
        ...

    def channels(self, layer: int) -> int:
        """Returns C of a layer."""
        ...

    def module_layer(self, layer: int) -> ModuleLayer | None:
        """Returns the layer for the module's own passes; None where the operators compute saliency too."""
        ...

    def stack(self, layer: int) -> ConvolutionStack:
        """Returns the convolutions up to and including `layer`.

        Raises:
            ValueError: there is no such layer, or it is none of convolutions alone; `path` says so before.
        """
        ...

    def probabilities(self, class_scores: Tensor) -> Tensor:
        """Returns the probabilities (B, classes) that class scores stand for."""
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

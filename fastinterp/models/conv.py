"""ConvTextModel: embedding, 1-D convolutions, max over time, linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastinterp.models.config import ACTIVATIONS, ModelConfig
from fastinterp.text.tokenizer import tokenize
from fastinterp.text.vocabulary import PAD, Vocabulary


class ConvTextModel(nn.Module):
    """A text classifier: embedding, a stack of 'same' convolutions with an activation, max over time, linear.

    Args:
        config: the shape.
        vocabulary: V words.
        embedding: (V, D) float32 initial word vectors with a zero padding row; small noise where None.

    Raises:
        ValueError: the embedding does not fit the vocabulary or the configuration.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, embedding: Tensor | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        size = (len(vocabulary), config.embedding_dimension)
        if embedding is not None and tuple(embedding.shape) != size:
            raise ValueError(f"embedding: expected shape {size}, one row per word, got {tuple(embedding.shape)}")
        self.embedding = nn.Embedding(*size, padding_idx=PAD, _weight=embedding)
        widths = (config.embedding_dimension, *config.channels)
        self.convolutions = nn.ModuleList(
            # Padding on both sides; an even kernel then has one output too many, the first, which forward drops.
            nn.Conv1d(widths[i], widths[i + 1], kernel, padding=kernel // 2)
            for i, kernel in enumerate(config.kernel_sizes)
        )
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.channels[-1], len(config.classes))

    def forward(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, of token ids (B, L) int64."""
        hidden = self.embedding(self._without_needless_padding(ids)).transpose(1, 2)
        for convolution, kernel in zip(self.convolutions, self.config.kernel_sizes, strict=True):
            hidden = convolution(hidden)
            hidden = self.activation(hidden[..., 1:] if kernel % 2 == 0 else hidden)
        scores: Tensor = self.linear(self.dropout(hidden.amax(dim=2)))
        return scores

    def _without_needless_padding(self, ids: Tensor) -> Tensor:
        """Returns the shortest frame in which the last layer has every column that it has in the full one.

        Columns differ only where they see a token of the longest sentence or the frame's right edge; those between
        are all the same, and one of them is enough for the maximum over time.
        """
        used = (ids != PAD).any(dim=0).nonzero()
        longest = int(used[-1]) + 1 if len(used) else 0
        before, after = self.config.receptive_field(self.config.layers - 1)
        return ids[:, : longest + before + 1 + after]

    @property
    def device(self) -> torch.device:
        """Where the weights are, and so where everything about the model is computed."""
        return self.embedding.weight.device

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Returns token ids (B, L) int64 of raw sentences, cut or padded to the frame, on the CPU."""
        return self.vocabulary.encode([tokenize(sentence) for sentence in sentences], self.config.length)

    def convolution_weights(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        """Returns weights (C_out, C_in, K) and biases (C_out,) of the layers up to and including `layer`."""
        stack: Any = self.convolutions[: self.config.check_layer(layer) + 1]
        return [each.weight.detach() for each in stack], [each.bias.detach() for each in stack]

    def check_finite(self) -> None:
        """Raises ValueError if a weight is NaN or infinite; the message names the tensor."""
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"model: {name} holds NaN or infinite values")

"""ConvTextModel: embedding, 1-D convolutions upon or beside each other, max over time, linear."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastinterp.models.branch import Branch
from fastinterp.models.config import ACTIVATIONS, ModelConfig
from fastinterp.models.protocol import ConvolutionStack, LayerPath, PreparedWeights, ReadSentences
from fastinterp.models.receptive_field import ReceptiveField
from fastinterp.models.shapes import check_embedding, find_fault, width_below
from fastinterp.models.weights import WeightState, is_finite, is_same, state_of
from fastinterp.text.choice import make_tokenizer
from fastinterp.text.kim import KimTokenizer
from fastinterp.text.tokenizer import Tokenizer
from fastinterp.text.vocabulary import PAD, SPECIAL_WORDS, Vocabulary

_SENTENCES_AT_ONCE = 512  # bounds the memory of a forward pass


class ConvTextModel(nn.Module):
    """A text classifier: embedding, 'same' convolutions with an activation, max over time, linear.

    The convolutions are a stack, each reading the one below; or branches, which all read the word vectors.

    Its weights are float32 whatever torch's default dtype is.

    Args:
        config: the shape.
        vocabulary: V words.
        embedding: (V, D) float32 initial word vectors, which are copied, with a zero row for padding; drawn from the
            normal distribution where None.

    Raises:
        TypeError: the embedding is no tensor.
        ValueError: the embedding does not fit the vocabulary or the configuration, is not float32 or not finite, or
            its padding row is not zero.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, embedding: Tensor | None = None) -> None:
        if embedding is not None:
            check_embedding(embedding, (len(vocabulary), config.embedding_dimension))
            embedding = embedding.detach().clone(memory_format=torch.contiguous_format)
        super().__init__()
        self._build(config, vocabulary, embedding)

    @classmethod
    def from_tensors(cls, config: ModelConfig, vocabulary: Vocabulary, tensors: Mapping[str, Tensor]) -> ConvTextModel:
        """Returns the model that has these weights, which are taken as they are, without drawing others first.

        Args:
            config: the shape.
            vocabulary: V words.
            tensors: float32, by the names and with the shapes of `weight_shapes`.

        Raises:
            ValueError: as `check_weights`.
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        # Layers on the meta device have no memory and draw nothing. An embedding is not made there: its
        # initialisation loads torch's compiler, which takes longer than all else about a model.
        model._build(config, vocabulary, tensors["embedding.weight"], device="meta")
        model.load_state_dict(tensors, assign=True)
        model.check_weights()
        return model

    def _build(
        self, config: ModelConfig, vocabulary: Vocabulary, embedding: Tensor | None, device: str | None = None
    ) -> None:
        self.config, self.vocabulary = config, vocabulary
        made: Any = {"device": device, "dtype": torch.float32}
        size = (len(vocabulary), config.embedding_dimension)
        self.embedding = nn.Embedding(*size, padding_idx=PAD, _weight=embedding, dtype=torch.float32)
        self.convolutions = nn.ModuleList(
            # Padding on both sides; an even kernel then has one output too many, the first, which forward drops.
            nn.Conv1d(width_below(config, i), config.channels[i], kernel, padding=kernel // 2, **made)
            for i, kernel in enumerate(config.kernel_sizes)
        )
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        features = sum(config.channels[i] for i in config.ends)
        self.linear = nn.Linear(features, len(config.classes), **made)
        self._prepared: tuple[WeightState, PreparedWeights] | None = None
        self._fingerprint: tuple[PreparedWeights, str] | None = None
        self.folder: Path | None = None  # where the weights were loaded from

    def forward(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, of token ids (B, L) int64."""
        embedded = self.embedding(self._without_needless_padding(ids)).transpose(1, 2)
        maxima = []
        for end in self.config.ends:
            hidden = embedded
            for i in self.config.chain(end):
                hidden = self.convolutions[i](hidden)
                hidden = self.activation(hidden[..., 1:] if self.config.kernel_sizes[i] % 2 == 0 else hidden)
            maxima.append(hidden.amax(dim=2))
        scores: Tensor = self.linear(self.dropout(torch.cat(maxima, dim=1)))
        return scores

    def _without_needless_padding(self, ids: Tensor) -> Tensor:
        """Returns the shortest frame in which what goes to the linear layer has every column of the full one.

        Columns differ only where they see a token of the longest sentence or the frame's right edge; those between
        are all the same, and one of them is enough for the maximum over time.
        """
        used = (ids != PAD).any(dim=0).nonzero()
        longest = int(used[-1]) + 1 if len(used) else 0
        fields = [self.config.receptive_field(end) for end in self.config.ends]
        return ids[:, : longest + max(before for before, _ in fields) + 1 + max(after for _, after in fields)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.config.classes

    @property
    def length(self) -> int:
        """L, token positions of the sentence frame."""
        return self.config.length

    @property
    def layers(self) -> int:
        """Number of convolutions."""
        return self.config.layers

    @property
    def device(self) -> torch.device:
        """Where the weights are, and so where everything about the model is computed."""
        return self.embedding.weight.device

    @property
    def words(self) -> tuple[str, ...]:
        """The V words by id."""
        return self.vocabulary.words

    @property
    def word_vectors(self) -> Tensor:
        """(V, D) vectors of the words; that of padding is zero."""
        return self.embedding.weight.detach()

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, C_last) and bias (classes,) of the linear layer that follows the last convolution.

        Raises:
            ValueError: the convolutions are branches, none of which has the linear layer to itself.
        """
        if self.config.branches:
            raise ValueError("model: expected one whose last convolution alone leads to the linear layer, got branches")
        return self.linear.weight.detach(), self.linear.bias.detach()

    @property
    def tokenizer(self) -> Tokenizer:
        """What cuts the texts."""
        return make_tokenizer(self.config.tokenizer)

    def read(self, sentences: Sequence[str]) -> ReadSentences:
        """Returns tokens and ids of raw sentences."""
        texts = tuple(map(self.tokenizer.read, sentences))
        return ReadSentences(texts, self.token_ids([text.tokens for text in texts]))

    def token_ids(self, token_lists: Sequence[Sequence[str]]) -> Tensor:
        """Returns ids (B, L) int64, on the CPU, of sentences that are tokens already."""
        return self.vocabulary.encode(token_lists, self.length)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Returns token ids (B, L) int64 of raw sentences, cut or padded to the frame, on the CPU."""
        return self.read(sentences).ids

    def is_known(self, token: str) -> bool:
        """Whether the model has a vector of its own for the token."""
        return token in self.vocabulary.index

    def stack(self, layer: int) -> ConvolutionStack:
        """Returns the convolutions that lead to `layer`, and it; raises ValueError where there is no such layer."""
        chain = self.config.chain(layer)
        chosen: list[Any] = [self.convolutions[i] for i in chain]
        weights, biases = ([getattr(each, name).detach() for each in chosen] for name in ("weight", "bias"))
        return ConvolutionStack(tuple(weights), tuple(biases), self.config.activation, chain[:-1])

    def frames(self, ids: Tensor) -> Tensor:
        """Returns (B,) int64: every sentence has the same frame."""
        return torch.full((len(ids),), self.length)

    def own_tokens(self, ids: Tensor) -> Tensor:
        """Returns (B, 2) int64, the first token of each sentence and one past the last: all are its own."""
        count = (ids != PAD).sum(dim=1)
        return torch.stack([torch.zeros_like(count), count], dim=1)

    def layer_index(self, layer: object) -> int:
        """Returns `layer` if it is the index of a convolution; raises ValueError otherwise."""
        return self.config.check_layer(layer)

    def layer_name(self, layer: int) -> str:
        """Returns the name of a convolution."""
        return f"convolutions.{layer}"

    def path(self, layer: int) -> LayerPath:
        """Returns that the kernels explain every layer."""
        return LayerPath("kernels", "a model of convolutions alone")

    def field(self, layer: int) -> ReceptiveField:
        """Returns what each location of a layer sees."""
        before, after = self.config.receptive_field(layer)
        return ReceptiveField(before, before + 1 + after)

    def locations(self, layer: int, frames: Tensor) -> Tensor:
        """Returns (B,) int64: a location for each position of the frame."""
        return frames

    def channels(self, layer: int) -> int:
        """Returns C of a convolution."""
        return self.config.channels[self.config.check_layer(layer)]

    def module_layer(self, layer: int) -> Branch | None:
        """Returns a branch, whose saliency needs the others too; None in a stack: the operators compute everything."""
        place = self.config.check_layer(layer)
        if not self.config.branches:
            return None
        weight, bias = self.linear.weight.detach(), self.linear.bias.detach()
        parts = weight.split(self.config.channels, dim=1)
        heads = tuple(part.contiguous() for part in parts)
        stacks = tuple(self.stack(end) for end in self.config.ends)
        return Branch(place, stacks, heads, bias, self.word_vectors, self.length)

    def probabilities(self, class_scores: Tensor) -> Tensor:
        """Returns the softmax (B, classes)."""
        return class_scores.softmax(dim=1)

    def class_scores(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, in evaluation mode, of token ids (B, L), on the CPU."""
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            scores = torch.cat([self(batch.to(self.device)).cpu() for batch in ids.split(_SENTENCES_AT_ONCE)])
        self.train(was_training)
        return scores

    def prepared(self) -> PreparedWeights:
        """Returns what is computed once for the weights, after `check_weights`.

        It is computed again when a weight has changed. Changes are noticed by torch's version of each tensor, which
        writing through `.data` does not count up; the padding row is looked at every time.

        Raises:
            ValueError: as `check_weights`.
        """
        # By name: `parameters()` walks through all modules, which takes as long as a small operator.
        layers: list[Any] = [*self.convolutions, self.linear]
        weights = [self.embedding.weight, *(tensor for layer in layers for tensor in (layer.weight, layer.bias))]
        state = state_of(weights)
        if self._prepared is None or not is_same(self._prepared[0], state):
            self.check_weights()
            norms = torch.linalg.vector_norm(self.word_vectors, dim=1, dtype=torch.float64)
            norms[: len(SPECIAL_WORDS)] = 0
            inverse = torch.where(norms > 0, 1 / norms, 0).to(torch.float32)
            self._prepared = (state, PreparedWeights(inverse, int((inverse > 0).sum())))
        else:
            self._check_padding()
        return self._prepared[1]

    def companion(self, name: str) -> Path | None:
        """Returns the path of another file that was saved with the model, None where there is none."""
        path = None if self.folder is None else self.folder / name
        return path if path is not None and path.is_file() else None

    def fingerprint(self) -> str:
        """Returns the SHA-256, in hex, of configuration, vocabulary and weights; another one after each change.

        Raises:
            ValueError: as `check_weights`.
        """
        prepared = self.prepared()
        if self._fingerprint is None or self._fingerprint[0] is not prepared:
            digest = hashlib.sha256(repr(self.config).encode())
            if not isinstance(self.tokenizer, KimTokenizer):  # which all models had before there was a choice
                digest.update(json.dumps(self.tokenizer.to_fields()).encode())
            if self.config.branches:
                digest.update(b"branches")
            digest.update("\n".join(self.words).encode())
            for name, weight in sorted(self.state_dict().items()):
                digest.update(f"{name} {tuple(weight.shape)}".encode())
                digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
            self._fingerprint = (prepared, digest.hexdigest())
        return self._fingerprint[1]

    def check_weights(self) -> None:
        """Checks that what the model computes is what would be explained, and could be saved and loaded.

        That is: all weights are float32, finite and of the configuration's shapes, the vector of the padding is zero,
        and the activation is the configuration's. Looks at every weight once.

        Raises:
            ValueError: the message says what is not so.
        """
        state = self.state_dict()
        other = next((name for name, tensor in state.items() if tensor.dtype != torch.float32), None)
        if other is not None:
            raise ValueError(
                f"model: {other} is {state[other].dtype}; models are explained and saved in float32, which "
                "model.float() makes of it"
            )
        fault = find_fault(state, self.config, len(self.vocabulary), "its vocabulary", "its configuration")
        if fault is not None:
            raise ValueError(f"model: {fault}")
        if type(self.activation) is not ACTIVATIONS[self.config.activation]:
            raise ValueError(
                f"model: its activation is {type(self.activation).__name__}, its configuration says "
                f"{self.config.activation}"
            )
        for name, tensor in state.items():
            if not is_finite(tensor):
                raise ValueError(f"model: {name} holds NaN or infinite values")
        self._check_padding()

    def _check_padding(self) -> None:
        if self.word_vectors[PAD].any():
            raise ValueError(f"model: expected zeros in row {PAD} of embedding.weight, the vector of the padding")

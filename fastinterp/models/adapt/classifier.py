"""A user's own module as a classifier whose layers can be explained."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fastinterp.messages import one_line
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.find import is_convolution, listed
from fastinterp.models.adapt.frames import Frames, class_scores, tokens_of
from fastinterp.models.adapt.layer import AdaptedLayer
from fastinterp.models.adapt.probe import Layout
from fastinterp.models.adapt.readers import Lexicon, Reader
from fastinterp.models.adapt.resolve import Resolved, resolve
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.config import MOST_POSITIONS
from fastinterp.models.protocol import ConvolutionStack, LayerPath, PreparedWeights, ReadSentences
from fastinterp.models.receptive_field import ReceptiveField
from fastinterp.models.weights import WeightState, is_finite, is_same, state_of
from fastinterp.text.vocabulary import PAD, SPECIAL_WORDS, UNKNOWN
from fastinterp.validation import got, integer

_SENTENCES_AT_ONCE = 512  # bounds the memory of a forward pass


class AdaptedModel:
    """A classifier made of a user's module by `adapt`; it explains the module with the weights that it has then.

    Token ids are the method's own: 0 is padding, 1 the unknown word, the others follow in the embedding's order.

    Args:
        caller: of the module.
        calls: the layers that can be explained, and the axes of their outputs.
        lexicon: the words by the embedding's rows.
        special: rows that are no words of an answer.
        reader: reads a text.
        classes: names of the classes.
        several: whether a text may have several labels, each with a probability of its own.
        single: whether the module has a single output, for the second of two classes.
        frames: how long a sentence's frame is.
        note: what was done to the module, if anything.
    """

    def __init__(
        self,
        caller: Caller,
        calls: Sequence[tuple[LayerCall, Layout]],
        lexicon: Lexicon,
        special: set[int],
        reader: Reader,
        classes: tuple[str, ...],
        several: bool,
        single: bool,
        frames: Frames,
        note: str | None,
    ) -> None:
        self.caller, self._calls, self._lexicon, self._reader = caller, tuple(calls), lexicon, reader
        self._classes, self._several, self._single, self._frames, self._note = classes, several, single, frames, note
        first = [lexicon.padding] + ([] if lexicon.unknown is None else [lexicon.unknown])
        others = [row for row in range(len(lexicon.words)) if row not in first]
        # Without a row for unknown words the padding's stands in its place; no text is ever given id 1 then.
        front = first if len(first) == 2 else [lexicon.padding, lexicon.padding]
        self._rows = torch.tensor(front + others)
        self._ids = torch.zeros(len(lexicon.words), dtype=torch.int64)
        self._ids[torch.tensor(others, dtype=torch.int64)] = torch.arange(2, 2 + len(others))
        if lexicon.unknown is not None:
            self._ids[lexicon.unknown] = UNKNOWN
        self._words = (*SPECIAL_WORDS, *(lexicon.words[row] for row in others))
        # Where a row is never part of a text's own tokens, nor a word of an answer; the unknown word may be the former.
        self._special = torch.tensor(sorted({PAD, *self._ids[list(special - {lexicon.unknown})].tolist()}))
        self._hidden = torch.tensor(sorted(special | {r for r, w in enumerate(lexicon.words) if w == f"<row {r}>"}))
        self._prepared: tuple[WeightState, PreparedWeights] | None = None

    @property
    def module(self) -> nn.Module:
        """The module that is explained."""
        return self.caller.module

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def length(self) -> int:
        """L, positions of every frame; as good as no bound where each sentence has a frame of its own."""
        return self._frames.length or MOST_POSITIONS

    @property
    def layers(self) -> int:
        """Number of layers that can be explained."""
        return len(self._calls)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What they are called, in the order of their indices."""
        return tuple(call.name for call, _ in self._calls)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return self.caller.device

    @property
    def words(self) -> tuple[str, ...]:
        """The V words by id."""
        return self._words

    @property
    def word_vectors(self) -> Tensor:
        """(V, D) vectors of the words; that of padding is what the module has for it."""
        vectors: Tensor = self.prepared().kept["vectors"]
        return vectors

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Raises ValueError: what follows the layers is the module's own affair."""
        raise ValueError("model: expected one whose head is one linear layer, got a module of the user's")

    def read(self, sentences: Sequence[str]) -> ReadSentences:
        """Returns tokens and ids of raw sentences."""
        found = [self._reader(sentence) for sentence in sentences]
        ids = self._padded([self._ids[torch.tensor(each.rows, dtype=torch.int64)] for each in found])
        return ReadSentences(tuple(each.text for each in found), ids)

    def token_ids(self, token_lists: Sequence[Sequence[str]]) -> Tensor:
        """Returns ids (B, L) int64, on the CPU, of sentences that are tokens already."""
        rows = [[self._lexicon.row(token) for token in tokens] for tokens in token_lists]
        return self._padded([self._ids[torch.tensor(each, dtype=torch.int64)] for each in rows])

    def _padded(self, rows: Sequence[Tensor]) -> Tensor:
        """Returns ids (B, L), cut and padded to the frame, or to the longest frame of any."""
        longest = max((len(each) for each in rows), default=0)
        length = self._frames.length or max(longest, self._frames.shortest)
        ids = torch.full((len(rows), length), PAD)
        for row, each in zip(ids, rows, strict=True):
            row[: len(each)] = each[:length]
        return ids

    def is_known(self, token: str) -> bool:
        """Whether the module has a vector of its own for the token."""
        return self._lexicon.rows.get(token, self._lexicon.unknown) != self._lexicon.unknown

    def frames(self, ids: Tensor) -> Tensor:
        """Returns how many positions the frame of each sentence (B, L) has: (B,) int64."""
        return self._frames.of(ids)

    def own_tokens(self, ids: Tensor) -> Tensor:
        """Returns (B, 2) int64, on the CPU: each sentence's first token that is not special, and one past its last."""
        own = ~torch.isin(ids, self._special)
        places = torch.arange(ids.shape[1])
        first = torch.where(own, places, ids.shape[1]).amin(dim=1) if ids.shape[1] else ids.sum(dim=1)
        last = torch.where(own, places + 1, 0).amax(dim=1) if ids.shape[1] else ids.sum(dim=1)
        return torch.stack([torch.minimum(first, last), last], dim=1)

    def layer_index(self, layer: object) -> int:
        """Returns the index of a layer given by index, by name, or as a module of its own.

        Raises:
            ValueError: there is no such layer.
        """
        names = self.layer_names
        if isinstance(layer, nn.Module):
            parts = [i for i, (call, _) in enumerate(self._calls) if self.caller.parts[call.module] is layer]
            if parts:
                return parts[0]
            raise ValueError(f"layer: expected one of {listed(names)}, got a {type(layer).__name__} of another name")
        if isinstance(layer, str):
            if layer not in names:
                raise ValueError(f"layer: expected one of {listed(names)}, got {got(layer)}; adapt(layer=) adds others")
            return names.index(layer)
        return integer("layer", layer, least=0, most=self.layers - 1)

    def layer_name(self, layer: int) -> str:
        """Returns what a layer is called."""
        return self.layer_names[self.layer_index(layer)]

    def path(self, layer: int) -> LayerPath:
        """Returns by what a layer is explained, and why."""
        path = self._resolved(layer).path
        return path if self._note is None else replace(path, reason=f"{path.reason}; {self._note}")

    def field(self, layer: int) -> ReceptiveField:
        """Returns what each location of a layer sees."""
        return self._resolved(layer).layer.receptive

    def locations(self, layer: int, frames: Tensor) -> Tensor:
        """Returns how many locations a layer has in sentences with these frames (B,): (B,) int64."""
        return self._resolved(layer).layer.locations(frames)

    def channels(self, layer: int) -> int:
        """Returns C of a layer."""
        return self._resolved(layer).layer.channels

    def module_layer(self, layer: int) -> AdaptedLayer:
        """Returns the layer for the module's own passes."""
        return self._resolved(layer).layer

    def stack(self, layer: int) -> ConvolutionStack:
        """Returns the convolutions up to and including a layer.

        Raises:
            ValueError: there is no such layer, or it is none of convolutions alone.
        """
        resolved = self._resolved(layer)
        if resolved.recognised is None:
            raise ValueError(
                f"layer: expected one of convolutions that the kernels compute, got {self.layer_name(layer)} "
                f"({one_line(resolved.path.reason)})"
            )
        return replace(resolved.recognised.stack, below=self._indices_of(resolved.recognised.weights[:-1]))

    def _indices_of(self, weights: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Returns which layers the convolutions with these weights are."""
        found = []
        for place, number in weights:
            for index, (call, _) in enumerate(self._calls):
                part = self.caller.parts[call.module]
                if call.call == number and is_convolution(part) and place in map(Tensor.data_ptr, part.parameters()):
                    found.append(index)
                    break
        return tuple(found)

    def _resolved(self, layer: int) -> Resolved:
        kept = self.prepared().kept
        key = ("layer", self.layer_index(layer))
        if key not in kept:
            call, layout = self._calls[key[1]]
            kept[key] = resolve(self.caller, call, layout, self._rows, self._frames, self.word_vectors)
        resolved: Resolved = kept[key]
        return resolved

    def prepared(self) -> PreparedWeights:
        """Returns what is computed once for the weights, and again when one has changed.

        Raises:
            ValueError: a weight is NaN or infinite.
        """
        named = [*self.module.named_parameters(), *self.module.named_buffers()]
        state = state_of(weight for _, weight in named)
        if self._prepared is None or not is_same(self._prepared[0], state):
            for name, weight in named:
                if weight.is_floating_point() and not is_finite(weight.detach()):
                    raise ValueError(f"model: {name} holds NaN or infinite values")
            weight = self.caller.embedding.weight.detach()
            norms = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64)
            norms[self._hidden.to(norms.device)] = 0
            rows = self._rows.to(weight.device)
            inverse = torch.where(norms > 0, 1 / norms, 0).to(torch.float32)[rows]
            in_order = torch.equal(self._rows, torch.arange(len(weight)))
            vectors = weight if in_order else weight[rows]
            self._prepared = (state, PreparedWeights(inverse, int((inverse > 0).sum()), {"vectors": vectors}))
        return self._prepared[1]

    def with_shuffled_weights(self, seed: int) -> AdaptedModel:
        """Returns the same classifier for a copy of the module that knows nothing but its word vectors.

        Args:
            seed: of the order that the numbers of each weight are put in.
        """
        twin = copy.copy(self)
        twin.caller, twin._prepared = self.caller.with_shuffled_weights(seed), None
        return twin

    def companion(self, name: str) -> Path | None:
        """Returns None: nothing is saved with a module of the user's."""
        return None

    def fingerprint(self) -> str:
        """Returns a SHA-256, in hex, of all that decides what the module computes, as far as can be known."""
        kept = self.prepared().kept
        if "fingerprint" not in kept:
            digest = hashlib.sha256()
            about = (repr(self.module), self._words, self._classes, self.layer_names, self._frames, self._several)
            digest.update(repr(about).encode("utf-8", "surrogatepass"))
            for name, weight in self.module.state_dict().items():
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
            kept["fingerprint"] = digest.hexdigest()
        found: str = kept["fingerprint"]
        return found

    def class_scores(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, in evaluation mode, of token ids (B, L), on the CPU."""
        scores = torch.zeros(len(ids), len(self._classes))
        for members, part in self._frames.together(ids, _SENTENCES_AT_ONCE):
            with torch.no_grad():
                passed = self.caller.run(self._rows[part], tokens_of(part))
            scores[members] = class_scores(passed, len(part)).cpu()
        return scores

    def probabilities(self, class_scores: Tensor) -> Tensor:
        """Returns the probabilities (B, classes) that class scores stand for.

        Those of several labels are independent of each other; those of a single output s are sigmoid(-s), sigmoid(s).
        """
        return class_scores.sigmoid() if self._several or self._single else class_scores.softmax(dim=1)

    def __repr__(self) -> str:
        layers = listed(self.layer_names)
        return f"AdaptedModel({type(self.module).__name__}, layers {layers}, {len(self._classes)} classes)"

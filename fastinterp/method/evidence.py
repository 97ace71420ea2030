"""Evidence: the real n-grams of a reference corpus that a location fires alike on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.errors import ModelError
from fastinterp.kernels import ops
from fastinterp.messages import plural
from fastinterp.method.background import Whitening
from fastinterp.method.reference_corpus import NO_TOKEN, ReferenceCorpus
from fastinterp.models.protocol import TextClassifier
from fastinterp.validation import integer

# How many more rows than the answer needs are searched for at first: those of copies and repetitions are left out.
_MORE = 8
SAMPLE = 99  # locations of a class that a location is compared with
_LONGEST = 1e18  # norm of a vector whose square float32 can hold; the shortest with a direction is its inverse


@dataclass(frozen=True)
class Evidence:
    """A real n-gram, and how alike its location and the explained one fire.

    Attributes:
        tokens: those that its location sees.
        offset: row of the first of them in the receptive field; more than 0 at the sentence's left edge.
        text: the sentence that it stands in.
        label: name of that sentence's class.
        cosine: of the whitened activations.
    """

    tokens: tuple[str, ...]
    offset: int
    text: str
    label: str
    cosine: float


@dataclass(frozen=True, eq=False, repr=False)
class ActivationIndex:
    """The activations of one layer of one model at N salient locations of a reference corpus, to be searched exactly.

    Every tensor is on the CPU, where the search happens too. `build_index` makes one; `save_index` and `load_index`
    keep it.

    Attributes:
        vectors: (N, C) float32, whitened activations in the order of the corpus.
        sentence: (N,) int64, each location's sentence in the corpus.
        location: (N,) int64, its position in the layer.
        corpus: the sentences.
        whitening: how activations become vectors.
        shrinkage: eps of the whitening.
        layer: index of the convolution.
        before: how many tokens before its own position a location sees.
        width: R, how many positions it sees.
        stride: tokens from one location to the next; see `ReceptiveField`.
        length: L of the model's frame.
        classes: names of the classes.
        fingerprint: of the model.
    """

    vectors: Tensor
    sentence: Tensor
    location: Tensor
    corpus: ReferenceCorpus
    whitening: Whitening
    shrinkage: float
    layer: int
    before: int
    width: int
    stride: int
    length: int
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        texts = plural(len(self.corpus), "text")
        size = f"{self.nbytes / 1e6:,.1f} MB"
        return f"ActivationIndex(layer {self.layer}: {plural(len(self), 'location')} of {texts}, {size})"

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        corpus, whitening = self.corpus, self.whitening
        tensors = (self.vectors, self.sentence, self.location, corpus.labels, corpus.tokens, corpus.starts)
        strings = (corpus.texts.characters, corpus.texts.starts, corpus.words.characters, corpus.words.starts)
        return sum(each.nbytes for each in (*tensors, *strings, whitening.mean, whitening.precision, whitening.factor))

    def check(self, model: TextClassifier, layer: int) -> None:
        """Checks that the index is one of this layer of this model.

        Raises:
            ModelError: it is not.
        """
        if self.fingerprint != model.fingerprint():
            raise ModelError("index: it was built with another model; build_index makes one")
        if self.layer != layer:
            raise ModelError(f"index: expected one of layer {layer}, got one of layer {self.layer}")

    def search(self, activations: Tensor, k: int, sentences: Sequence[Sequence[str]]) -> list[list[Evidence]]:
        """Returns for each location the k n-grams that fire most alike, best first; fewer where there are no more.

        The search is exact. An answer never holds an n-gram of the explained sentence itself or of a copy of it, and
        no n-gram (the same tokens at the same offset) twice; ties go to what stands first in the corpus. Activations
        that equal the mean have cosine 0 with everything.

        Args:
            activations: (B, C) float32 of B explained locations of the layer.
            k: 1 to the number of locations in the index.
            sentences: the tokens of the sentence of each of the B; what is beyond the frame does not count.

        Raises:
            ValueError: activations of another shape or dtype or not finite, k out of range, or not B sentences.
            TypeError: sentences that are no tokens.
            ModelError: the index holds values that are not finite.
        """
        cosines, rows = self.search_vectors(activations, k, sentences)
        found = rows >= 0
        each = iter(self.evidence(rows[found], cosines[found]))
        return [list(islice(each, count)) for count in found.sum(dim=1).tolist()]

    def search_vectors(self, activations: Tensor, k: int, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Returns cosines (B, k) float32 and rows (B, k) int64 of what `search` finds.

        Where there are fewer than k, the cosine is 0 and the row -1.

        Args:
            activations: as `search`.
            k: as `search`.
            sentences: as `search`.

        Raises:
            ValueError: as `search`.
            TypeError: as `search`.
            ModelError: as `search`.
        """
        count = integer("k", k, least=1, most=len(self))
        self._check_queries(activations, sentences)
        searchable = int((self._inverse_norms > 0).sum())
        if not searchable or not len(activations):
            return torch.zeros(len(activations), count), torch.full((len(activations), count), -1)
        queries = self.whitening.whiten(activations.detach().cpu()).contiguous()
        if not torch.isfinite(queries).all():
            raise ValueError("activations: expected finite values, got NaN, infinity or numbers too large to whiten")
        answers = []
        # What no copy and no repetition pushes out of the first few is found for all queries at once.
        first = min(2 * count + _MORE, searchable)
        near_cosines, near_rows = ops.cosine_topk(queries, self.vectors, self._inverse_norms, first)
        rows_of_all = zip(
            sentences,
            near_cosines.tolist(),
            near_rows.tolist(),
            self.sentence[near_rows].tolist(),
            _as_bytes(self.fields(near_rows.flatten()).view(len(queries), first, self.width)),
            strict=True,
        )
        for query, (tokens, *found) in enumerate(rows_of_all):
            answer = _Answer(set(self.corpus.copies(tuple(tokens)[: self.length])))
            for cosine, row, sentence, field in zip(*found, strict=True):
                answer.add(cosine, row, sentence, field)
                if len(answer.rows) == count:
                    break
            if len(answer.rows) < count and first < searchable:
                self._search_on(queries[query : query + 1], count, answer)
            answers.append(answer)
        lacking = [count - len(answer.rows) for answer in answers]
        cosines = [answer.cosines + [0.0] * lacks for answer, lacks in zip(answers, lacking, strict=True)]
        rows = [answer.rows + [-1] * lacks for answer, lacks in zip(answers, lacking, strict=True)]
        return torch.tensor(cosines, dtype=torch.float32), torch.tensor(rows, dtype=torch.int64)

    def evidence(self, rows: Tensor, cosines: Tensor) -> list[Evidence]:
        """Returns what stands in B rows of the index.

        Args:
            rows: (B,) int64, 0 to N - 1.
            cosines: (B,), how alike each and an explained location fire.
        """
        words, sentences = self.corpus.word_list, self.sentence[rows]
        labels = self.corpus.labels[sentences].tolist()
        found = zip(
            self.fields(rows).tolist(),
            self.corpus.texts.at(sentences.tolist()),
            labels,
            cosines.tolist(),
            strict=True,
        )
        return [
            Evidence(
                tokens=tuple(words[number] for number in field if number != NO_TOKEN),
                offset=next(place for place, number in enumerate(field) if number != NO_TOKEN),
                text=text,
                label=self.classes[label],
                cosine=cosine,
            )
            for field, text, label, cosine in found
        ]

    def fields(self, rows: Tensor) -> Tensor:
        """Returns (B, R) int32, the receptive fields of rows (B,) int64; see `ReferenceCorpus.fields`."""
        return self.corpus.fields(self.sentence[rows], self.location[rows] * self.stride, self.before, self.width)

    def activations_of(self, rows: Tensor) -> Tensor:
        """Returns (B, C) float32, the activations of rows (B,) int64 as the model had them, up to rounding."""
        mean, factor = self.whitening.mean, self.whitening.factor
        centred: Tensor = torch.linalg.solve_triangular(factor, self.vectors[rows].double(), upper=False, left=False)
        return (centred + mean).float()

    @cached_property
    def class_samples(self) -> list[Tensor]:
        """(99, C) float64 for each class: vectors of a fixed sample of its locations, of length 1.

        Fewer where there are no more. What a location's answer is compared with.
        """
        labels = self.corpus.labels[self.sentence]
        generator = torch.Generator().manual_seed(0)
        samples = []
        for label in range(len(self.classes)):
            rows = (labels == label).nonzero()[:, 0]
            drawn = rows[torch.randperm(len(rows), generator=generator)[:SAMPLE]]
            samples.append(functional.normalize(self.vectors[drawn].double(), dim=1))
        return samples

    @cached_property
    def _inverse_norms(self) -> Tensor:
        """(N,) float32; 0 for vectors without a direction, which are never found."""
        norms = torch.linalg.vector_norm(self.vectors, dim=1)
        if not (norms < _LONGEST).all():
            raise ModelError("index: its vectors hold NaN, infinity or huge numbers; build_index makes another")
        return torch.where(norms > 1 / _LONGEST, 1 / norms, 0)

    @cached_property
    def _every_field(self) -> Tensor:
        return self.fields(torch.arange(len(self)))

    def _search_on(self, query: Tensor, count: int, answer: _Answer) -> None:
        """Completes the answer of one query (1, C), whose first rows are found: again without all that is out."""
        left = self._inverse_norms.clone()
        left[torch.isin(self.sentence, torch.tensor(sorted(answer.copies), dtype=torch.int64))] = 0
        for row in answer.rows:
            left[self._is_same_field(row)] = 0
        while (missing := count - len(answer.rows)) > 0 and (searchable := int((left > 0).sum())) > 0:
            cosines, rows = ops.cosine_topk(query, self.vectors, left, min(missing, searchable))
            fields = _as_bytes(self._every_field[rows[0]])
            for cosine, row, field in zip(cosines[0].tolist(), rows[0].tolist(), fields, strict=True):
                answer.add(cosine, row, int(self.sentence[row]), field)
                left[self._is_same_field(row)] = 0

    def _is_same_field(self, row: int) -> Tensor:
        equal: Tensor = self._every_field == self._every_field[row]
        return equal.all(dim=1)

    def _check_queries(self, activations: Tensor, sentences: Sequence[Sequence[str]]) -> None:
        channels = self.vectors.shape[1]
        if activations.dtype != torch.float32 or activations.dim() != 2 or activations.shape[1] != channels:
            raise ValueError(
                f"activations: expected float32 of shape (B, {channels}), got {activations.dtype} of shape "
                f"{tuple(activations.shape)}"
            )
        if len(sentences) != len(activations):
            raise ValueError(f"sentences: expected {len(activations)}, one for each location, got {len(sentences)}")
        single = next((tokens for tokens in sentences if isinstance(tokens, (str, bytes))), None)
        if single is not None:
            raise TypeError(f"sentences: expected tuples of tokens, got one {type(single).__name__}")


class _Answer:
    """What was found for one location: no row of a copy of its sentence, no n-gram twice."""

    def __init__(self, copies: set[int]) -> None:
        self.copies = copies
        self.cosines: list[float] = []
        self.rows: list[int] = []
        self._fields: set[bytes] = set()

    def add(self, cosine: float, row: int, sentence: int, field: bytes) -> None:
        """Takes the next best row if it may be taken."""
        if sentence not in self.copies and field not in self._fields:
            self._fields.add(field)
            self.cosines.append(cosine)
            self.rows.append(row)


def _as_bytes(fields: Tensor) -> list[Any]:
    """Returns the rows (..., R) int32 as bytes, in nested lists; equal rows have equal bytes."""
    listed: list[Any] = fields.contiguous().numpy().view(f"V{4 * fields.shape[-1]}")[..., 0].tolist()
    return listed

"""One word for each position of a receptive field, which together make the location respond as it did.

Eq. 8 averages the positions away: "not", "very", "good" become one blur. Here every position is read by itself. The
words nearest to a position of the optimised input are its candidates. The field's own words are not among them, but for
the commonest ones: an answer that repeats "tedious" would say nothing, while "of" may stand for "of". From the nearest
ones on, one position after the other takes the candidate with which the location's activation is most like its own
(`Whitening`), until nothing improves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels import ops
from fastinterp.kernels.problems import Problems
from fastinterp.method.background import Whitening
from fastinterp.method.fields import activations_above_first
from fastinterp.models.protocol import TextClassifier
from fastinterp.validation import integer

LEAST_COUNT = 3  # how often a candidate must stand in the reference corpus: rarer words have vectors of little meaning
COMMONEST = 100  # so many words of the reference corpus may stand for themselves
CANDIDATES_FIRST_LAYER, CANDIDATES_ABOVE = 5, 10  # above, single words say less
_TIE = 1e-10  # of a cosine in float64
_BYTES_AT_ONCE = 1 << 26  # bounds the memory for the candidates' parts


@dataclass(frozen=True)
class PositionConfig:
    """How the words of the positions are chosen.

    Attributes:
        candidates: words considered at each position; by default 5 in the first layer and 10 above.
        rounds: passes over the positions at most; 0 takes the nearest words as they are.

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    candidates: int | None = None
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.candidates is not None:
            object.__setattr__(self, "candidates", integer("candidates", self.candidates, least=1, most=1000))
        object.__setattr__(self, "rounds", integer("rounds", self.rounds, least=0, most=1000))


@dataclass(frozen=True, eq=False)
class PositionWords:
    """The words of B receptive fields, on the CPU.

    Attributes:
        ids: (B, R) int64, a word for each row that holds a token of the sentence, -1 for the others.
        cosines: (B, R) float32, of the word with its row of the optimised input.
        likeness: (B,) float32, whitened cosine of the location's activation and that which the words give.
        whitened: (B, C) float64, that which the words give.
    """

    ids: Tensor
    cosines: Tensor
    likeness: Tensor
    whitened: Tensor


def position_words(
    model: TextClassifier,
    problems: Problems,
    inputs: Tensor,
    own: Tensor,
    counts: Tensor,
    whitening: Whitening,
    config: PositionConfig,
    rest: Tensor | None = None,
) -> PositionWords:
    """Returns for each field one word a position.

    Choices are made in float64, so that neither the other problems of the call nor the number of threads decides one.

    Args:
        model: the classifier.
        problems: B locations; `target` holds their activations.
        inputs: (B, R, D), their optimised fields.
        own: (B, R) int64 on the CPU, ids of the field's tokens; 0 where there is none.
        counts: (V,) int64, how often each word stands in the reference corpus.
        whitening: of the layer.
        config: settings.
        rest: (B, R) int64 on the CPU, ids of what stays where `own` is 0, such as special tokens; padding by default.
    """
    wanted = config.candidates or (CANDIDATES_FIRST_LAYER if len(problems.weights) == 1 else CANDIDATES_ABOVE)
    candidates, cosines = _candidates(model, problems, inputs, own, counts, wanted)
    occupied = (own > 0).to(candidates.device)
    if rest is not None:
        candidates = torch.where(occupied[..., None], candidates, rest.to(candidates.device)[..., None])
    first = problems.weights[0]
    floats = candidates[:1].numel() * first.shape[0] * first.shape[2]
    best, likeness, whitened = [], [], []
    for rows in torch.arange(len(problems)).split(max(1, _BYTES_AT_ONCE // (8 * max(1, floats)))):
        part = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        search = _Search(problems[part], model.word_vectors[candidates[part]], occupied[part], whitening)
        best.append(search.ascend(config.rounds))
        likeness.append(search.reached)
        whitened.append(search.whiten(search.values[:, None])[:, 0])
    chosen = torch.cat(best)[..., None]
    ids = candidates.gather(2, chosen)[..., 0].masked_fill(~occupied, -1).cpu()
    said = cosines.gather(2, chosen)[..., 0].cpu()
    return PositionWords(ids, said, torch.cat(likeness).float().cpu(), torch.cat(whitened).cpu())


def _candidates(
    model: TextClassifier, problems: Problems, inputs: Tensor, own: Tensor, counts: Tensor, wanted: int
) -> tuple[Tensor, Tensor]:
    """Returns ids (B, R, M) of the words nearest to each row that may stand there, and their cosines."""
    inverse_norms = _candidate_norms(model, counts, wanted + problems.field)
    # As many more as could be words of the field.
    most = min(wanted + problems.field, int((inverse_norms > 0).sum()))
    occupied = own > 0
    rows = inputs[occupied.to(inputs.device)].contiguous()
    cosines, nearest = ops.cosine_topk(rows, model.word_vectors, inverse_norms, most)
    common = counts.topk(min(COMMONEST, len(counts))).indices
    content = own.masked_fill(torch.isin(own, common), 0)
    # The field's content words go to the end, behind as many others as are wanted.
    field_of_row = content.repeat_interleave(occupied.sum(dim=1), dim=0).to(nearest.device)
    is_own = (nearest[:, :, None] == field_of_row[:, None, :]).any(dim=2)
    order = is_own.to(torch.int8).argsort(dim=1, stable=True)[:, :wanted]
    ids = nearest.new_zeros(*own.shape, order.shape[1])
    values = cosines.new_zeros(ids.shape)
    ids[occupied.to(ids.device)], values[occupied.to(ids.device)] = nearest.gather(1, order), cosines.gather(1, order)
    return ids, values


def _candidate_norms(model: TextClassifier, counts: Tensor, least: int) -> Tensor:
    """The reciprocal norms with those of rare words set to 0, unless too few words would be left."""
    inverse_norms = model.prepared().inverse_norms
    common = torch.where(counts.to(inverse_norms.device) >= LEAST_COUNT, inverse_norms, 0)
    return common if int((common > 0).sum()) >= least else inverse_norms


class _Search:
    """Coordinate ascent over the candidates of B fields at once, in float64.

    A word's part in the first layer's pre-activations is computed once; exchanging it is an addition.

    Args:
        problems: B locations.
        vectors: (B, R, M, D) candidates of each row.
        occupied: (B, R) bool, rows that hold a token; the others stay empty.
        whitening: of the layer.
    """

    def __init__(self, problems: Problems, vectors: Tensor, occupied: Tensor, whitening: Whitening) -> None:
        self.problems, self.occupied = problems.double(), occupied
        self.mean, self.factor = (each.to(vectors.device) for each in (whitening.mean, whitening.factor))
        self.own = functional.normalize((self.problems.target - self.mean) @ self.factor, dim=1)
        weight = self.problems.weights[0]
        self.kernel, self.positions = weight.shape[2], problems.field - weight.shape[2] + 1
        flat_weight = weight.permute(1, 2, 0).flatten(1)  # (D, K C)
        # (B, R, M, K, C): what each candidate adds to the position that sees it through each row of the kernel.
        # A row without a token holds padding, whose vector need not be zero in a module of somebody else's.
        parts = (vectors.double() * self.problems.exists[..., None, None]).flatten(0, 2) @ flat_weight
        self.parts = parts.view(*vectors.shape[:3], self.kernel, weight.shape[0])
        self.chosen = torch.zeros_like(occupied, dtype=torch.int64)
        self.values = self.problems.biases[0].repeat(len(problems), self.positions, 1)
        for row in range(problems.field):
            self._add(self.values, row, self.parts[:, row, 0])
        self.reached = self._likeness(self.values[:, None])[:, 0]

    def ascend(self, rounds: int) -> Tensor:
        """Returns (B, R) the candidate of each row."""
        fields = torch.arange(len(self.chosen), device=self.chosen.device)
        for _ in range(rounds):
            before = self.chosen.clone()
            for row in range(self.occupied.shape[1]):
                part = self.parts[:, row]
                trials = self.values[:, None].repeat(1, part.shape[1], 1, 1)
                self._add(trials, row, part - part[fields, self.chosen[:, row]][:, None])
                likeness = self._likeness(trials)
                # Of words that differ by rounding alone the nearest is taken, and the one that stands there stays.
                best = (likeness >= likeness.amax(dim=1, keepdim=True) - _TIE).to(torch.int8).argmax(dim=1)
                gained = likeness[fields, best]
                better = (gained > self.reached + _TIE) & self.occupied[:, row]
                self.reached = torch.where(better, gained, self.reached)
                self.values = torch.where(better[:, None, None], trials[fields, best], self.values)
                self.chosen[:, row] = torch.where(better, best, self.chosen[:, row])
            if torch.equal(before, self.chosen):
                break
        return self.chosen

    def _add(self, values: Tensor, row: int, part: Tensor) -> None:
        """Adds (..., K, C) parts of the word at `row` to (..., positions, C) values of the first layer."""
        # The row is seen by the positions first to last - 1, by the nearer ones through the kernel's later rows.
        first, last = max(0, row - self.kernel + 1), min(self.positions, row + 1)
        values[..., first:last, :] += part[..., row - last + 1 : row - first + 1, :].flip(-2)

    def _likeness(self, values: Tensor) -> Tensor:
        """Returns (B, N) whitened cosines with the locations' own activations for (B, N, positions, C) values."""
        return functional.cosine_similarity(self.whiten(values), self.own[:, None], dim=2)

    def whiten(self, values: Tensor) -> Tensor:
        """Returns (B, N, C) whitened activations for (B, N, positions, C) values of the first layer."""
        count = values.shape[1]
        begin, end = (each.repeat_interleave(count) for each in (self.problems.begin, self.problems.end))
        repeated = replace(self.problems, begin=begin, end=end)
        reached = activations_above_first(repeated, values.flatten(0, 1))
        whitened: Tensor = ((reached - self.mean) @ self.factor).unflatten(0, values.shape[:2])
        return whitened

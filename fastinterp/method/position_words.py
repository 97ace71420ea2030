"""One word for each position of a receptive field, which together make the location respond as it did.

Eq. 8 averages the positions away: "not", "very", "good" become one blur. Here every position is read by itself. The
words nearest to a position of the optimised input are its candidates. The field's own words are not among them, but for
the commonest ones: an answer that repeats "tedious" would say nothing, while "of" may stand for "of". From the nearest
ones on, one position after the other takes the candidate with which the location's activation is most like its own
(`Whitening`), until nothing improves.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class PositionConfig:
    """How the words of the positions are chosen.

    Attributes:
        candidates: words considered at each position; by default 5 in the first layer and 20 above, where single words
            say less.
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
    """

    ids: Tensor
    cosines: Tensor
    likeness: Tensor


def position_words(
    model: TextClassifier,
    problems: Problems,
    inputs: Tensor,
    own: Tensor,
    counts: Tensor,
    whitening: Whitening,
    config: PositionConfig,
) -> PositionWords:
    """Returns for each field one word a position.

    Every problem is solved by itself, so that none depends on the others of the call.

    Args:
        model: the classifier.
        problems: B locations; `target` holds their activations.
        inputs: (B, R, D), their optimised fields.
        own: (B, R) int64 on the CPU, ids of the field's tokens; 0 where there is none.
        counts: (V,) int64, how often each word stands in the reference corpus.
        whitening: of the layer.
        config: settings.
    """
    wanted = config.candidates or (5 if len(problems.weights) == 1 else 20)
    inverse_norms = _candidate_norms(model, counts, wanted + problems.field)
    searchable = int((inverse_norms > 0).sum())
    occupied = own > 0
    rows = inputs[occupied.to(inputs.device)].contiguous()
    # As many more as could be words of the field.
    most = min(wanted + problems.field, searchable)
    cosines, nearest = ops.cosine_topk(rows, model.word_vectors, inverse_norms, most)
    content = own.masked_fill(torch.isin(own, counts.topk(min(COMMONEST, len(counts))).indices), 0).to(nearest.device)
    weight = problems.weights[0]
    flat_weight = weight.permute(1, 2, 0).flatten(1).contiguous()  # (D, K C)
    ids, chosen_cosines = torch.full(own.shape, -1, dtype=torch.int64), torch.zeros(own.shape)
    likeness = torch.zeros(len(problems))
    first = 0
    for number, count in enumerate(occupied.sum(dim=1).tolist()):
        places = occupied[number].nonzero()[:, 0]
        found, values = nearest[first : first + count], cosines[first : first + count]
        first += count
        if count == 0:
            continue
        # The field's content words go to the end, behind as many others as are wanted.
        is_own = torch.isin(found, content[number])
        order = is_own.to(torch.int8).argsort(dim=1, stable=True)[:, :wanted]
        candidates, values = found.gather(1, order), values.gather(1, order)
        vectors = model.word_vectors[candidates].flatten(0, 1)
        parts = (vectors @ flat_weight).view(*candidates.shape, weight.shape[2], -1)
        search = _Search(problems[number : number + 1], parts, places.tolist(), whitening)
        best = search.ascend(config.rounds)[:, None]
        ids[number, places] = candidates.gather(1, best)[:, 0].cpu()
        chosen_cosines[number, places] = values.gather(1, best)[:, 0].cpu()
        likeness[number] = search.reached
    return PositionWords(ids, chosen_cosines, likeness)


def _candidate_norms(model: TextClassifier, counts: Tensor, least: int) -> Tensor:
    """The reciprocal norms with those of rare words set to 0, unless too few words would be left."""
    inverse_norms = model.prepared().inverse_norms
    common = torch.where(counts.to(inverse_norms.device) >= LEAST_COUNT, inverse_norms, 0)
    return common if int((common > 0).sum()) >= least else inverse_norms


class _Search:
    """Coordinate ascent over the candidates of one field.

    A word's part in the first layer's pre-activations is computed once; exchanging it is an addition.

    Args:
        problem: one location.
        parts: (T, M, K, C), what each candidate of the T positions that hold a token adds to the first layer's
            pre-activation where it stands under each row of the kernel.
        places: the T rows of the field.
        whitening: of the layer.
    """

    def __init__(self, problem: Problems, parts: Tensor, places: list[int], whitening: Whitening) -> None:
        self.problem, self.parts, self.places = problem, parts, places
        self.mean, self.factor = (each.to(parts.device, torch.float32) for each in (whitening.mean, whitening.factor))
        self.own = functional.normalize((problem.target - self.mean) @ self.factor, dim=1)[0]
        kernel = problem.weights[0].shape[2]
        positions = problem.field - kernel + 1  # of the first layer that the field covers
        # Row p is seen by the positions first to last - 1, by the nearer ones through the kernel's later rows.
        self.spans = [(max(0, place - kernel + 1), min(positions, place + 1)) for place in places]
        self.chosen = [0] * len(places)
        self.values = problem.biases[0].repeat(positions, 1)
        for turn in range(len(places)):
            self._add(self.values, turn, parts[turn, 0])
        self.reached = self._likeness(self.values[None])[0]

    def ascend(self, rounds: int) -> Tensor:
        """Returns (T,) the candidate of each position."""
        for _ in range(rounds):
            before = self.chosen.copy()
            for turn in range(len(self.places)):
                trials = self.values.repeat(self.parts.shape[1], 1, 1)
                self._add(trials, turn, self.parts[turn] - self.parts[turn, self.chosen[turn]])
                likeness = self._likeness(trials)
                best = int(likeness.argmax())
                if likeness[best] > self.reached:
                    self.reached, self.values, self.chosen[turn] = likeness[best], trials[best], best
            if before == self.chosen:
                break
        return torch.tensor(self.chosen, device=self.parts.device)

    def _add(self, values: Tensor, turn: int, part: Tensor) -> None:
        """Adds (..., K, C) parts of the word at a turn's row to (..., positions, C) values of the first layer."""
        first, last = self.spans[turn]
        place = self.places[turn]
        values[..., first:last, :] += part[..., place - last + 1 : place - first + 1, :].flip(-2)

    def _likeness(self, values: Tensor) -> Tensor:
        """Returns (N,) whitened cosines with the location's own activation for (N, positions, C) values."""
        reached = (activations_above_first(self.problem, values.transpose(1, 2)) - self.mean) @ self.factor
        return functional.cosine_similarity(reached, self.own[None])

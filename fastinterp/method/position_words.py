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
from fastinterp.method.fields import beside_their_middle, cut_to_their_rows
from fastinterp.models.protocol import TextClassifier
from fastinterp.validation import integer

LEAST_COUNT = 3  # how often a candidate must stand in the reference corpus: rarer words have vectors of little meaning
COMMONEST = 100  # so many words of the reference corpus may stand for themselves
CANDIDATES_FIRST_LAYER, CANDIDATES_ABOVE = 5, 10  # above, single words say less
_TIE = 1e-6  # of a cosine in float32


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

    Neither the other problems of the call nor the number of threads decides a choice (on a GPU up to rounding).

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
    stays = (torch.zeros_like(own) if rest is None else rest).to(candidates.device)
    candidates = torch.where(occupied[..., None], candidates, stays[..., None])
    # What stays, padding or a special token, counts where its vector is not zero, as in a module of somebody else's.
    filled = occupied | (problems.exists & model.word_vectors[stays].any(dim=2))
    different, number = candidates.unique(return_inverse=True)
    mean, factor = (
        each.to(candidates.device, torch.float32).contiguous() for each in (whitening.mean, whitening.factor)
    )
    offered = number.masked_fill(~filled[..., None], -1)
    settled = (mean, factor, config.rounds, _TIE)
    if beside_their_middle(problems):
        chosen, reached = torch.zeros_like(stays), torch.zeros_like(problems.target)
        for members, rows, part in cut_to_their_rows(problems):
            chosen[members, rows], reached[members] = ops.exchange_words(
                part, model.word_vectors[different], offered[members, rows].contiguous(), *settled
            )
    else:
        chosen, reached = ops.exchange_words(problems, model.word_vectors[different], offered, *settled)
    ids = candidates.gather(2, chosen[..., None])[..., 0].masked_fill(~occupied, -1).cpu()
    said = cosines.gather(2, chosen[..., None])[..., 0].cpu()
    whitened = whitening.apart(reached)
    likeness = functional.cosine_similarity(whitened, whitening.apart(problems.target), dim=1)
    return PositionWords(ids, said, likeness.float().cpu(), whitened.cpu())


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

"""Does an answer tell its location apart from others of the same class? What the matching rate cannot see.

It is the detection score of automated interpretability (Paulo et al. 2024, "Automatically Interpreting Millions of
Features in Large Language Models") with the model itself as the judge, so that no language model is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.evaluation.draws import draw_others
from fastinterp.method.background import Whitening
from fastinterp.validation import integer

DISTRACTORS = 99

_FLOATS_AT_ONCE = 1 << 23  # bounds the memory for the distractors' activations
_ROUNDING = 1e-6  # of a cosine in float32; likeness that differs by less is a tie


@dataclass(frozen=True, eq=False)
class Identification:
    """Where a location's own activation stands among others, by likeness to its answer's; on the CPU.

    Attributes:
        rank: (B,) int64, 1 where no distractor is as like, up to the number of distractors plus 1.
        distractors: (B,) int64, how many others it was compared with.
    """

    rank: Tensor
    distractors: Tensor

    @property
    def identified(self) -> Tensor:
        """(B,) float64: 1 where the rank is 1, 0 where not, NaN where there was nothing to compare with."""
        return torch.where(self.distractors > 0, (self.rank == 1).double(), torch.nan)

    @property
    def chance(self) -> float:
        """The share that answers which say nothing would reach: .01 with 99 distractors; NaN where there are none."""
        compared = self.distractors[self.distractors > 0].double()
        return float((1 / (compared + 1)).mean())


def identification_ranks(
    found: Tensor,
    own: Tensor,
    sentence: Tensor,
    label: Tensor,
    whitening: Whitening,
    distractors: int = DISTRACTORS,
    seed: int = 0,
) -> Identification:
    """Returns how many of the drawn distractors are at least as like the answer's activation as the location's own.

    Likeness is the cosine of whitened activations. Ties count against the answer. Distractors are locations of other
    sentences with the same predicted class, drawn as `draw_others` says; all of them where there are no more.

    Args:
        found: (B, C) activations of the answers, read back (`answer_activations`).
        own: (B, C) activations of the locations.
        sentence: (B,) int64, naming the sentence of each location. With `content_keys(ids)[selection.sentence]`
            copies of a sentence are one, and no result depends on the order of sentences.
        label: (B,) int64, predicted class of that sentence.
        whitening: of the layer.
        distractors: how many at most.
        seed: of the draw.

    Raises:
        ValueError: shapes that do not fit, or no distractors.
    """
    count = integer("distractors", distractors, least=1)
    shapes = [tuple(each.shape) for each in (found, own, sentence, label)]
    if own.dim() != 2 or shapes[0] != shapes[1] or shapes[2:] != [shapes[1][:1]] * 2:
        raise ValueError(f"found, own, sentence, label: expected (B, C), (B, C), (B,), (B,), got {shapes}")
    drawn = draw_others(sentence.to(own.device), label.to(own.device), count, integer("seed", seed))
    read, real = (functional.normalize(whitening.whiten(each), dim=1) for each in (found, own))
    likeness = (read * real).sum(dim=1)
    at_once = max(1, _FLOATS_AT_ONCE // max(1, count * own.shape[1]))
    beaten = torch.zeros(len(own), dtype=torch.int64, device=own.device)
    for rows in torch.arange(len(own), device=own.device).split(at_once):
        others = torch.bmm(real[drawn[rows].clamp(min=0)], read[rows][:, :, None]).squeeze(2)
        is_less = others + _ROUNDING < likeness[rows][:, None]  # false for NaN, which identifies nothing
        beaten[rows] = (is_less & (drawn[rows] >= 0)).sum(dim=1)
    compared = (drawn >= 0).sum(dim=1)
    return Identification((compared - beaten + 1).cpu(), compared.cpu())

"""What interpret() returns: plain, frozen, and standing alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastinterp.text.tokenizer import TokenizedText

if TYPE_CHECKING:
    from fastinterp.method.evidence import Evidence


class _ComparedByValue:
    """Equality of dataclasses that hold tensors, whose own == gives a tensor."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(torch.equal(mine, its) if isinstance(mine, Tensor) else mine == its for mine, its in pairs)

    def __hash__(self) -> int:
        return hash(type(self))


@dataclass(frozen=True, eq=False)
class Location(_ComparedByValue):
    """One selected location of a hidden layer, and the answers to what it detects. An answer not asked for is None.

    Attributes:
        index: position in the layer, from 0.
        score: its saliency (Eq. 3) for the explained class.
        token_indices: positions of the sentence's tokens that it sees.
        tokens: those tokens.
        spans: for each of them the (begin, end) of what it was read from, in characters of the raw text; empty for a
            model whose tokeniser does not say it.
        token_scores: what each of them adds to the score; together with `rest_score` they are the score.
        rest_score: what the biases add.
        optimized: (D,) float32, the mean of the field optimised by Eq. 5-7 (Eq. 8).
        neighbors: "points to", the words nearest to it and their cosines, best first. They name the class.
        margin: cosine of the last of them less that of the first word left out; near 0, the choice was a close one.
        residual: of the optimisation by solver "ccp"; see `OptimizedInputs`.
        position_words: "stands out by", for each token a word that makes the location respond as it did, and its cosine
            with the optimised input at that position.
        likeness: whitened cosine, -1 to 1, of the location's activation and that which `position_words` give.
        evidence: "fires alike on", the real n-grams to which the location's layer responds most alike, best first.
        rank: place of the location's own activation among those of `rank_of - 1` others of its class by their likeness
            to what `position_words` give; 1 where the words identify it.
        rank_of: how many were compared.
    """

    index: int
    score: float
    token_indices: tuple[int, ...]
    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    token_scores: tuple[float, ...] | None = None
    rest_score: float | None = None
    optimized: Tensor | None = None
    neighbors: tuple[tuple[str, float], ...] | None = None
    margin: float | None = None
    residual: float | None = None
    position_words: tuple[tuple[str, float], ...] | None = None
    likeness: float | None = None
    evidence: tuple[Evidence, ...] | None = None
    rank: int | None = None
    rank_of: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists, strings and numbers, ready for JSON."""
        return {
            **vars(self),
            "token_indices": list(self.token_indices),
            "tokens": list(self.tokens),
            "spans": [list(span) for span in self.spans],
            "token_scores": None if self.token_scores is None else list(self.token_scores),
            "optimized": None if self.optimized is None else self.optimized.tolist(),
            "neighbors": _word_dicts(self.neighbors),
            "position_words": _word_dicts(self.position_words),
            "evidence": None if self.evidence is None else [_evidence_dict(each) for each in self.evidence],
        }


def _word_dicts(words: tuple[tuple[str, float], ...] | None) -> list[dict[str, object]] | None:
    return None if words is None else [{"word": word, "cosine": cosine} for word, cosine in words]


def _evidence_dict(evidence: Evidence) -> dict[str, object]:
    return {**vars(evidence), "tokens": list(evidence.tokens)}


@dataclass(frozen=True, eq=False)
class Interpretation(_ComparedByValue):
    """Why a model gives a sentence the score of a class.

    Every tensor owns its memory, so that one result may be kept or pickled without the batch it came from.

    Attributes:
        text: the sentence as it came.
        tokens: its tokens inside the frame, as the model reads them.
        dropped: characters of the whole text that are part of no token, white space apart, and how often each.
        unknown: those of them that are not in the vocabulary; the model sees one vector for all.
        truncated: whether tokens beyond the frame were cut off.
        label: name of the predicted class.
        probability: softmax probability of that class.
        target: name of the explained class; the predicted one unless another was asked for.
        versus: name of the class whose score was taken away from it, if any.
        order: "most", "least" or "absolute": which end of the saliency the locations are from.
        layer: index of the interpreted layer.
        saliency: (L,) float32, the score of every location for the explained class.
        locations: the selected locations in that order; none for a text without tokens.
        layer_name: what the layer is called.
        path: by what it is explained: "kernels", or "module", the module itself and autograd.
        reason: why.
    """

    text: str
    tokens: tuple[str, ...]
    dropped: dict[str, int]
    unknown: tuple[str, ...]
    truncated: bool
    label: str
    probability: float
    target: str
    versus: str | None
    order: str
    layer: int
    saliency: Tensor
    locations: tuple[Location, ...]
    layer_name: str
    path: str
    reason: str

    @property
    def dropped_signs(self) -> dict[str, int]:
        """Those dropped characters that mean something: letters, marks, digits and symbols beyond ASCII."""
        return TokenizedText(self.tokens, self.dropped).dropped_signs

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists, strings and numbers, ready for JSON."""
        return {
            **vars(self),
            "tokens": list(self.tokens),
            "unknown": list(self.unknown),
            "saliency": self.saliency.tolist(),
            "locations": [location.to_dict() for location in self.locations],
        }

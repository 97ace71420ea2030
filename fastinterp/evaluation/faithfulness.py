"""Does the prediction rest on the tokens that an explanation names? By deleting them (ERASER, DeYoung et al. 2020).

The names `aopc_compr` and `aopc_suff`, the bounds and the direction are those of ferret (Attanasio et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fastinterp.evaluation.draws import random_scores
from fastinterp.method.fields import class_scores
from fastinterp.method.places import fields_at, is_own
from fastinterp.method.saliency import Selection
from fastinterp.method.starts import sentence_keys
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import number

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # ERASER's

_FLOATS_AT_ONCE = 1 << 24  # bounds the memory of a backward pass
_SENTENCES_AT_ONCE = 512  # the same of a module's, whose own layer goes back through few sentences at once


class DeletionMeasure:
    """A drop of the predicted class's probability when tokens are deleted, and how it is to be read."""

    NAME: ClassVar[str]
    SHORT_NAME: ClassVar[str]
    MIN_VALUE: ClassVar[float] = -1.0
    MAX_VALUE: ClassVar[float] = 1.0
    BEST_VALUE: ClassVar[float]
    LOWER_IS_BETTER: ClassVar[bool]

    @staticmethod
    def kept(tokens: Tensor, rationale: Tensor) -> Tensor:
        """Returns what is left to read, (B, L) bool, of `tokens` (B, L) bool."""
        raise NotImplementedError


class AopcComprehensiveness(DeletionMeasure):
    """p(c | x) - p(c | x without r): how much of the class's probability goes with the rationale."""

    NAME = "aopc_comprehensiveness"
    SHORT_NAME = "aopc_compr"
    BEST_VALUE = 1.0
    LOWER_IS_BETTER = False

    @staticmethod
    def kept(tokens: Tensor, rationale: Tensor) -> Tensor:
        """Returns the tokens outside the rationale."""
        return tokens & ~rationale


class AopcSufficiency(DeletionMeasure):
    """p(c | x) - p(c | r alone): how much of the class's probability goes with all but the rationale."""

    NAME = "aopc_sufficiency"
    SHORT_NAME = "aopc_suff"
    BEST_VALUE = 0.0
    LOWER_IS_BETTER = True

    @staticmethod
    def kept(tokens: Tensor, rationale: Tensor) -> Tensor:
        """Returns the tokens of the rationale."""
        return tokens & rationale


MEASURES: tuple[type[DeletionMeasure], ...] = (AopcComprehensiveness, AopcSufficiency)


def aopc(model: TextClassifier, ids: Tensor, rationales: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns comprehensiveness and sufficiency of each sentence by short name, (B,) float64 each.

    Both are means over the rationales: over a ranking's top tokens at several shares, which is the area over the
    perturbation curve (AOPC), or the plain measure where there is one rationale. The class is the predicted one.
    Special tokens such as [CLS] are never deleted, and what is left of a sentence is read in the frame that a sentence
    of so many tokens has. NaN for a sentence without tokens of its own.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU, padding behind the tokens.
        rationales: (B, L) bool each, at least one.

    Raises:
        ValueError: no rationale, or one of another shape or dtype.
    """
    if not rationales:
        raise ValueError("rationales: expected at least one")
    for rationale in rationales:
        if rationale.shape != ids.shape or rationale.dtype != torch.bool:
            raise ValueError(
                f"rationales: expected bool of shape {tuple(ids.shape)}, got {rationale.dtype} of "
                f"{tuple(rationale.shape)}"
            )
    tokens = is_own(model, ids)
    special = (ids != PAD) & ~tokens
    read = [
        keep_tokens(ids, special | measure.kept(tokens, rationale.cpu()))
        for measure in MEASURES
        for rationale in rationales
    ]
    probabilities = _probabilities(model, torch.cat([ids, *read])).view(1 + len(read), len(ids), len(model.classes))
    label = probabilities[0].argmax(dim=1)
    whole, *left = probabilities[:, torch.arange(len(ids)), label]
    drops = (whole - torch.stack(left)).view(len(MEASURES), len(rationales), -1).mean(dim=1)
    drops[:, ~tokens.any(dim=1)] = torch.nan
    return {measure.SHORT_NAME: drop for measure, drop in zip(MEASURES, drops, strict=True)}


def _probabilities(model: TextClassifier, ids: Tensor) -> Tensor:
    """Returns probabilities (N, classes) float64 of sentences, each different one read once.

    The shares of a short sentence often round up to the same tokens, and a batch of sentences of about the same
    length has little padding to read.
    """
    different, place = ids.unique(dim=0, return_inverse=True)
    order = (different != PAD).sum(dim=1).argsort()
    scores = model.class_scores(different[order]).double()
    return model.probabilities(scores.new_empty(scores.shape).index_copy(0, order, scores))[place]


def keep_tokens(ids: Tensor, kept: Tensor) -> Tensor:
    """Returns sentences (B, L) without their other tokens; those that are kept move together.

    Args:
        ids: (B, L) int64.
        kept: (B, L) bool, only at tokens.
    """
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    behind = torch.arange(ids.shape[1], device=ids.device) >= kept.sum(dim=1, keepdim=True)
    return ids.gather(1, order).masked_fill(behind, PAD)


def top_tokens(tokens: Tensor, scores: Tensor, shares: Sequence[float] = SHARES) -> list[Tensor]:
    """Returns for each share the tokens of highest score, (B, L) bool: the share times the tokens, rounded up.

    Args:
        tokens: (B, L) bool, where a sentence has tokens of its own, as `is_own` says.
        scores: (B, L), of the tokens; what stands elsewhere does not matter. Ties go to the lower position.
        shares: from more than 0 to 1.

    Raises:
        ValueError: scores of another shape, NaN, or a share out of range.
    """
    count = tokens.sum(dim=1, keepdim=True).double()
    rationales = []
    for share in shares:
        if number("shares", share, above=0) > 1:
            raise ValueError(f"shares: expected at most 1, got {share!r}")
        # The slack keeps .55 x 100, a little more than 55 in floating point, from being rounded up to 56 tokens.
        rationales.append(highest_tokens(tokens, scores, (count * share - 1e-9).ceil()))
    return rationales


def random_tokens(model: TextClassifier, ids: Tensor, rationale: Tensor, seed: int = 0) -> Tensor:
    """Returns as many tokens of each sentence as a rationale has, drawn from (seed, the sentence): (B, L) bool.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU.
        rationale: (B, L) bool, only at tokens.
        seed: of the draw.
    """
    scores = random_token_scores(model, ids, seed)
    return highest_tokens(is_own(model, ids), scores, rationale.sum(dim=1, keepdim=True))


def random_token_scores(model: TextClassifier, ids: Tensor, seed: int = 0) -> Tensor:
    """Returns (B, L) float64 scores drawn from (seed, the sentence): the ranking that knows nothing."""
    return random_scores(sentence_keys(ids, model.frames(ids)), ids.shape[1], seed)


def highest_tokens(tokens: Tensor, scores: Tensor, counts: Tensor) -> Tensor:
    """Returns so many tokens of highest score, (B, L) bool; all where a sentence has fewer.

    Args:
        tokens: (B, L) bool, where a sentence has tokens of its own, as `is_own` says.
        scores: (B, L), of the tokens; what stands elsewhere does not matter. Ties go to the lower position.
        counts: (B, 1), how many of each sentence.

    Raises:
        ValueError: scores of another shape, or NaN.
    """
    if scores.shape != tokens.shape or torch.isnan(scores).any():
        raise ValueError(f"scores: expected numbers of shape {tuple(tokens.shape)}, got {tuple(scores.shape)} or NaN")
    ranked = scores.to(tokens.device).double().masked_fill(~tokens, -torch.inf)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(tokens.shape[1], device=tokens.device) < counts
    return torch.zeros_like(chosen).scatter(1, order, chosen) & tokens


def selected_tokens(model: TextClassifier, ids: Tensor, layer: int, selection: Selection) -> Tensor:
    """Returns the tokens that the selected locations of each sentence see, (B, L) bool on the CPU.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU.
        layer: index of the layer.
        selection: of these sentences.

    Raises:
        ValueError: no such layer.
    """
    fields, sentence = fields_at(model, layer, ids, selection), selection.sentence.cpu()
    place = torch.arange(ids.shape[1]) - model.field(layer).first(fields.location)[:, None]
    seen = (place >= fields.first[:, None]) & (place < fields.last[:, None])
    counts = torch.zeros(ids.shape, dtype=torch.int64).index_add(0, sentence, seen.long())
    return (counts > 0) & is_own(model, ids)


def gradient_times_input(model: TextClassifier, ids: Tensor) -> Tensor:
    """Returns x_p . dS_c/dx_p for every token and the predicted class, (B, L) float32 on the CPU; 0 at padding.

    Simonyan et al. 2014's gradient, times the input (Shrikumar et al. 2016): the usual attribution to words, as
    Captum's InputXGradient gives it, here by torch's autograd through the whole stack, or through the user's module.
    Special tokens such as [CLS] have 0 too.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU.
    """
    own = model.module_layer(0)
    if own is not None:
        parts = [own.gradient_times_input(batch).cpu() for batch in ids.split(_SENTENCES_AT_ONCE)]
        return torch.cat(parts) * is_own(model, ids)
    stack = model.stack(model.layers - 1)
    size = max(1, _FLOATS_AT_ONCE // (model.length * max(weight[0].numel() for weight in stack.weights)))
    found = []
    for batch in ids.split(size):
        # Whatever mode the caller is in: neither it nor the tensors it made may keep a gradient from being taken.
        with torch.inference_mode(False), torch.enable_grad():
            embedded = model.word_vectors[batch.to(model.device)].requires_grad_()
            weights, biases, head = (
                [each.clone() for each in kind] for kind in (stack.weights, stack.biases, model.head)
            )
            scores = class_scores(embedded, weights, biases, stack.activation, (head[0], head[1]))
            predicted = scores.gather(1, scores.argmax(dim=1, keepdim=True))
            gradient = torch.autograd.grad(predicted.sum(), embedded)[0]
        found.append((gradient * embedded.detach()).sum(dim=2).cpu())
    return torch.cat(found) if found else torch.zeros(ids.shape)

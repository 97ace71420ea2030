"""What a measure says of answers that should not be good ones; a rate without them says nothing.

Each function gives what the method gives in the same place, so that the same measures read it: locations, words of a
location, a model, or settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fastinterp.evaluation.draws import random_scores
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.saliency import Selection, select_locations
from fastinterp.method.starts import sentence_keys
from fastinterp.method.words import nearest_words
from fastinterp.models.adapt import AdaptedModel
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import integer

BAND = 100  # words of about the same frequency that one of them may stand for


def random_locations(model: TextClassifier, ids: Tensor, layer: int, locations: int, seed: int = 0) -> Selection:
    """Returns m locations of each sentence that see a token, drawn from (seed, the sentence).

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU.
        layer: index of the layer.
        locations: m.
        seed: of the draw.

    Raises:
        ValueError: no such layer, or m is not between 1 and L.
    """
    frames = model.frames(ids)
    most = int(model.locations(layer, frames).max()) if len(ids) else 0
    scores = random_scores(sentence_keys(ids, frames), most, seed).to(model.device)
    return select_locations(model, ids, scores, layer, locations)


def random_words(model: TextClassifier, tokens: Sequence[Sequence[str]], seed: int = 0) -> list[list[str]]:
    """Returns for each token any word of the vocabulary that can be found, drawn from (seed, the field's tokens).

    Args:
        model: the classifier.
        tokens: that each location sees.
        seed: of the draw.

    Raises:
        ValueError: no word of the model has a vector.
    """
    searchable = _searchable(model, least=1)
    ids = model.token_ids(tokens)
    drawn = (_drawn_for(model, ids, seed) * len(searchable)).long()
    return _spell(model, searchable[drawn], tokens)


def frequency_matched_words(
    model: TextClassifier, tokens: Sequence[Sequence[str]], counts: Tensor, seed: int = 0
) -> list[list[str]]:
    """Returns for each token another word that is about as frequent, drawn from (seed, the field's tokens).

    Words are ranked by their counts. A token gives way to one of the hundred words whose ranks are nearest to its own.

    Args:
        model: the classifier.
        tokens: that each location sees.
        counts: (V,) int64, `count_words` of a corpus, or `Background.counts`.
        seed: of the draw.

    Raises:
        ValueError: counts of another shape, or fewer than two words to choose from.
    """
    if counts.shape != (len(model.words),):
        raise ValueError(f"counts: expected one for each of {len(model.words)} words, got {tuple(counts.shape)}")
    searchable = _searchable(model, least=2)
    ranked = searchable[counts[searchable].argsort(descending=True, stable=True)]
    ids = model.token_ids(tokens)
    # A token that cannot be found, such as an unknown one, stands where words of its count begin, as if among them.
    place = torch.searchsorted(-counts[ranked], -counts[ids])
    rank = torch.full((len(model.words),), -1)
    rank[ranked] = torch.arange(len(ranked))
    own = rank[ids]
    place = torch.where(own >= 0, own, place)
    others = min(BAND, len(ranked) - 1)
    begin = (place - others // 2).clamp(0, len(ranked) - 1 - others)
    drawn = begin + (_drawn_for(model, ids, seed) * others).long()
    drawn += (own >= 0) & (drawn >= place)  # the token itself is skipped
    return _spell(model, ranked[drawn], tokens)


def mean_of_field_words(model: TextClassifier, tokens: Sequence[Sequence[str]], neighbors: int = 5) -> list[list[str]]:
    """Returns the nearest words of the mean of the real field's word vectors: Eq. 8 without any optimisation.

    Args:
        model: the classifier.
        tokens: that each location sees.
        neighbors: k.

    Raises:
        ValueError: more neighbours than there are words.
    """
    # The sum has the mean's direction, which is all that a cosine sees; a module's padding may have a vector.
    ids = model.token_ids(tokens).to(model.device)
    sums = (model.word_vectors[ids] * (ids != PAD)[:, :, None]).sum(dim=1)
    return [[word for word, _ in row] for row in nearest_words(model, sums, neighbors)]


def nearest_other_words(model: TextClassifier, tokens: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns for each token the word nearest to it that is another: what a thesaurus says of the field.

    Args:
        model: the classifier.
        tokens: that each location sees.

    Raises:
        ValueError: fewer than two words to choose from.
    """
    _searchable(model, least=2)
    ids = model.token_ids(tokens)
    used = ids.unique()
    rows = nearest_words(model, model.word_vectors[used.to(model.device)], 2)
    own = (model.words[index] for index in used.tolist())
    others = {
        index: next(word for word, _ in row if word != token)
        for index, token, row in zip(used.tolist(), own, rows, strict=True)
    }
    return [[others[index] for index in row[: len(each)]] for row, each in zip(ids.tolist(), tokens, strict=True)]


def randomized_model(model: TextClassifier, seed: int = 0) -> TextClassifier:
    """Returns a copy with convolutions and linear layer drawn anew, as before training (Adebayo et al. 2018).

    The word vectors stay: they say what words mean, and answers are read in them. An explanation that is the same for
    such a model does not explain what the trained one learned. How a module of the user's was before training is not
    known: the numbers of each of its weights are put in another order.

    Args:
        model: is left as it is.
        seed: of the weights.
    """
    drawn_from = integer("seed", seed)
    if isinstance(model, AdaptedModel):
        return model.with_shuffled_weights(drawn_from)
    if not isinstance(model, ConvTextModel):
        raise TypeError(f"model: expected a ConvTextModel or what adapt returns, got {type(model).__name__}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn_from)
        drawn = ConvTextModel(model.config, model.vocabulary, model.word_vectors.cpu())
    return drawn.to(model.device).eval()


def ablations(config: OptimizationConfig) -> dict[str, OptimizationConfig]:
    """Returns the settings without the similarity term and without the L2 term, by what they are called in a table.

    Args:
        config: with both; without the L2 term it must be Adam's, since there is no optimum to go to.
    """
    return {
        "no similarity term": replace(config, similarity_weight=0.0),
        "no L2 term": replace(config, l2_weight=0.0),
    }


def _drawn_for(model: TextClassifier, ids: Tensor, seed: int) -> Tensor:
    """Returns numbers from 0 to 1 for the tokens (B, L) of fields, drawn from (seed, the field's tokens)."""
    return random_scores(sentence_keys(ids, model.frames(ids)), ids.shape[1], seed)


def _searchable(model: TextClassifier, least: int) -> Tensor:
    """Returns the ids of the words that can be found, on the CPU; raises ValueError where there are not so many."""
    found = model.prepared().inverse_norms.cpu().nonzero()[:, 0]
    if len(found) < least:
        raise ValueError(f"model: expected words that have a vector, at least {least}, got {len(found)}")
    return found


def _spell(model: TextClassifier, ids: Tensor, tokens: Sequence[Sequence[str]]) -> list[list[str]]:
    """Returns the words of ids (B, L), as many of each row as there are tokens."""
    return [[model.words[index] for index in row[: len(each)]] for row, each in zip(ids.tolist(), tokens, strict=True)]

"""Building the index of evidence: which locations of a reference corpus are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from fastinterp.method.background import SHRINKAGE, Background, Whitening
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.reference_corpus import PackedStrings, ReferenceCorpus, starts_of
from fastinterp.method.saliency import explain_locations, visible_locations
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import got, integer

if TYPE_CHECKING:
    from fastinterp.data.splits import TextDataset  # which imports scikit-learn; nobody who searches needs it

LOCATIONS = 6  # the most salient ones of each sentence
MOST = 60_000  # locations; more of them are what makes evidence better, and memory and search time grow alike
_SENTENCES_AT_ONCE = 256  # bounds the memory for activations; the index does not depend on it


def build_index(
    model: TextClassifier,
    dataset: TextDataset,
    background: Background,
    layer: int,
    locations: int = LOCATIONS,
    most: int = MOST,
    seed: int = 0,
    shrinkage: float = SHRINKAGE,
) -> ActivationIndex:
    """Returns the index of a layer's activations at the most salient locations of labelled texts.

    Where there are more than `most` locations, as many are drawn of each label, or all that a rare label has.

    Args:
        model: the classifier.
        dataset: the reference corpus, such as the training texts; its classes are the model's.
        background: of the model.
        layer: index of the convolution.
        locations: how many of each sentence at most.
        most: how many in all at most.
        seed: of the draw.
        shrinkage: eps of the whitening.

    Raises:
        TypeError: the background is none.
        ModelError: the background is another model's, or the layer is not in it.
        ValueError: no such layer, a number out of range, other classes than the model's, or no text with a token.
    """
    field = model.field(layer)
    if not isinstance(background, Background):
        raise TypeError(f"background: expected what fit_background(model, texts) returns, got {got(background)}")
    whitening = background.layer(model, layer).whitening(shrinkage)
    # In the layout that a file has, since a product's last bit may depend on it.
    whitening = replace(whitening, factor=whitening.factor.contiguous())
    each = integer("locations", locations, least=1, most=model.length)
    most = integer("most", most, least=1)
    if tuple(dataset.classes) != tuple(model.classes):
        raise ValueError(f"dataset: expected the model's classes {got(model.classes)}, got {got(dataset.classes)}")

    words: dict[str, int] = {}
    tokens, ids, seen = _read(model, dataset.texts, words, layer)
    labels, counts = torch.tensor(dataset.labels, dtype=torch.int32), seen.clamp(max=each)
    if not counts.any():
        raise ValueError(f"dataset: expected texts with tokens, got {len(dataset)} without any")
    ranks = _draw(counts, labels, most, seed)
    chosen = torch.tensor([i for i, drawn in enumerate(ranks) if drawn])
    kept, kept_ids = ([every[i] for i in chosen.tolist()] for every in (tokens, ids))
    vectors, sentence, location = _measure(model, kept_ids, layer, each, [ranks[i] for i in chosen.tolist()], whitening)
    return ActivationIndex(
        vectors=vectors,
        sentence=sentence,
        location=location,
        corpus=ReferenceCorpus(
            texts=PackedStrings.of(dataset.texts[i] for i in chosen.tolist()),
            labels=labels[chosen],
            words=PackedStrings.of(words),
            tokens=torch.cat(kept),
            starts=starts_of([len(each) for each in kept]),
        ),
        whitening=whitening,
        shrinkage=float(shrinkage),
        layer=layer,
        before=field.before,
        width=field.rows(torch.tensor([len(each) for each in kept])),
        stride=field.stride,
        length=model.length,
        classes=tuple(model.classes),
        fingerprint=model.fingerprint(),
    )


def _read(
    model: TextClassifier, texts: Sequence[str], words: dict[str, int], layer: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Returns of each text what is inside its frame, and how many locations see a token of it (S,) int64.

    That is its tokens, int32 positions in `words`, which grows by what is new; and their ids, int32.
    """
    found, every_id, seen = [], [], [torch.zeros(0, dtype=torch.int64)]
    for first in range(0, len(texts), _SENTENCES_AT_ONCE):
        read = model.read(texts[first : first + _SENTENCES_AT_ONCE])
        for text, ids in zip(read.texts, read.ids, strict=True):
            tokens = text.tokens[: model.length]
            numbers = [words.setdefault(token, len(words)) for token in tokens]
            found.append(torch.tensor(numbers, dtype=torch.int32))
            every_id.append(ids[: len(tokens)].to(torch.int32))
        most = int(model.locations(layer, model.frames(read.ids)).max())
        seen.append(visible_locations(model, read.ids, layer, most).sum(dim=1))
    return found, every_id, torch.cat(seen)


def _draw(counts: Tensor, labels: Tensor, most: int, seed: int) -> list[list[int]]:
    """Returns for each sentence which of its locations are in the index, as ranks of saliency in ascending order.

    Args:
        counts: (S,) int64, locations of each sentence.
        labels: (S,) int32.
        most: how many in all.
        seed: of the draw.
    """
    sentence = torch.arange(len(counts)).repeat_interleave(counts)
    rank = torch.arange(len(sentence)) - (counts.cumsum(0) - counts)[sentence]
    if len(sentence) > most:
        generator = torch.Generator().manual_seed(seed)
        label = labels[sentence]
        drawn = []
        for value, share in _shares(label, most).items():
            members = (label == value).nonzero()[:, 0]
            drawn.append(members[torch.randperm(len(members), generator=generator)[:share]])
        kept = torch.cat(drawn).sort().values
        sentence, rank = sentence[kept], rank[kept]
    ranks: list[list[int]] = [[] for _ in counts]
    for i, place in zip(sentence.tolist(), rank.tolist(), strict=True):
        ranks[i].append(place)
    return ranks


def _shares(label: Tensor, most: int) -> dict[int, int]:
    """Returns how many of each label: equally many, and what rare ones have not is shared among the others."""
    values, counts = label.unique(return_counts=True)
    shares: dict[int, int] = {}
    left = most
    # The rarest first: what it lacks of an equal share is there for those that follow.
    for position in counts.argsort(stable=True).tolist():
        share = min(int(counts[position]), left // (len(counts) - len(shares)))
        shares[int(values[position])] = share
        left -= share
    return shares


def _measure(
    model: TextClassifier,
    every_id: Sequence[Tensor],
    layer: int,
    locations: int,
    ranks: Sequence[Sequence[int]],
    whitening: Whitening,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns whitened activations (N, C), sentence (N,) and location (N,) of what was drawn, on the CPU."""
    vectors, sentences, places = [], [], []
    for first in range(0, len(every_id), _SENTENCES_AT_ONCE):
        part = every_id[first : first + _SENTENCES_AT_ONCE]
        ids = pad_sequence([sentence.long() for sentence in part], batch_first=True, padding_value=PAD)
        ids = functional.pad(ids, (0, int(model.frames(ids).max()) - ids.shape[1]), value=PAD)
        _, found, activations = explain_locations(model, ids, layer, locations)
        sentence = found.sentence.cpu()
        starts = starts_of(sentence.bincount(minlength=len(part)).tolist())[:-1].tolist()
        drawn = ranks[first : first + _SENTENCES_AT_ONCE]
        rows = torch.tensor([start + rank for start, ranks in zip(starts, drawn, strict=True) for rank in ranks])
        vectors.append(whitening.whiten(activations[rows.to(activations.device)]).cpu())
        sentences.append(sentence[rows] + first)
        places.append(found.location.cpu()[rows])
    return torch.cat(vectors), torch.cat(sentences), torch.cat(places)

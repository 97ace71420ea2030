"""What a layer's activations usually are: their mean and covariance over a reference corpus.

An activation says something about its own location only beside what is usual. `Whitening` measures how alike two
activations are by the cosine of W (a - mean), where W W^T is the inverse of the covariance, shrunk a little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.method.saliency import explain_locations
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.validation import integer, number

SENTENCES = 1500  # of the reference corpus, drawn at random; more change nothing that the measures can see
LOCATIONS = 12  # the most salient ones of each sentence
SHRINKAGE = 1.0


@dataclass(frozen=True, eq=False)
class LayerBackground:
    """Mean and covariance of one layer's activations at salient locations, on the CPU.

    Attributes:
        mean: (C,) float64.
        covariance: (C, C) float64.
        count: how many locations were measured.
    """

    mean: Tensor
    covariance: Tensor
    count: int

    def whitening(self, shrinkage: float = SHRINKAGE) -> Whitening:
        """Returns the distance measure W (a - mean), W W^T = (covariance + shrinkage x its mean variance x I)^-1.

        Args:
            shrinkage: eps. Small values stress channels that seldom move, large ones leave only the centring.

        Raises:
            ValueError: not more than 0, or a layer none of whose channels ever moves.
        """
        eps = number("shrinkage", shrinkage, above=0)
        variance = self.covariance.diagonal().mean()
        if not variance > 0:
            raise ValueError("background: no channel of the layer ever changed; expected a layer that does something")
        precision = torch.linalg.inv(self.covariance + eps * variance * torch.eye(len(self.mean), dtype=torch.float64))
        precision = (precision + precision.T) / 2
        return Whitening(self.mean, precision, torch.linalg.cholesky(precision))


@dataclass(frozen=True, eq=False)
class Whitening:
    """How alike activations are, beside what is usual.

    Attributes:
        mean: (C,) float64, on the CPU as are the others.
        precision: (C, C) float64, P = W W^T.
        factor: (C, C) float64, W, lower triangular.
    """

    mean: Tensor
    precision: Tensor
    factor: Tensor

    def whiten(self, activations: Tensor) -> Tensor:
        """Returns (B, C) float32 vectors, (a - mean) W, whose cosine is the likeness of (B, C) activations."""
        mean, factor = (each.to(activations.device, torch.float32) for each in (self.mean, self.factor))
        return (activations - mean) @ factor

    def target(self, activations: Tensor) -> Tensor:
        """Returns what sets (B, C) activations apart from the usual: t = P (a - mean), as long as `a` (float32)."""
        mean, precision = (each.to(activations.device, torch.float32) for each in (self.mean, self.precision))
        apart = (activations - mean) @ precision
        lengths = torch.linalg.vector_norm(apart, dim=1, keepdim=True)
        return apart * torch.where(lengths > 0, activations.norm(dim=1, keepdim=True) / lengths, 0)


@dataclass(frozen=True, eq=False)
class Background:
    """The background of a model's layers.

    Attributes:
        layers: by the index of the layer.
        fingerprint: of the weights that it was measured with.
    """

    layers: dict[int, LayerBackground]
    fingerprint: str

    def layer(self, model: TextClassifier, layer: int) -> LayerBackground:
        """Returns the background of one layer.

        Raises:
            ModelError: it is another model's, or that layer was not measured.
        """
        if self.fingerprint != model.fingerprint():
            raise ModelError("background: it was fitted to another model; fit_background(model, texts) makes one")
        if layer not in self.layers:
            fitted = ", ".join(map(str, sorted(self.layers)))
            raise ModelError(
                f"background: expected one for layer {layer}, got one for {fitted}; fit_background fits it"
            )
        return self.layers[layer]


def fit_background(
    model: TextClassifier,
    texts: Iterable[str],
    layers: Sequence[int] | None = None,
    sentences: int = SENTENCES,
    locations: int = LOCATIONS,
    seed: int = 0,
) -> Background:
    """Returns mean and covariance of the activations at the most salient locations of a reference corpus.

    Args:
        model: the classifier.
        texts: the corpus, such as the training texts; where it has more than `sentences`, so many are drawn at random,
            since a corpus is often sorted by class.
        layers: which; all by default.
        sentences: how many texts are measured at most.
        locations: how many locations of each.
        seed: of the draw.

    Raises:
        TypeError: texts that are no strings.
        ValueError: no such layer, a number out of range, or fewer locations with a token than the layer has channels.
    """
    listed = check_sentences(texts)
    most = integer("sentences", sentences, least=1)
    chosen = draw_texts(listed, most, seed)
    ids = model.read(chosen).ids
    fitted: dict[int, LayerBackground] = {}
    for layer in range(model.layers) if layers is None else layers:
        _, _, activations = explain_locations(
            model, ids, layer, min(integer("locations", locations, least=1), model.length)
        )
        channels = model.stack(layer).channels
        if len(activations) <= channels:
            raise ValueError(
                f"texts: expected more locations than the {channels} channels of layer {layer}, got "
                f"{len(activations)} in {len(chosen)} texts; give more texts"
            )
        values = activations.double().cpu()
        mean = values.mean(dim=0)
        centred = values - mean  # the second of two passes, so that no precision is lost to a large mean
        fitted[layer] = LayerBackground(mean, centred.T @ centred / (len(values) - 1), len(values))
    return Background(fitted, model.fingerprint())


def draw_texts(texts: Sequence[str], most: int, seed: int) -> list[str]:
    """Returns all texts, or `most` of them drawn without replacement, in the order of the corpus."""
    if len(texts) <= most:
        return list(texts)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:most]
    return [texts[i] for i in order.sort().values.tolist()]

"""What a layer's activations usually are: their mean and covariance over a reference corpus.

An activation says something about its own location only beside what is usual. `Whitening` measures how alike two
activations are by the cosine of W^T (a - mean), where W W^T is the inverse of the covariance, shrunk a little.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.kernels.activations import slope_at
from fastinterp.messages import one_line
from fastinterp.method.saliency import layer_activations, select_locations
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import integer, number

SENTENCES = 1500  # of the reference corpus, drawn at random; more change nothing that the measures can see
LOCATIONS = 12  # the most salient ones of each sentence
SHRINKAGE = 1.0
_TEXTS_AT_ONCE = 4096
_FORMAT = "fastinterp-background-1"
_TENSORS = ("mean", "covariance", "slope")


@dataclass(frozen=True, eq=False)
class LayerBackground:
    """Mean and covariance of one layer's activations at salient locations, on the CPU.

    Attributes:
        mean: (C,) float64.
        covariance: (C, C) float64.
        slope: (C,) float64, the mean slope of the activation where there are tokens: the share of open gates. 0 of a
            layer that the module itself explains, whose activation is not known and whose slope nothing needs.
        count: how many locations were measured.
    """

    mean: Tensor
    covariance: Tensor
    slope: Tensor
    count: int
    _whitenings: dict[float, Whitening] = field(default_factory=dict, init=False, repr=False)

    def whitening(self, shrinkage: float = SHRINKAGE) -> Whitening:
        """Returns the measure of likeness W^T (a - mean), W W^T = (covariance + shrinkage x its mean variance x I)^-1.

        It is computed once for each shrinkage.

        Args:
            shrinkage: eps. Small values stress channels that seldom move, large ones leave only the centring.

        Raises:
            ValueError: not more than 0, or a layer none of whose channels ever moves.
        """
        eps = number("shrinkage", shrinkage, above=0)
        if eps not in self._whitenings:
            self._whitenings[eps] = self._whitening(eps)
        return self._whitenings[eps]

    def _whitening(self, eps: float) -> Whitening:
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
        kept: what was computed once for the layer that it was measured in, by what it is.
    """

    mean: Tensor
    precision: Tensor
    factor: Tensor
    kept: dict[object, Tensor] = field(default_factory=dict, repr=False)

    def whiten(self, activations: Tensor) -> Tensor:
        """Returns (B, C) float32 vectors, (a - mean) W, whose cosine is the likeness of (B, C) activations."""
        # From float64, so that the last bit does not depend on how many are whitened at once.
        return self.apart(activations).float()

    def apart(self, activations: Tensor) -> Tensor:
        """Returns (B, C) float64 vectors, (a - mean) W; `whiten` rounds them."""
        mean, factor = (each.to(activations.device) for each in (self.mean, self.factor))
        whitened: Tensor = (activations.double() - mean) @ factor
        return whitened

    def target(self, activations: Tensor) -> Tensor:
        """Returns what sets (B, C) activations apart from the usual: t = P (a - mean), as long as `a` (float32)."""
        mean, precision = (each.to(activations.device) for each in (self.mean, self.precision))
        values = activations.double()
        apart = (values - mean) @ precision
        lengths = torch.linalg.vector_norm(apart, dim=1, keepdim=True)
        scaled: Tensor = apart * torch.where(lengths > 0, values.norm(dim=1, keepdim=True) / lengths, 0)
        return scaled.float()


@dataclass(frozen=True, eq=False)
class Background:
    """The background of a model's layers.

    Attributes:
        layers: by the index of the layer.
        counts: (V,) int64, how often each word stands in the reference corpus, all of it.
        fingerprint: of the weights that it was measured with.
    """

    layers: dict[int, LayerBackground]
    counts: Tensor
    fingerprint: str

    def layer(self, model: TextClassifier, layer: int) -> LayerBackground:
        """Returns the background of one layer.

        Raises:
            ModelError: it is another model's.
        """
        if self.fingerprint != model.fingerprint():
            raise ModelError("background: it was fitted to another model; fit_background(model, texts) makes one")
        return self.layers[layer]

    def save(self, path: Path) -> None:
        """Writes it as a safetensors file."""
        tensors = {"counts": self.counts}
        for place, layer in self.layers.items():
            tensors |= {f"{place}.{name}": getattr(layer, name).contiguous() for name in _TENSORS}
        described = {str(place): layer.count for place, layer in self.layers.items()}
        metadata = {"format": _FORMAT, "fingerprint": self.fingerprint, "locations": json.dumps(described)}
        # Bytes written by ourselves get the mode that the umask says; safetensors' own files do not.
        path.write_bytes(safetensors.torch.save(tensors, metadata))


def load_background(path: Path) -> Background:
    """Returns the background that `Background.save` wrote.

    Raises:
        ModelError: it cannot be read or is damaged; the message names the file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"expected the format {_FORMAT}, got {metadata.get('format')}")
            layers = {}
            for place, count in json.loads(metadata["locations"]).items():
                mean, covariance, slope = (file.get_tensor(f"{place}.{name}") for name in _TENSORS)
                layers[int(place)] = LayerBackground(mean, covariance, slope, int(count))
            return Background(layers, file.get_tensor("counts"), metadata["fingerprint"])
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{one_line(path)}: not a background ({one_line(error)})") from error


def fit_background(
    model: TextClassifier,
    texts: Iterable[str],
    sentences: int = SENTENCES,
    locations: int = LOCATIONS,
    seed: int = 0,
) -> Background:
    """Returns mean and covariance of every layer's activations at the most salient locations of a reference corpus.

    Args:
        model: the classifier.
        texts: the corpus, such as the training texts; where it has more than `sentences`, so many are drawn at random,
            since a corpus is often sorted by class.
        sentences: how many texts are measured at most.
        locations: how many locations of each.
        seed: of the draw.

    Raises:
        TypeError: texts that are no strings.
        ValueError: a number out of range, or fewer locations with a token than a layer has channels.
    """
    listed = check_sentences(texts)
    chosen = draw_texts(listed, integer("sentences", sentences, least=1), seed)
    count = min(integer("locations", locations, least=1), model.length)
    ids = model.read(chosen).ids
    layers = {layer: _fit(model, ids, layer, count) for layer in range(model.layers)}
    return Background(layers, count_words(model, listed), model.fingerprint())


def count_words(model: TextClassifier, texts: Sequence[str]) -> Tensor:
    """Returns how often each word of the vocabulary stands in the texts, as far as the frame goes: (V,) int64."""
    counts = torch.zeros(len(model.words), dtype=torch.int64)
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        ids = model.read(texts[first : first + _TEXTS_AT_ONCE]).ids.flatten()
        counts += torch.bincount(ids, minlength=len(counts))
    counts[PAD] = 0
    return counts


def _fit(model: TextClassifier, ids: Tensor, layer: int, locations: int) -> LayerBackground:
    channels, field = model.channels(layer), model.field(layer)
    activation = model.stack(layer).activation if model.path(layer).name == "kernels" else None
    parts, slope, tokens = [], torch.zeros(channels, dtype=torch.float64), 0
    for batch, found, hidden in layer_activations(model, ids, layer):
        chosen = select_locations(model, batch, found.scores, layer, locations)
        parts.append(hidden[chosen.sentence, chosen.location].double().cpu())
        if activation is not None:
            exist = torch.arange(hidden.shape[1]) < model.locations(layer, model.frames(batch))[:, None]
            at_tokens = exist & field.stands_at(torch.arange(hidden.shape[1]), model.own_tokens(batch))
            at_tokens = hidden[at_tokens.to(hidden.device)]
            slope += slope_at(activation, at_tokens).double().sum(dim=0).cpu()
            tokens += len(at_tokens)
    values = torch.cat(parts)
    if len(values) <= channels:
        raise ValueError(
            f"texts: expected more locations than the {channels} channels of layer {layer}, got {len(values)} in "
            f"{len(ids)} texts; give more texts"
        )
    mean = values.mean(dim=0)
    centred = values - mean  # the second of two passes, so that no precision is lost to a large mean
    fitted = LayerBackground(mean, centred.T @ centred / (len(values) - 1), slope / max(1, tokens), len(values))
    fitted.whitening()  # a layer that does nothing is found out here, not by the first question about it
    return fitted


def draw_texts(texts: Sequence[str], most: int, seed: int) -> list[str]:
    """Returns all texts, or `most` of them drawn without replacement, in the order of the corpus."""
    if len(texts) <= most:
        return list(texts)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:most]
    return [texts[i] for i in order.sort().values.tolist()]

"""Saliency of whole test sets against captum's LayerGradientXActivation on the same weights."""

from __future__ import annotations

import torch
import workloads
from captum.attr import LayerGradientXActivation
from full_frame import FullFrameModel
from harness import Peer, Row, compare, relative_error, timed
from torch import Tensor

from fastinterp import ConvTextModel, saliency
from fastinterp.kernels import reference

GOAL = 3.0
CHECKED = 32  # sentences compared with the float64 reference


def captum_scores(model: FullFrameModel, ids: Tensor, layer: int, batch: int) -> Tensor:
    """In batches, since captum keeps the activations of all that it is given."""
    attribution = LayerGradientXActivation(model, model.activations[layer])
    scores = []
    for part in ids.split(batch):
        with torch.no_grad():
            predicted = model(part).argmax(dim=1)
        scores.append(attribution.attribute(part, target=predicted).sum(dim=1).detach())
    return torch.cat(scores)


def reference_scores(model: ConvTextModel, ids: Tensor, layer: int) -> Tensor:
    stack = model.stack(model.layers - 1)
    scores, _, _ = reference.saliency(
        model.word_vectors[ids].double(),
        (ids != 0).sum(dim=1),
        ids.shape[1],
        [weight.double() for weight in stack.weights],
        [bias.double() for bias in stack.biases],
        *(each.double() for each in model.head),
        stack.activation,
        layer,
    )
    return scores


def run(name: str, layer: int, sentences: int | None, repeats: int, trained: bool = True) -> list[Row]:
    model = workloads.model(name, trained)
    texts = workloads.corpus(name).test.texts[:sentences]
    ids = model.encode(texts)
    full = FullFrameModel(model).eval()
    expected = reference_scores(model, ids[:CHECKED], layer)

    def error(scores: Tensor) -> float:
        return relative_error(scores, expected)

    # captum is timed at the batch size that suits it best on this machine.
    trial = ids[:256]
    captum_scores(full, trial, layer, 32)
    seconds = {batch: _seconds(full, trial, layer, batch) for batch in (16, 64, 256)}
    batch = min(seconds, key=seconds.__getitem__)
    peer = Peer(f"captum, batches of {batch}", lambda: captum_scores(full, ids, layer, batch), goal=GOAL, error=error)
    work = f"saliency {name} layer {layer + 1}, {len(ids)} sentences"
    return compare(work, lambda: saliency(model, ids, layer).scores, [peer], repeats, error)


def _seconds(full: FullFrameModel, ids: Tensor, layer: int, batch: int) -> float:
    return timed(lambda: captum_scores(full, ids, layer, batch))[0]


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    if quick:
        return run("mr", 0, 200, 1, trained=False)
    rows = [row for layer in range(3) for row in run("mr", layer, None, repeats)]
    return rows + [row for layer in range(4) for row in run("ag_news", layer, None, 1)]

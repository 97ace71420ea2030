"""How often the predicted class is the labelled one."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.data.splits import TextDataset
from fastinterp.models.protocol import TextClassifier


def class_scores(model: TextClassifier, ids: Tensor) -> Tensor:
    """Returns class scores (N, classes), before softmax, of token ids (N, L), in evaluation mode, on the CPU."""
    return model.class_scores(ids)


def accuracy(model: TextClassifier, dataset: TextDataset) -> float:
    """Returns the share of texts that are given their label."""
    predicted = model.class_scores(model.read(dataset.texts).ids).argmax(dim=1)
    return float((predicted == torch.tensor(dataset.labels)).float().mean())

"""Training a ConvTextModel: Adam, early stopping on a validation split, the best weights kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.data.splits import TextDataset, split
from fastinterp.errors import TrainingError
from fastinterp.models.conv import ConvTextModel
from fastinterp.text.vocabulary import PAD, UNKNOWN
from fastinterp.training.scores import batch_scores, class_scores, distinct_words
from fastinterp.validation import choice, flag, integer, number


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; the defaults are the paper's for MR (Table 2).

    Attributes:
        learning_rate: of Adam.
        batch_size: sentences per step.
        epochs: passes over the training part at most.
        patience: epochs without a lower validation loss after which training stops.
        validation_share: part of the training texts held out to choose the best epoch.
        word_dropout: probability that a token is read as the unknown word, in training.
        averaging: decay per step of the running average of the weights, which is what is validated and kept; 0 keeps
            the weights themselves. Average and word dropout are ours, not the paper's: on MR they lift the test
            accuracy by two points and damp its swing between epochs.
        seed: of the order of the batches and of dropout.
        static: whether the word vectors stay as they are (CNN-static of Kim 2014).

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    learning_rate: float = 2e-4
    batch_size: int = 128
    epochs: int = 20
    patience: int = 3
    validation_share: float = 0.1
    word_dropout: float = 0.5
    averaging: float = 0.99
    seed: int = 0
    static: bool = False

    def __post_init__(self) -> None:
        checked = {
            "learning_rate": number("learning_rate", self.learning_rate, above=0),
            "batch_size": integer("batch_size", self.batch_size, least=1),
            "epochs": integer("epochs", self.epochs, least=1),
            "patience": integer("patience", self.patience, least=1),
            "validation_share": number("validation_share", self.validation_share, above=0, below=1),
            "word_dropout": number("word_dropout", self.word_dropout, least=0, below=1),
            "averaging": number("averaging", self.averaging, least=0, below=1),
            "seed": integer("seed", self.seed, least=0, most=2**32 - 1),  # numpy takes no other
            "static": flag("static", self.static),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def preset(cls, name: str) -> TrainingConfig:
        """Returns Table 2's hyper-parameters of "mr" or "ag_news"; or those for "kim" or a "table" of your own."""
        presets = {
            "mr": cls(),
            "ag_news": cls(learning_rate=5e-4, batch_size=64),
            "kim": cls(batch_size=50, word_dropout=0.0),
            # Table 2's learning rate leaves a model of ten classes, or of a few thousand texts, half-trained.
            "table": cls(learning_rate=1e-3, batch_size=64),
        }
        return presets[choice("preset", name, presets)]


@dataclass
class Progress:
    """Where training stands, given to the callback after every batch.

    Attributes:
        epoch: current epoch, from 1.
        batches_done: batches of this epoch so far.
        batches: batches of an epoch.
        loss: mean training loss of this epoch so far.
        accuracy: validation accuracy of the last finished epoch, None before the first.
    """

    epoch: int
    batches_done: int
    batches: int
    loss: float
    accuracy: float | None


@dataclass
class TrainingResult:
    """What training measured.

    Attributes:
        losses: mean training loss of each epoch.
        validation_losses: mean validation loss of each epoch; the lowest decides which weights are kept.
        accuracies: validation accuracy of each epoch.
        best_epoch: the epoch, from 1, whose weights were kept.
        seconds: duration.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


def train_model(
    model: ConvTextModel,
    dataset: TextDataset,
    config: TrainingConfig | None = None,
    on_batch: Callable[[Progress], None] = lambda progress: None,
) -> TrainingResult:
    """Trains `model` in place, leaves it with its best epoch's weights and returns what was measured.

    Args:
        model: changed in place; left in evaluation mode.
        dataset: training texts; a stratified part of them is used for validation.
        config: defaults to the paper's values for MR.
        on_batch: called after every batch.

    Raises:
        TrainingError: the loss is no longer finite; the model is left as it was then.
    """
    config = config or TrainingConfig()
    parts = split(dataset, config.validation_share, config.seed)
    ids, labels = model.encode(parts.train.texts), torch.tensor(parts.train.labels)
    validation_ids, validation_labels = model.encode(parts.test.texts), torch.tensor(parts.test.labels)

    model.embedding.weight.grad = None if config.static else torch.zeros_like(model.embedding.weight)
    current, average = _learnt(model, config), copy.deepcopy(model).eval()
    averaged = _learnt(average, config)
    optimizer = torch.optim.Adam(current, lr=config.learning_rate, fused=True)
    order = torch.Generator().manual_seed(config.seed)
    result = TrainingResult()
    best_weights = copy.deepcopy(model.state_dict())
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(config.seed)  # dropout
        for epoch in range(1, config.epochs + 1):
            batches = torch.randperm(len(ids), generator=order).split(config.batch_size)
            model.train()
            total = 0.0
            for done, batch in enumerate(batches, start=1):
                read = drop_words(ids[batch], config.word_dropout)
                loss = _step(model, optimizer, read.to(model.device), labels[batch].to(model.device))
                with torch.no_grad():
                    torch._foreach_lerp_(averaged, current, 1 - config.averaging)
                total += _finite(loss, f"epoch {epoch}, batch {done}", config)
                last = result.accuracies[-1] if result.accuracies else None
                on_batch(Progress(epoch, done, len(batches), total / done, last))
            scores = class_scores(average, validation_ids)
            correct = scores.argmax(dim=1) == validation_labels
            result.losses.append(total / len(batches))
            validation_loss = float(functional.cross_entropy(scores, validation_labels))
            result.validation_losses.append(_finite(validation_loss, f"epoch {epoch}, validation", config))
            result.accuracies.append(float(correct.float().mean()))
            if result.validation_losses[-1] == min(result.validation_losses):
                best_weights = copy.deepcopy(average.state_dict())
                result.best_epoch = epoch
            elif epoch - result.best_epoch >= config.patience:
                break
    model.load_state_dict(best_weights)
    model.zero_grad()
    model.eval()
    result.seconds = time.perf_counter() - started
    return result


def _learnt(model: ConvTextModel, config: TrainingConfig) -> list[Tensor]:
    """Returns the weights that training changes."""
    return [weight for weight in model.parameters() if not (config.static and weight is model.embedding.weight)]


def _step(model: ConvTextModel, optimizer: torch.optim.Optimizer, ids: Tensor, labels: Tensor) -> float:
    """Changes the weights by one batch and returns its loss.

    The gradient of the embedding, which has none where it stays as it is, is zero but for the rows of the batch's
    words. Its tensor is kept from step to step and only these rows are written: to fill all of it anew takes longer
    than to read it.
    """
    table = model.embedding.weight
    words, places = distinct_words(ids)
    vectors = table.detach()[words].requires_grad_(table.grad is not None)
    for weight in model.parameters():
        if weight is not table:
            weight.grad = None
    loss = functional.cross_entropy(batch_scores(model, vectors, places), labels)
    loss.backward()  # not autograd.grad, whose gradients may have a layout that the fused step reads wrongly
    if table.grad is not None and vectors.grad is not None:
        table.grad[words] = vectors.grad
    optimizer.step()
    if table.grad is not None:
        table.grad[words] = 0
    return loss.item()


def _finite(loss: float, where: str, config: TrainingConfig) -> float:
    if not math.isfinite(loss):
        raise TrainingError(
            f"training: the loss became {loss} ({where}); try a learning_rate below {config.learning_rate:g}"
        )
    return loss


def drop_words(ids: Tensor, probability: float) -> Tensor:
    """Returns token ids (B, L) with each token, but no padding, made the unknown word with this probability."""
    dropped = (torch.rand(ids.shape, dtype=torch.float32) < probability) & (ids != PAD)
    return ids.masked_fill(dropped, UNKNOWN)

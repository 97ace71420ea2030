from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import small_model
from torch.nn import functional

from fastinterp import ConvTextModel, TrainingConfig, load_corpus, train_model
from fastinterp.data.splits import split
from fastinterp.evaluation.accuracy import accuracy, class_scores
from fastinterp.training.trainer import drop_words


def train_small(table: Path, **settings: object):
    corpus = load_corpus(table)
    model = small_model()
    config = TrainingConfig(
        **{
            "learning_rate": 0.02,
            "batch_size": 8,
            "epochs": 25,
            "patience": 25,
            "word_dropout": 0.1,
            **settings,
        }
    )
    return model, corpus, train_model(model, corpus.train, config)


def test_a_learnable_corpus_is_learnt_and_the_best_epoch_kept(table: Path):
    model, corpus, result = train_small(table)
    assert accuracy(model, corpus.test) == 1
    assert result.validation_losses[result.best_epoch - 1] == min(result.validation_losses)
    assert result.losses[-1] < 0.3 * result.losses[0]
    assert not model.training
    assert torch.equal(model.embedding.weight[0], torch.zeros(7))  # padding stays zero


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone(table: Path):
    before = torch.random.get_rng_state()
    first, _, _ = train_small(table, epochs=2, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    second, _, _ = train_small(table, epochs=2, seed=5)
    other, _, _ = train_small(table, epochs=2, seed=6)
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_the_number_of_threads_changes_no_weight(table: Path):
    before, models = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            models.append(train_small(table, epochs=4)[0])
    finally:
        torch.set_num_threads(before)
    for weight, same in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(weight, same, rtol=1e-5, atol=1e-6)


def test_a_step_is_that_of_adam_over_all_weights(table: Path):
    """One epoch against torch's own dense gradients and Adam, over the same batches, in float64."""
    corpus = load_corpus(table)
    config = TrainingConfig(batch_size=8, epochs=1, word_dropout=0, averaging=0, learning_rate=0.01)
    learning = split(corpus.train, config.validation_share, config.seed).train
    model, plain = (no_dropout(small_model()).double() for _ in range(2))
    ids, labels = model.encode(learning.texts), torch.tensor(learning.labels)
    optimizer = torch.optim.Adam(plain.parameters(), lr=config.learning_rate)
    generator = torch.Generator().manual_seed(config.seed)
    for batch in torch.randperm(len(ids), generator=generator).split(config.batch_size):
        optimizer.zero_grad()
        functional.cross_entropy(plain(ids[batch]), labels[batch]).backward()
        optimizer.step()
    train_model(model, corpus.train, config)
    for weight, wanted in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=1e-8)
    assert all(weight.grad is None for weight in model.parameters())


def no_dropout(model: ConvTextModel) -> ConvTextModel:
    model.dropout.p = 0
    return model


def test_training_stops_when_the_validation_loss_no_longer_falls(table: Path):
    _, _, result = train_small(table, learning_rate=1.0, patience=2)
    assert len(result.losses) == result.best_epoch + 2 < 25
    assert result.validation_losses[result.best_epoch - 1] == min(result.validation_losses)


def test_the_callback_sees_every_batch(table: Path):
    corpus, seen = load_corpus(table), []
    config = TrainingConfig(batch_size=20, epochs=2)
    train_model(
        small_model(),
        corpus.train,
        config,
        lambda now: seen.append((now.epoch, now.batches_done, now.batches)),
    )
    assert seen == [(epoch, done, 4) for epoch in (1, 2) for done in (1, 2, 3, 4)]


def test_words_are_dropped_but_padding_never():
    ids = torch.tensor([[5, 6, 0, 0]]).repeat(2000, 1)
    dropped = drop_words(ids, 0.3)
    assert (dropped[:, 2:] == 0).all()
    share = (dropped[:, :2] == 1).float().mean()
    assert 0.27 < share < 0.33
    assert ((dropped == 1) | (dropped == ids)).all()


def test_class_scores_leave_the_mode_of_the_model_alone():
    model = small_model().train()
    ids = torch.zeros(2, 9, dtype=torch.int64)
    assert torch.equal(class_scores(model, ids), class_scores(model, ids))
    assert model.training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0),
        ("batch_size", 0),
        ("epochs", -1),
        ("validation_share", 1),
        ("word_dropout", 1),
        ("averaging", -0.1),
    ],
)
def test_a_bad_setting_is_named(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        TrainingConfig(**{field: value})

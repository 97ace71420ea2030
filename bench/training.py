"""An epoch of training against the loop that any PyTorch user would write for the same model and data."""

from __future__ import annotations

import dataclasses

import torch
import workloads
from full_frame import FullFrameModel
from harness import Peer, Row, compare
from torch.nn import functional

from fastinterp import ConvTextModel, TrainingConfig, train_model
from fastinterp.data.splits import TextDataset, split

GOAL = 2.0


def plain_epoch(model: ConvTextModel, dataset: TextDataset, config: TrainingConfig) -> None:
    """Adam over shuffled batches of whole frames, then the accuracy on the validation texts."""
    parts = split(dataset, config.validation_share, config.seed)
    ids, labels = model.encode(parts.train.texts), torch.tensor(parts.train.labels)
    validation = model.encode(parts.test.texts)
    full = FullFrameModel(model).train()
    optimizer = torch.optim.Adam(full.parameters(), lr=config.learning_rate)
    for batch in torch.randperm(len(ids)).split(config.batch_size):
        optimizer.zero_grad()
        functional.cross_entropy(full(ids[batch]), labels[batch]).backward()
        optimizer.step()
    model.class_scores(validation)


def run(name: str, sentences: int | None, repeats: int) -> list[Row]:
    whole = workloads.corpus(name).train
    drawn = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:sentences]
    dataset = whole.subset(drawn.tolist())
    config = dataclasses.replace(TrainingConfig.preset(name), epochs=1)
    ours, theirs = workloads.fresh_model(name), workloads.fresh_model(name)
    peer = Peer("plain PyTorch loop", lambda: plain_epoch(theirs, dataset, config), goal=GOAL)
    work = f"train {name}, one epoch of {len(dataset.texts)} texts"
    return compare(work, lambda: train_model(ours, dataset, config), [peer], repeats)


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    rows = run("mr", 600 if quick else None, 1 if quick else repeats)
    return rows + run("ag_news", 200 if quick else 2048, 1 if quick else repeats)

"""Modules of somebody else's: those that are recognised against our own model, the others against autograd by hand."""

from __future__ import annotations

import torch
import workloads
from harness import Peer, Row, compare, relative_error
from torch import Tensor, nn
from torch.nn import functional

from fastinterp import ConvTextModel, OptimizationConfig, adapt, interpret
from fastinterp.method.module_path import optimize_by_module
from fastinterp.method.starts import random_starts
from fastinterp.models.protocol import Places
from fastinterp.text.kim import tokenize

WITHIN = 0.9  # of our own model's speed
CHANNELS, PROBLEMS = 100, 300


class TheirStack(nn.Module):
    """The Table-2 model of MR as a user would write it, with the weights of ours."""

    def __init__(self, ours: ConvTextModel) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(ours.word_vectors.clone(), freeze=False, padding_idx=0)
        shapes = [weight.shape for weight in ours.stack(ours.layers - 1).weights]
        self.convs = nn.ModuleList(nn.Conv1d(width, out, k, padding=k // 2) for out, width, k in shapes)
        self.fc = nn.Linear(shapes[-1][0], len(ours.classes))
        state = ours.state_dict()
        with torch.no_grad():
            for place, conv in enumerate(self.convs):
                conv.weight.copy_(state[f"convolutions.{place}.weight"])
                conv.bias.copy_(state[f"convolutions.{place}.bias"])
            self.fc.weight.copy_(state["linear.weight"])
            self.fc.bias.copy_(state["linear.bias"])

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids).transpose(1, 2)
        for conv in self.convs:
            hidden = functional.relu(conv(hidden))
        return self.fc(hidden.amax(dim=2))


class Smooth(nn.Module):
    """Two convolutions with GELU, which no kernel has, and a shortcut around the second."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.first = nn.Conv1d(width, CHANNELS, 3, padding=1)
        self.second = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1)
        self.last = nn.GELU()
        self.fc = nn.Linear(CHANNELS, 2)

    def body(self, embedded: Tensor) -> Tensor:
        hidden = functional.gelu(self.first(embedded.transpose(1, 2)))
        return self.last(hidden + self.second(hidden))

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.body(self.embedding(ids)).amax(dim=2))


def recognised(count: int | None, repeats: int, trained: bool) -> list[Row]:
    model, texts = workloads.model("mr", trained), workloads.corpus("mr").test.texts[:count]
    theirs = adapt(TheirStack(model), tokenizer=tokenize, words=model.words, unknown_id=1, length=model.length)
    config = OptimizationConfig.preset("mr")

    def ours() -> Tensor:
        found = interpret(theirs, texts, optimization=config)
        return torch.stack([each.optimized for result in found for each in result.locations])

    def own_model() -> Tensor:
        found = interpret(model, texts, optimization=config, answers=["contributions", "points_to"])
        return torch.stack([each.optimized for result in found for each in result.locations])

    expected = own_model()
    peer = Peer("ConvTextModel", own_model, goal=WITHIN, error=lambda found: relative_error(found, expected))
    return compare(
        f"interpret an adapted module, {len(texts)} sentences",
        ours,
        [peer],
        repeats,
        lambda found: relative_error(found, expected),
    )


def by_the_module(problems: int, steps: int, repeats: int, width: int = 300) -> list[Row]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Smooth(2000, width)
    words = [f"word{i}" for i in range(2000)]
    model = adapt(module, layer="last", tokenizer=str.split, words=words, length=56)
    field, own = model.field(0), model.module_layer(0)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 2000, (problems, 56), generator=generator)
    location = torch.randint(field.before, 56 - field.before, (problems,), generator=generator)
    found = own.explain(ids, lambda scores, rows: scores.argmax(dim=1).tolist(), None)
    target = found.activations[torch.arange(problems), location]
    frame = torch.full((problems,), 56)
    begin, end = field.edges(location, frame, field.rows(frame))
    places = Places(location, frame, field.ids(ids, location, torch.arange(problems), field.rows(frame)))
    start = random_starts(torch.arange(problems), 56, field.rows(frame), width, 0)
    config = OptimizationConfig(steps=steps)

    def ours() -> Tensor:
        return optimize_by_module(own, target, begin, end, start, places, config).inputs

    def by_hand() -> Tensor:
        inputs = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([inputs], lr=config.learning_rate, fused=True)
        for _ in range(config.steps):
            total = functional.normalize(inputs, dim=2).sum(dim=1)
            value = (module.body(inputs)[:, :, field.before] * target).sum()
            value = value - config.l2_weight * inputs.square().sum()
            value = value + config.similarity_weight * total.square().sum() / inputs.shape[1]
            optimizer.zero_grad()
            (-value).backward()
            optimizer.step()
        return inputs.detach()

    module.eval()
    expected = by_hand()
    peer = Peer("batched autograd by hand", by_hand, goal=1.0, error=lambda found: relative_error(found, expected))
    work = f"optimise by the module itself, {problems} x {steps} steps"
    return compare(work, ours, [peer], repeats, lambda found: relative_error(found, expected))


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    if quick:
        return [*recognised(40, 1, trained=False), *by_the_module(30, 20, 1)]
    return [*recognised(None, repeats, trained=True), *by_the_module(PROBLEMS, 300, repeats)]

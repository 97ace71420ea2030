"""Drawn modules: whatever the convolutions are, both ways of explaining them are those of float64 autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import Tensor, nn

from fastinterp import OptimizationConfig, adapt, interpret
from fastinterp.method.starts import content_keys, mix, random_starts

WIDTH, ROWS = 5, 20
WORDS = [f"w{i}" for i in range(ROWS)]
CONFIG = OptimizationConfig(steps=12, learning_rate=0.02)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


class Drawn(nn.Module):
    """An embedding, drawn layers over time, and a head that weighs all locations."""

    def __init__(self, layers: list[nn.Module], channels: int, padding: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(ROWS, WIDTH, padding_idx=padding)
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, 3)

    def layer(self, embedded: Tensor) -> Tensor:
        return self.body(embedded.transpose(1, 2)).transpose(1, 2)

    def head(self, hidden: Tensor) -> Tensor:
        return self.fc(hidden.amax(dim=1) + hidden.tanh().mean(dim=1))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(ids)))


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[list[nn.Module], int]:
    """Layers, and the channels of the last."""
    layers: list[nn.Module] = []
    width = WIDTH
    activation = draw(st.sampled_from([nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Identity, nn.GELU, nn.PReLU]))
    same = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        channels = draw(st.sampled_from([2, 4, 6]))
        groups = draw(st.sampled_from([1, 2])) if width % 2 == 0 else 1
        stride = 1 if same else draw(st.sampled_from([1, 1, 2]))
        padding = "same" if same else draw(st.sampled_from([0, 0, 1, 2, (kernel - 1) * dilation // 2]))
        layers.append(nn.Conv1d(width, channels, kernel, stride, padding, dilation, groups, bias=draw(st.booleans())))
        if draw(st.booleans()):
            layers.append(nn.BatchNorm1d(channels))
        layers.append(activation())
        if draw(st.integers(0, 4)) == 0:
            layers.append(nn.Dropout(0.5))
        if draw(st.integers(0, 6)) == 0:
            layers.append(nn.MaxPool1d(2))
        width = channels
    return layers, width


def takes(module: nn.Module, length: int) -> bool:
    try:
        module(torch.ones(2, length, dtype=torch.int64))
    except (RuntimeError, IndexError):
        return False
    return True


@given(
    drawn=convolutions(),
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=3),
    padding=st.sampled_from([None, 0, 7]),
    fixed=st.sampled_from([None, None, 12]),
    seed=st.integers(0, 99),
)
def test_a_drawn_module_is_explained_as_by_autograd(drawn, lengths, padding, fixed, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, channels = drawn
        module = Drawn(layers, channels, padding).eval()
        for part in module.modules():
            if isinstance(part, (nn.Conv1d, nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, std=0.5)
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
        if padding is not None:
            with torch.no_grad():
                module.embedding.weight[padding] = 0
        texts = [[int(row) for row in torch.randint(1, 7, (length,))] for length in lengths]
    row = padding or 0
    exact = copy.deepcopy(module).double()
    arguments = {"tokenizer": lambda text: [int(each) for each in text.split()], "padding_id": row, "length": fixed}
    if fixed is not None and not takes(module, fixed):
        with pytest.raises(ValueError, match="module: expected one that takes ids"):
            adapt(module, words=WORDS, **arguments)
        return
    model = adapt(module, layer="body", words=WORDS, **arguments)
    event(model.path(0).name)
    results = interpret(model, [" ".join(map(str, text)) for text in texts], optimization=CONFIG, locations=2)
    for text, result in zip(texts, results, strict=True):
        frame = fixed or max(len(text), int(model.frames(torch.zeros(1, 1))))
        ids = torch.tensor([(text + [row] * frame)[:frame]])
        embedded = exact.embedding(ids).detach()
        hidden = exact.layer(embedded).detach().requires_grad_()
        scores = exact.head(hidden)
        (gradient,) = torch.autograd.grad(scores.max(), hidden)
        expected = (gradient * hidden).sum(dim=2)[0].detach()
        assert result.saliency.shape == expected.shape
        torch.testing.assert_close(result.saliency.double(), expected, rtol=1e-4, atol=1e-5)
        for location in result.locations:
            check_location(model, exact, embedded, hidden[0], text[:frame], location)


def check_location(model, exact, embedded, hidden, text, location) -> None:
    """Compares tokens and optimised input of a location with what autograd says in float64."""
    field, frame = model.field(0), embedded.shape[1]
    variable = embedded.clone().requires_grad_()
    first, rows = location.index * field.stride - field.before, field.width or frame
    begin, end = max(0, first), min(frame, first + rows)
    assert location.token_indices == tuple(range(begin, min(end, len(text))))
    assert sum(location.token_scores) + location.rest_score == pytest.approx(location.score, abs=1e-4)
    (reach,) = torch.autograd.grad(exact.layer(variable)[0, location.index].sum(), variable)
    moved = reach[0].abs().sum(dim=1)
    assert not moved[:begin].any()
    assert not moved[end:].any()
    ids = torch.zeros(1, frame, dtype=torch.int64)
    read = model.read([" ".join(map(str, text))]).ids[:, :frame]
    ids[:, : read.shape[1]] = read
    start = random_starts(mix(content_keys(ids), torch.tensor([location.index])), frame, rows, WIDTH, CONFIG.seed)
    inputs = start[0, begin - first : end - first].double().requires_grad_()
    optimizer = torch.optim.Adam([inputs], lr=CONFIG.learning_rate, maximize=True)
    target = hidden[location.index].detach()
    for _ in range(CONFIG.steps):
        whole = torch.cat([embedded[0, :begin], inputs, embedded[0, end:]])[None]
        total = nn.functional.normalize(inputs, dim=1).sum(dim=0)
        value = exact.layer(whole)[0, location.index] @ target - CONFIG.l2_weight * inputs.square().sum()
        value = value + CONFIG.similarity_weight * total.square().sum() / len(inputs)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    # A gate whose kink a float32 step passes a moment earlier or later moves a row by a part of a step.
    difference = (location.optimized.double() - inputs.detach().mean(dim=0)).abs().max()
    assert difference <= 0.05 * CONFIG.learning_rate * CONFIG.steps

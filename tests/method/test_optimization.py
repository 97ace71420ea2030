from __future__ import annotations

import pytest
import torch
from conftest import EMULATED, field_edges, small_model, weights_of

from fastinterp import ConvTextModel, OptimizationConfig, optimize_inputs
from fastinterp.kernels import reference
from fastinterp.kernels.problems import Problems
from fastinterp.method.starts import random_starts


def test_edges_clip_the_receptive_field_to_the_frame():
    model = small_model(kernel_sizes=(5, 4), length=9)  # a location of layer 1 sees 3 before and 4 after
    begin, end = field_edges(model, 1, torch.arange(9))
    for location, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        seen = [i for i in range(location - 3, location + 5) if 0 <= i < 9]
        assert [location - 3 + first, location - 3 + last] == [seen[0], seen[-1] + 1]


def test_the_optimum_is_that_of_the_reference(model: ConvTextModel):
    activations = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    begin, end = torch.tensor([0, 1, 2, 0]), torch.tensor([6, 6, 5, 4])
    config = OptimizationConfig(steps=40, learning_rate=0.01, seed=3)
    found = optimize_inputs(model, activations, 1, begin, end, config=config)
    problems = Problems(activations, *weights_of(model, 1), begin, end, "relu").double()
    start = random_starts(torch.arange(4), model.length, 6, model.word_vectors.shape[1], 3).double()
    expected, gates = reference.optimize_adam(problems, start, config)
    torch.testing.assert_close(found.inputs.double(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.gates, gates)
    overall = reference.overall_input(expected, begin, end)
    torch.testing.assert_close(found.overall.double(), overall, rtol=1e-4, atol=1e-6)


def test_starts_are_xavier_uniform_and_depend_on_seed_and_key_alone(model: ConvTextModel):
    keys = torch.arange(3000)
    starts = random_starts(keys, model.length, 3, model.word_vectors.shape[1], seed=1)
    limit = (6 / (9 + 7)) ** 0.5
    assert float(starts.abs().max()) <= limit
    assert float(starts.mean()) == pytest.approx(0, abs=0.01)
    assert float(starts.std()) == pytest.approx(limit / 3**0.5, rel=0.01)
    assert torch.equal(random_starts(keys[7:9], model.length, 3, model.word_vectors.shape[1], seed=1), starts[7:9])
    assert not torch.equal(random_starts(keys, model.length, 3, model.word_vectors.shape[1], seed=2), starts)
    flat = starts.flatten(1)
    correlation = torch.corrcoef(flat.T) - torch.eye(flat.shape[1])
    assert float(correlation.abs().max()) < 0.1


@pytest.mark.parametrize("solver", ["adam", "ccp"])
def test_per_channel_is_the_weighted_sum_of_the_channels_own_optima(model: ConvTextModel, solver: str):
    activations = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    activations[0] = 0
    begin, end = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([3, 3, 2, 3, 3])
    config = OptimizationConfig(steps=30, learning_rate=0.01, solver=solver)
    alone = [
        optimize_inputs(model, torch.eye(6), 0, torch.full((6,), b), torch.full((6,), e), config=config).inputs
        for b, e in zip(begin.tolist(), end.tolist(), strict=True)
    ]
    expected = torch.cat(
        [
            reference.optimize_per_channel(optima.double(), row[None].double())
            for optima, row in zip(alone, activations, strict=True)
        ]
    )
    config = OptimizationConfig(steps=30, learning_rate=0.01, solver=solver, objective="per-channel")
    found = optimize_inputs(model, activations, 0, begin, end, config=config)
    torch.testing.assert_close(found.inputs.double(), expected, rtol=1e-4, atol=1e-5)
    problems = Problems(activations, *weights_of(model, 0), begin, end, "relu")
    reached = reference.pre_activations(problems, found.inputs)
    assert torch.equal(found.gates, (reached > 0) & (activations != 0))


def test_channel_optima_are_kept_until_the_model_changes():
    model, config = small_model(3), OptimizationConfig(steps=3, objective="per-channel")
    activations = torch.rand(2, 6)
    before = optimize_inputs(model, activations, config=config).inputs
    assert torch.equal(optimize_inputs(model, activations, config=config).inputs, before)
    with torch.no_grad():
        model.convolutions[0].weight *= -3
    assert not torch.equal(optimize_inputs(model, activations, config=config).inputs, before)


def test_ccp_reports_a_stationary_point_and_beats_adam(model: ConvTextModel):
    activations = torch.rand(20, 6, generator=torch.Generator().manual_seed(1))
    found = optimize_inputs(model, activations, config=OptimizationConfig(solver="ccp"))
    assert (found.residual <= 1e-5).all()
    assert (found.iterations < 100).all()
    adam = optimize_inputs(model, activations, config=OptimizationConfig(steps=3000, learning_rate=0.0366))
    whole = torch.zeros(20, dtype=torch.int64), torch.full((20,), 3)
    problems = Problems(activations, *weights_of(model, 0), *whole, "relu")
    values = [reference.objective(problems, each.inputs, OptimizationConfig()) for each in (found, adam)]
    assert (values[0] >= values[1] - 1e-4 * values[1].abs()).float().mean() >= 0.95


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_ccp_climbs_deeper_layers_at_least_as_high_as_adam(activation: str):
    model = small_model(activation=activation)
    activations = torch.rand(20, 5, generator=torch.Generator().manual_seed(2))
    found = optimize_inputs(model, activations, 1, config=OptimizationConfig(solver="ccp"))
    adam = optimize_inputs(model, activations, 1, config=OptimizationConfig(steps=3000, learning_rate=0.0366))
    whole = torch.zeros(20, dtype=torch.int64), torch.full((20,), found.inputs.shape[1])
    problems = Problems(activations, *weights_of(model, 1), *whole, activation)
    values = [reference.objective(problems, each.inputs, OptimizationConfig()) for each in (found, adam)]
    assert values[0].mean() >= (1 - 1e-5) * values[1].mean()
    assert (values[0] >= values[1] - 1e-4 * values[1].abs()).float().mean() >= 0.8  # each ends at a summit of its own
    if not EMULATED:  # the GPU's way leaves the kinks of deeper layers out
        assert (found.residual <= 1e-5).float().mean() >= 0.9


@pytest.mark.parametrize(("activation", "l2_weight"), [("tanh", 0.004), ("relu", 0.0)])
def test_ccp_says_what_it_needs(activation: str, l2_weight: float):
    model = small_model(activation=activation)
    config = OptimizationConfig(solver="ccp", l2_weight=l2_weight)
    with pytest.raises(ValueError, match="solver: ccp needs activation relu, leaky_relu or identity"):
        optimize_inputs(model, torch.rand(1, model.config.channels[0]), config=config)


def test_no_problems_give_no_optima(model: ConvTextModel):
    found = optimize_inputs(model, torch.zeros(0, 6))
    assert found.inputs.shape == (0, 3, 7)
    assert found.overall.shape == (0, 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", -1),
        ("l2_weight", -0.1),
        ("similarity_weight", -1),
        ("learning_rate", 0),
        ("beta1", 1),
        ("beta2", -0.1),
        ("epsilon", 0),
        ("solver", "sgd"),
        ("objective", "both"),
        ("learning_rate", float("nan")),
    ],
)
def test_a_bad_setting_is_named(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        OptimizationConfig(**{field: value})


def test_bad_tensors_are_named(model: ConvTextModel):
    with pytest.raises(ValueError, match="target: expected 6 channels, got 4"):
        optimize_inputs(model, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="keys: expected int64"):
        optimize_inputs(model, torch.zeros(2, 6), keys=torch.zeros(2))

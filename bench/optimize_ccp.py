"""The concave-convex procedure against Adam: time, and how often it ends higher."""

from __future__ import annotations

import dataclasses

import torch
import workloads
from harness import Peer, Row, compare

from fastinterp import OptimizationConfig, OptimizedInputs, optimize_inputs
from fastinterp.kernels import reference

LONG_RATE, LONG_STEPS = 0.0366, 3000  # the Adam run whose objective the procedure must reach
GOAL = 50.0  # on MR, against 1,000 Adam steps of our own kernel


def run(
    name: str, count: int | None, repeats: int, steps: int, long_steps: int, trained: bool = True, layer: int = 0
) -> list[Row]:
    model = workloads.model(name, trained)
    problems = workloads.located(model, name, count, layer)
    settings = OptimizationConfig.preset(name)

    def solve(config: OptimizationConfig) -> OptimizedInputs:
        return optimize_inputs(model, problems.target, layer, problems.begin, problems.end, config=config)

    def optimize(config: OptimizationConfig) -> torch.Tensor:
        return solve(config).inputs

    def objective(inputs: torch.Tensor) -> torch.Tensor:
        return reference.objective(problems.double(), inputs.double(), settings)

    ccp = dataclasses.replace(settings, solver="ccp")
    adam = dataclasses.replace(settings, steps=steps)
    peer = Peer(
        f"Adam, {steps:,} steps (ours)",
        lambda: optimize(adam),
        goal=GOAL if name == "mr" and trained and layer == 0 else None,
    )
    rows = compare(f"CCP {name} layer {layer + 1}, {len(problems)} problems", lambda: optimize(ccp), [peer], repeats)
    found = solve(ccp)
    reached = objective(found.inputs)
    long = objective(optimize(dataclasses.replace(settings, learning_rate=LONG_RATE, steps=long_steps)))
    rows[0].note = (
        f"objective at least that of {long_steps:,} Adam steps at {LONG_RATE} on "
        f"{(reached >= long * (1 - 1e-6)).double().mean():.1%} (mean {reached.mean():.1f}, Adam {long.mean():.1f}); "
        f"{found.iterations.double().mean():.1f} iterations, residual at most {found.residual.max():.1e}"
    )
    return rows


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    if quick:
        return run("mr", 150, 1, 100, 100, trained=False) + run("mr", 30, 1, 100, 100, trained=False, layer=2)
    rows = run("mr", None, repeats, 1000, LONG_STEPS) + run("ag_news", 1500, repeats, 1000, LONG_STEPS)
    for layer in (1, 2):
        rows += run("mr", 300, repeats, 1000, LONG_STEPS, layer=layer)
    return rows

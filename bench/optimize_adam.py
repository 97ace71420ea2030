"""Input optimisation against batched autograd Adam, torch.compile, gradients by hand and a loop over locations."""

from __future__ import annotations

import dataclasses

import torch
import workloads
from adam_peers import autograd_adam, hand_adam, hand_step, negative_objective, one_by_one, plain_autograd_adam
from harness import Peer, Row, compare, relative_error, timed
from workloads import AdamWork

from fastinterp.kernels import ops, reference

PROBLEMS = 300
LOOPED = 4  # problems of the loop over locations; the rest is extrapolated
CHECKED = 60  # problems compared with the float64 reference
DEEP_PROBLEMS, DEEP_GOAL = 60, 10.0
GOALS = {
    "mr": {"batched autograd Adam": 60.0, "batched autograd Adam, tuned": 60.0, "loop over locations": 900.0},
    "ag_news": {"batched autograd Adam": 100.0, "batched autograd Adam, tuned": 100.0, "loop over locations": 900.0},
}


def reference_optimum(work: AdamWork, count: int) -> torch.Tensor:
    few = work.take(count)
    return reference.optimize_adam(few.problems.double(), few.start.double(), few.config)[0]


def adam_floor(work: AdamWork) -> AdamWork:
    """The same problems without a single active channel: what is left is the Adam update itself."""
    return work._replace(problems=dataclasses.replace(work.problems, target=torch.zeros_like(work.problems.target)))


def first_layer(name: str, steps: int, repeats: int, everything: bool, trained: bool = True) -> list[Row]:
    work = workloads.adam_work_of(name, PROBLEMS, 0, steps, trained)
    expected = reference_optimum(work, CHECKED) if steps <= 300 else None

    def error(optimum: torch.Tensor) -> float | None:
        return None if expected is None else relative_error(optimum, expected)

    peers = [Peer("batched autograd Adam, tuned", lambda: autograd_adam(*work), error=error)]
    if everything:
        few = work.take(LOOPED)
        compiled_step, compiled_objective = torch.compile(hand_step), torch.compile(negative_objective)
        peers += [
            Peer("batched autograd Adam", lambda: plain_autograd_adam(*work), error=error),
            Peer("torch.compile of autograd", lambda: autograd_adam(*work, compiled_objective), error=error),
            Peer("gradients by hand", lambda: hand_adam(*work), error=error),
            Peer("torch.compile of those", lambda: hand_adam(*work, compiled_step), error=error),
            Peer("loop over locations", lambda: one_by_one(*few), LOOPED / PROBLEMS),
        ]
    for peer in peers:
        peer.goal = GOALS[name].get(peer.name) if trained else None
    title = f"optimise {name} layer 1, {PROBLEMS} x {steps} steps"
    rows = compare(title, lambda: ops.optimize_adam(*work)[0], peers, repeats, error)
    floor = adam_floor(work)
    ops.optimize_adam(*floor)
    share = min(timed(lambda: ops.optimize_adam(*floor))[0] for _ in range(5)) / rows[0].our_seconds
    rows[0].note = "; ".join(filter(None, [rows[0].note, f"{share:.0%} of ours is the Adam update's own floor"]))
    return rows


def deeper_layer(name: str, layer: int) -> list[Row]:
    """300 steps in full; then 1,000, the default, for which the peer runs a tenth of the steps."""
    title = f"optimise {name} layer {layer + 1}, {DEEP_PROBLEMS} x"
    work = workloads.adam_work_of(name, DEEP_PROBLEMS, layer, 300)
    expected = reference_optimum(work, 6)

    def error(optimum: torch.Tensor) -> float:
        return relative_error(optimum, expected)

    peers = [
        Peer("batched autograd Adam", lambda: plain_autograd_adam(*work), goal=DEEP_GOAL, error=error),
        Peer("batched autograd Adam, tuned", lambda: autograd_adam(*work), goal=DEEP_GOAL, error=error),
    ]
    rows = compare(f"{title} 300 steps", lambda: ops.optimize_adam(*work)[0], peers, 1, error)
    peer = Peer("batched autograd Adam", lambda: plain_autograd_adam(*work.steps(100)), 0.1, DEEP_GOAL)
    return rows + compare(f"{title} 1000 steps", lambda: ops.optimize_adam(*work.steps(1000))[0], [peer], 1)


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    if quick:
        return first_layer("mr", 100, 1, everything=False, trained=False)
    rows = []
    for name, layers in (("mr", 3), ("ag_news", 4)):
        rows += first_layer(name, 300, repeats, everything=True)
        rows += first_layer(name, 1000, 1, everything=False)
        for layer in range(1, layers):
            rows += deeper_layer(name, layer)
    return rows

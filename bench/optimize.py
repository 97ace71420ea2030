"""Input optimisation against batched autograd Adam, torch.compile, gradients by hand and a loop over locations."""

from __future__ import annotations

import argparse

import torch
import workloads
from harness import Peer, Row, compare, print_rows, relative_error, timed
from optimize_peers import autograd_adam, hand_adam, hand_step, negative_objective, one_by_one, plain_autograd_adam

from fastinterp.kernels import ops, reference

PROBLEMS = 300
LOOPED = 4  # problems of the loop over locations; the rest is extrapolated
CHECKED = 60  # problems compared with the float64 reference
DEEP_PROBLEMS, DEEP_GOAL = 60, 10.0
GOALS = {
    "mr": {"batched autograd Adam": 60.0, "batched autograd Adam, tuned": 60.0, "loop over locations": 900.0},
    "ag_news": {"batched autograd Adam": 100.0, "batched autograd Adam, tuned": 100.0, "loop over locations": 900.0},
}


def reference_optimum(arguments: tuple, count: int) -> torch.Tensor:
    doubled = [
        [each.double() for each in value]
        if isinstance(value, list)
        else value.double()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for value in workloads.take(arguments, count)
    ]
    return reference.optimize_adam(*doubled)[0]


def adam_floor(arguments: tuple) -> tuple:
    """The same problems without a single active channel: what is left is the Adam update itself."""
    target, *rest = arguments
    return (torch.zeros_like(target), *rest)


def first_layer(name: str, steps: int, repeats: int, everything: bool, trained: bool = True) -> list[Row]:
    arguments = workloads.problems(workloads.model(name, trained), name, PROBLEMS, steps=steps)
    expected = reference_optimum(arguments, CHECKED) if steps <= 300 else None

    def error(optimum: torch.Tensor) -> float | None:
        return None if expected is None else relative_error(optimum, expected)

    peers = [Peer("batched autograd Adam, tuned", lambda: autograd_adam(arguments), error=error)]
    if everything:
        few = workloads.take(arguments, LOOPED)
        compiled_step, compiled_objective = torch.compile(hand_step), torch.compile(negative_objective)
        peers += [
            Peer("batched autograd Adam", lambda: plain_autograd_adam(arguments), error=error),
            Peer("torch.compile of autograd", lambda: autograd_adam(arguments, compiled_objective), error=error),
            Peer("gradients by hand", lambda: hand_adam(arguments), error=error),
            Peer("torch.compile of those", lambda: hand_adam(arguments, compiled_step), error=error),
            Peer("loop over locations", lambda: one_by_one(few), LOOPED / PROBLEMS),
        ]
    for peer in peers:
        peer.goal = GOALS[name].get(peer.name) if trained else None
    work = f"optimise {name} layer 1, {PROBLEMS} x {steps} steps"
    rows = compare(work, lambda: ops.optimize_adam(*arguments)[0], peers, repeats, error)
    floor = adam_floor(arguments)
    ops.optimize_adam(*floor)
    share = min(timed(lambda: ops.optimize_adam(*floor))[0] for _ in range(5)) / rows[0].our_seconds
    rows[0].note = "; ".join(filter(None, [rows[0].note, f"{share:.0%} of ours is the Adam update's own floor"]))
    return rows


def deeper_layer(name: str, layer: int) -> list[Row]:
    """300 steps in full; then 1,000, the default, for which the peer runs a tenth of the steps."""
    model = workloads.model(name)
    work = f"optimise {name} layer {layer + 1}, {DEEP_PROBLEMS} x"
    arguments = workloads.problems(model, name, DEEP_PROBLEMS, layer, 300)
    expected = reference_optimum(arguments, 6)

    def error(optimum: torch.Tensor) -> float:
        return relative_error(optimum, expected)

    peers = [
        Peer("batched autograd Adam", lambda: plain_autograd_adam(arguments), goal=DEEP_GOAL, error=error),
        Peer("batched autograd Adam, tuned", lambda: autograd_adam(arguments), goal=DEEP_GOAL, error=error),
    ]
    rows = compare(f"{work} 300 steps", lambda: ops.optimize_adam(*arguments)[0], peers, 1, error)
    longer, tenth = ((*arguments[:7], steps, *arguments[8:]) for steps in (1000, 100))
    peer = Peer("batched autograd Adam", lambda: plain_autograd_adam(tenth), 0.1, DEEP_GOAL)
    return rows + compare(f"{work} 1000 steps", lambda: ops.optimize_adam(*longer)[0], [peer], 1)


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=["mr", "ag_news"], default="mr")
    chosen = parser.parse_args().corpus
    print_rows("Input optimisation", first_layer(chosen, 300, 3, everything=True))

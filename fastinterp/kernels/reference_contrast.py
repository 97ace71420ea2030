"""The operators `contrast` and `exchange_words` in plain PyTorch: what `fastinterp.kernels.reference` is for others.

Jacobians come from autograd, one problem at a time, and steps from the normal equations in the input's own space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.reference import activate, pre_activations

if TYPE_CHECKING:
    from fastinterp.kernels.problems import Problems

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the start, in units of the root of its number of entries
TRIES = 6  # lengths of a step, each 0.4 of the one before


def activations(problems: Problems, inputs: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations whose receptive fields hold `inputs` (B, R, D)."""
    reached: Tensor = activate(problems.activation, pre_activations(problems, inputs))
    return reached


def distance(problems: Problems, inputs: Tensor, precision: Tensor) -> Tensor:
    """Returns d(X) = (a'(X) - a)^T P (a'(X) - a), the whitened squared distance to the target, (B,)."""
    apart = activations(problems, inputs) - problems.target
    return torch.einsum("bi,ij,bj->b", apart, precision, apart)


def start(problem: Problems, slopes: Sequence[Tensor], mean: Tensor, precision: Tensor, factor: Tensor) -> Tensor:
    """Returns the input (1, R, D) where the steps for one problem begin.

    It is P (a - mean) sent back through gates as open as they usually are, at the scale whose activations have the
    highest whitened cosine with the target's; 0 where nothing pulls.
    """
    rows, width, offset = problem.field, problem.weights[0].shape[1], 0
    exists = problem.exists[..., None]
    apart = problem.target - mean
    variable = mean.new_zeros(1, rows, width)
    with torch.enable_grad():
        hidden = variable.requires_grad_()
        for index, weight in enumerate(problem.weights):
            hidden = functional.conv1d(hidden.transpose(1, 2), weight).transpose(1, 2)
            offset += (weight.shape[2] - 1) // 2
            if index + 1 < len(problem.weights):
                place = torch.arange(hidden.shape[1]) + offset
                inside = (place >= problem.begin) & (place < problem.end)
                hidden = hidden * slopes[index] * inside[:, None]
        (pulled,) = torch.autograd.grad((hidden[:, 0] * (apart @ precision)).sum(), variable)
    pulled = pulled * exists
    if not pulled.any():
        return pulled
    unit = pulled * ((int(exists.sum()) * width) ** 0.5 / pulled.norm())
    likeness = [
        functional.cosine_similarity((activations(problem, scale * unit) - mean) @ factor, apart @ factor)
        for scale in SCALES
    ]
    scaled: Tensor = unit * SCALES[int(torch.cat(likeness).argmax())]
    return scaled


def gauss_newton_step(problem: Problems, inputs: Tensor, precision: Tensor, damping: float) -> Tensor | None:
    """Returns the damped step (1, R, D) of `distance` for one problem at `inputs` (1, R, D).

    (J^T S P S J + rho I) step = J^T S P r with the Jacobian J of the last pre-activations by autograd, the slopes S of
    the last activation and what is lacking, r = a - S z. A gate that the target opens counts as open. rho is `damping`
    times the mean diagonal of P S J J^T S; None where that is 0, since then nothing moves the location.
    """
    exists = problem.exists[..., None]
    with torch.enable_grad():
        variable = inputs.detach().requires_grad_()
        last = pre_activations(problem, variable * exists)[0]
        rows = [torch.autograd.grad(value, variable, retain_graph=True)[0].flatten() for value in last]
        z = last.detach().requires_grad_()
        (slope,) = torch.autograd.grad(activate(problem.activation, z).sum(), z)
    z, jacobian = z.detach(), torch.stack(rows)
    reached = activate(problem.activation, z)
    if problem.activation == "relu":
        slope = ((z > 0) | (problem.target[0] > 0)).to(z.dtype)
        reached = slope * z
    sloped = slope[:, None] * jacobian
    rho = damping * (precision @ (sloped @ sloped.T)).diagonal().mean()
    if not rho > 0:
        return None
    normal = sloped.T @ precision @ sloped + rho * torch.eye(sloped.shape[1], dtype=z.dtype)
    step: Tensor = torch.linalg.solve(normal, sloped.T @ precision @ (problem.target[0] - reached))
    return step.view_as(inputs)


def iterates(
    problem: Problems,
    slopes: Sequence[Tensor],
    mean: Tensor,
    precision: Tensor,
    factor: Tensor,
    steps: int,
    damping: float,
) -> Iterator[Tensor]:
    """Yields the inputs X (1, R, D) of one problem, the start first; `distance` falls from each to the next.

    Each step is taken at the first of the lengths 1, 0.4, 0.16 ... at which it falls; where there is none, or nothing
    moves the location, they end.
    """
    inputs = start(problem, slopes, mean, precision, factor)
    yield inputs
    for _ in range(steps):
        step = gauss_newton_step(problem, inputs, precision, damping)
        if step is None:
            return
        tried = [inputs + 0.4**tries * step for tries in range(TRIES)]
        before = distance(problem, inputs, precision)
        falls = [each for each in tried if distance(problem, each, precision) < before]
        if not falls:
            return
        inputs = falls[0]
        yield inputs


def contrast(
    problems: Problems,
    slopes: Sequence[Tensor],
    mean: Tensor,
    precision: Tensor,
    factor: Tensor,
    steps: int,
    damping: float,
) -> tuple[Tensor, Tensor]:
    """Returns inputs whose activations stand out from the usual as the targets do, and their distances.

    Args:
        problems: B locations; `target` holds their activations.
        slopes: for each layer below the last (C_l,), how open its gates usually are.
        mean: (C,), the usual activations of the last layer.
        precision: (C, C), P, how far apart activations are.
        factor: (C, C), lower triangular, P = W W^T.
        steps: Gauss-Newton steps at most.
        damping: of each, see `gauss_newton_step`.

    Returns:
        Inputs (B, R, D), zero outside [begin, end), and the `distance` (B,) of each.
    """
    inputs = problems.target.new_zeros(len(problems), problems.field, problems.weights[0].shape[1])
    for b in range(len(problems)):
        *_, inputs[b : b + 1] = iterates(problems[b : b + 1], slopes, mean, precision, factor, steps, damping)
    return inputs, distance(problems, inputs, precision)


def likeness(problem: Problems, words: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Returns the cosine of (a' - mean) W and (a - mean) W, where one problem's field holds words (1, R, D): (1,)."""
    mine, its = ((each - mean) @ factor for each in (activations(problem, words), problem.target))
    return functional.cosine_similarity(mine, its)


def exchange_one(
    problem: Problems, words: Tensor, occupied: Tensor, mean: Tensor, factor: Tensor, rounds: int, tie: float
) -> tuple[Tensor, float]:
    """Returns which candidate stands in each row of one problem's field, (R,) int64, and the closest decision.

    From the first candidates on, one row after the other takes the candidate of the highest `likeness`: the first of
    those within `tie` of it, and only where it gains more than that. It ends with a round that changes nothing.

    Args:
        problem: one location.
        words: (R, M, D), vectors of the candidates.
        occupied: (R,) bool; the other rows stay empty.
        mean: as `exchange_words`.
        factor: as `exchange_words`.
        rounds: as `exchange_words`.
        tie: as `exchange_words`.

    Returns:
        The candidates, and how much a likeness would have to change for another decision (infinite where none was
        taken).
    """
    chosen, place = torch.zeros(len(words), dtype=torch.int64), torch.arange(len(words))

    def read(numbers: Tensor) -> float:
        return float(likeness(problem, (words[place, numbers] * occupied[:, None])[None], mean, factor))

    reached, closest = read(chosen), float("inf")
    for _ in range(rounds):
        before = chosen.clone()
        for row in occupied.nonzero()[:, 0].tolist():
            trials = chosen.repeat(words.shape[1], 1)
            trials[:, row] = torch.arange(words.shape[1])
            values = [read(trial) for trial in trials]
            best = next(i for i, value in enumerate(values) if value >= max(values) - tie)
            closest = min(closest, *(abs(value - (max(values) - tie)) for value in values))
            closest = min(closest, abs(values[best] - reached - tie))
            if values[best] > reached + tie:
                reached, chosen = values[best], trials[best]
        if torch.equal(before, chosen):
            break
    return chosen, closest


def exchange_words(
    problems: Problems, vectors: Tensor, candidates: Tensor, mean: Tensor, factor: Tensor, rounds: int, tie: float
) -> tuple[Tensor, Tensor]:
    """Returns the words that make each location respond most as it did, by coordinate ascent (`exchange_one`).

    Args:
        problems: B locations; `target` holds their activations.
        vectors: (U, D) of words.
        candidates: (B, R, M) int64, rows of `vectors`, the nearest first; all -1 in a row that stays empty.
        mean: (C,), the usual activations of the last layer.
        factor: (C, C), lower triangular, W.
        rounds: over the rows at most.
        tie: likenesses as near as this are the same.

    Returns:
        The candidate of each row (B, R) int64, 0 in empty rows, and the activations (B, C) that they give.
    """
    chosen = torch.zeros(candidates.shape[:2], dtype=torch.int64)
    reached = torch.zeros_like(problems.target)
    for b in range(len(problems)):
        words, occupied = vectors[candidates[b].clamp(min=0)], candidates[b, :, 0] >= 0
        problem = problems[b : b + 1]
        chosen[b], _ = exchange_one(problem, words, occupied, mean, factor, rounds, tie)
        standing = words[torch.arange(len(words)), chosen[b]] * occupied[:, None]
        reached[b] = activations(problem, standing[None])[0]
    return chosen, reached

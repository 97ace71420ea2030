"""The method in plain PyTorch: the specification that every kernel is tested against.

Each function has the name, arguments and results of the operator of `fastinterp.kernels.ops` and takes any float
dtype. Gradients come from autograd, one equation at a time; nothing here is meant to be fast. Equation numbers are
those of Yuan, Chen, Hu & Ji, AAAI 2019. Nothing of the package is imported, so that no mistake can be shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from fastinterp.kernels.problems import OptimizationConfig, Problems

SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}


def slope_of(activation: str) -> float:
    """Returns the slope below 0 of a piecewise-linear activation; that of "leaky_relu:0.2" is 0.2."""
    return SLOPES[activation] if activation in SLOPES else float(activation.split(":")[1])


def activate(activation: str, z: Tensor) -> Tensor:
    """Returns the activations of pre-activations z, of any shape and dtype."""
    return torch.tanh(z) if activation == "tanh" else torch.where(z > 0, z, slope_of(activation) * z)


def _convolve(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns the (B, L, C) outputs of a 'same' convolution of (B, L, D); an even kernel pads one more on the right."""
    kernel = weight.shape[2]
    padded = functional.pad(inputs.transpose(1, 2), ((kernel - 1) // 2, kernel // 2))
    return functional.conv1d(padded, weight, bias).transpose(1, 2)


def saliency(
    embedded: Tensor,
    lengths: Tensor,
    frame: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    class_weight: Tensor,
    class_bias: Tensor,
    activation: str,
    layer: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the saliency of every location of one layer for the predicted class (Eq. 1-3).

    Args:
        embedded: (B, T, D) word vectors of B sentences.
        lengths: (B,) int64, tokens of each sentence, 0 to T; what stands beyond them is ignored.
        frame: L, at least T; the positions without a token are padding, whose vector is 0.
        weights: per layer (C_out, C_in, K).
        biases: per layer (C_out,).
        class_weight: (classes, C_last) of the linear layer.
        class_bias: (classes,).
        activation: as `activate` takes it.
        layer: index of the explained layer, 0 for the first.

    Returns:
        Scores (B, L), class scores before softmax (B, classes) and activations of the layer (B, L, C).
    """
    with torch.enable_grad():
        places = torch.arange(embedded.shape[1])
        tokens = embedded.detach() * (places < lengths[:, None])[..., None]
        hidden = functional.pad(tokens, (0, 0, 0, frame - embedded.shape[1])).requires_grad_()
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            hidden = activate(activation, _convolve(hidden, weight, bias))
            if index == layer:
                explained = hidden
        first_maximum = hidden.detach().argmax(dim=1, keepdim=True)
        features = hidden.gather(1, first_maximum).squeeze(1)
        class_scores = features @ class_weight.T + class_bias
        predicted_score = class_scores.max(dim=1).values.sum()  # S_c of each sentence
        (gradient,) = torch.autograd.grad(predicted_score, explained)  # w = dS_c / dA_j, Eq. 1-2
    scores = (gradient * explained).sum(dim=2).detach()  # Eq. 3
    return scores, class_scores.detach(), explained.detach()


def _existing_rows(rows: int, begin: Tensor, end: Tensor) -> Tensor:
    """Returns (B, rows) bool: which rows of a receptive field lie in [begin, end), inside the sentence frame."""
    place = torch.arange(rows, device=begin.device)
    return (place >= begin[:, None]) & (place < end[:, None])


def pre_activations(problems: Problems, inputs: Tensor) -> Tensor:
    """Returns the last layer's values before its activation, (B, C), at the location whose receptive field is given.

    Args:
        problems: B locations and the layers that lead to them.
        inputs: (B, R, D) receptive fields; rows outside [begin, end) lie outside the sentence frame and must be 0.
    """
    hidden, offset = inputs, 0
    for index, (weight, bias) in enumerate(zip(problems.weights, problems.biases, strict=True)):
        hidden = functional.conv1d(hidden.transpose(1, 2), weight, bias).transpose(1, 2)
        offset += (weight.shape[2] - 1) // 2
        if index + 1 < len(problems.weights):
            # Beyond the frame the next convolution sees its zero padding, not the activation of a bias.
            exists = _existing_rows(hidden.shape[1], problems.begin - offset, problems.end - offset)
            hidden = activate(problems.activation, hidden) * exists[..., None]
    return hidden.squeeze(1)


def similarity(inputs: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Returns Sim(X) = (1/N) sum_ij cos(x_i, x_j) over the N rows that exist (Eq. 7), (B,). A zero row adds nothing."""
    exists = _existing_rows(inputs.shape[1], begin, end)
    squared = (inputs * inputs).sum(dim=2, keepdim=True)
    usable = exists[..., None] & (squared > 0)
    units = torch.where(usable, inputs / torch.where(usable, squared, 1).sqrt(), 0)
    total = (units @ units.transpose(1, 2)).sum(dim=(1, 2)) / (end - begin)
    # A single row is similar to itself whatever it is; autograd would return the rounding error of that constant.
    return torch.where(end - begin > 1, total, total.detach())


def objective(problems: Problems, inputs: Tensor, config: OptimizationConfig) -> Tensor:
    """Returns a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X) of each problem, (B,) (Eq. 5-7)."""
    reached: Tensor = activate(problems.activation, pre_activations(problems, inputs))
    return (
        (problems.target * reached).sum(dim=1)  # Eq. 5
        - config.l2_weight * (inputs * inputs).sum(dim=(1, 2))  # Eq. 6
        + config.similarity_weight * similarity(inputs, problems.begin, problems.end)  # Eq. 7
    )


def optimize_adam(problems: Problems, start: Tensor, config: OptimizationConfig) -> tuple[Tensor, Tensor]:
    """Returns the inputs that Adam reaches from `start` when it maximises `objective`, and their gates.

    Args:
        problems: B locations.
        start: (B, R, D) starting points; rows outside [begin, end) are ignored.
        config: steps, lambda1, lambda2 and Adam's settings.

    Returns:
        Optimised inputs (B, R, D), zero outside [begin, end), and gates (B, C): the channel's pre-activation at the
        returned input is positive and its target is not 0.
    """
    beta1, beta2 = config.beta1, config.beta2
    exists = _existing_rows(start.shape[1], problems.begin, problems.end)[..., None]
    inputs = start * exists
    first_moment, second_moment = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for step in range(1, config.steps + 1):
        with torch.enable_grad():
            variable = inputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(problems, variable, config).sum(), variable)
        gradient = gradient * exists
        first_moment = beta1 * first_moment + (1 - beta1) * gradient
        second_moment = beta2 * second_moment + (1 - beta2) * gradient * gradient
        unbiased_first = first_moment / (1 - beta1**step)
        unbiased_second = second_moment / (1 - beta2**step)
        inputs = inputs + config.learning_rate * unbiased_first / (unbiased_second.sqrt() + config.epsilon)  # ascent
    return inputs, _gates(problems, inputs)


def _gates(problems: Problems, inputs: Tensor) -> Tensor:
    return (pre_activations(problems, inputs) > 0) & (problems.target != 0)


def ccp_iterates(
    problem: Problems, config: OptimizationConfig, max_iterations: int, tolerance: float
) -> Iterator[Tensor]:
    """Yields the inputs X (1, K, D) of the concave-convex procedure for one problem; `objective` never falls.

    a . relu(W X + b) is convex for a >= 0 and is replaced by its tangent g . X at the current gates, g = W^T (a *
    gate) (Yuille & Rangarajan 2003). What is left is maximised block by block: x_i = r_i u_i with
    u_i <- normalise(r_i g_i + (2 lambda2 / N) sum_{j != i} u_j), then r_i <- max(g_i . u_i, 0) / (2 lambda1).

    Args:
        problem: one location of a first layer with ReLU or identity.
        config: lambda1, more than 0, and lambda2.
        max_iterations: how often the gates are taken anew at most; one input is found whatever it says.
        tolerance: of the gradient's norm relative to that of g, at which a block maximisation ends.
    """
    first, last = int(problem.begin), int(problem.end)
    weight = problem.weights[0].transpose(1, 2)[:, first:last]  # (C, N, D), the filters over the rows that exist
    bias, target, gated = problem.biases[0], problem.target[0], problem.activation == "relu"
    l2_weight, similarity_weight = config.l2_weight, config.similarity_weight
    rows = weight.shape[1]
    pair = 2 * similarity_weight / rows if rows > 1 else 0.0
    gates = target != 0

    def gates_of(inputs: Tensor) -> Tensor:
        if not gated:
            return target != 0
        return (torch.einsum("cnd,nd->c", weight, inputs) + bias > 0) & (target != 0)

    # Without the similarity term the optimum for given gates is X = g / (2 lambda1), and flipping gate k changes its
    # worth by +-a_k z_k + a_k^2 ||w_k||^2 / (4 lambda1). The gates that neither their own sign nor a single flip can
    # better are where the full problem starts.
    iterations, settled = 0, not gated
    while not settled and iterations < max_iterations:
        pull = torch.einsum("c,cnd->nd", target * gates, weight)
        wanted = gates_of(pull / (2 * l2_weight))
        if torch.equal(wanted, gates):
            z = torch.einsum("cnd,nd->c", weight, pull) / (2 * l2_weight) + bias
            sign = torch.where(gates, -1.0, 1.0)
            gain = sign * target * z + target**2 * (weight * weight).sum(dim=(1, 2)) / (4 * l2_weight)
            best = gain.masked_fill(target == 0, -torch.inf).argmax()
            settled = bool((target == 0).all() or gain[best] <= 1e-6 * (pull * pull).sum() / (4 * l2_weight))
            if not settled:
                wanted[best] = ~wanted[best]
        gates = wanted
        iterations += 1
    pull = torch.einsum("c,cnd->nd", target * gates, weight)
    units, radii = torch.zeros_like(pull), torch.zeros_like(pull[:, 0])
    while True:
        for i in range(rows):
            norm = pull[i].norm()
            if radii[i] == 0 and norm > 0:  # a row without a direction, and with something that pulls it
                toward = pull[i] @ units.sum(dim=0) / norm
                if norm**2 / (4 * l2_weight) + similarity_weight / rows * (1 + 2 * toward) >= 0:
                    units[i], radii[i] = pull[i] / norm, norm / (2 * l2_weight)
        for _ in range(50):
            for i in range(rows):
                direction = radii[i] * pull[i] + pair * (units.sum(dim=0) - units[i])
                norm = direction.norm()
                along = direction @ pull[i] / norm if norm > 0 else norm
                if along > 0:  # a row is never shrunk to nothing: Sim jumps there
                    units[i], radii[i] = direction / norm, along / (2 * l2_weight)
            total = units.sum(dim=0)
            turn = torch.where(radii > 0, pair / torch.where(radii > 0, radii, 1), 0)[:, None]
            aligned = (units @ total)[:, None]
            gradient = pull - 2 * l2_weight * radii[:, None] * units + turn * (total - aligned * units)
            if gradient.norm() <= tolerance * pull.norm():
                break
        inputs = radii[:, None] * units
        yield functional.pad(inputs, (0, 0, first, problem.weights[0].shape[2] - last))[None]
        wanted, iterations = gates_of(inputs), iterations + 1
        if torch.equal(wanted, gates) or iterations >= max_iterations:
            return
        gates = wanted
        pull = torch.einsum("c,cnd->nd", target * gates, weight)


def optimize_ccp(
    problems: Problems, config: OptimizationConfig, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Returns the stationary points of `objective` that `ccp_iterates` ends at, and their gates.

    Args:
        problems: B locations of a first layer with ReLU or identity.
        config: lambda1, more than 0, and lambda2.
        max_iterations: as `ccp_iterates`.
        tolerance: as `ccp_iterates`.

    Returns:
        Inputs (B, K, D), zero outside [begin, end), and gates (B, C) as those of `optimize_adam`.
    """
    _, width, kernel = problems.weights[0].shape
    inputs = problems.target.new_zeros(len(problems), kernel, width)
    for b in range(len(problems)):
        *_, inputs[b : b + 1] = ccp_iterates(problems[b : b + 1], config, max_iterations, tolerance)
    return inputs, _gates(problems, inputs)


def optimize_per_channel(optima: Tensor, target: Tensor) -> Tensor:
    """Returns sum_k a_k X_k (B, R, D) for channel optima (C, R, D) and activations (B, C) (Eq. 4)."""
    return sum(
        (target[:, k, None, None] * optima[k] for k in range(len(optima))),
        start=target.new_zeros(len(target), *optima.shape[1:]),
    )


def overall_input(optimum: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Returns x_overall (B, D), the mean of the rows of (B, R, D) that exist (Eq. 8)."""
    exists = _existing_rows(optimum.shape[1], begin, end)
    return (optimum * exists[..., None]).sum(dim=1) / (end - begin)[:, None]


def cosine_topk(queries: Tensor, vocabulary: Tensor, inverse_norms: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k vocabulary rows of highest cosine for each query, best first, ties to the lower index.

    Args:
        queries: (Q, D). A zero query has cosine 0 with every word.
        vocabulary: (V, D).
        inverse_norms: (V,) reciprocal norms of the vocabulary; a row whose entry is 0 is never returned.
        k: number of words.

    Returns:
        Cosines (Q, k) and int64 row indices (Q, k).
    """
    norms = queries.norm(dim=1, keepdim=True)
    units = torch.where(norms > 0, queries / torch.where(norms > 0, norms, 1), 0)
    cosines = units @ (vocabulary * inverse_norms[:, None]).T
    cosines[:, inverse_norms == 0] = -torch.inf
    values, indices = cosines.sort(dim=1, descending=True, stable=True)
    return values[:, :k], indices[:, :k]

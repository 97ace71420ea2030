"""Which tokens of its field a location used: its score, taken apart.

Between kinks a stack is linear: with the gradient g = dS_c / da of the class score by the location's activations
(Eq. 2), Score = g . a is a sum over the tokens that the location sees and a part that comes from the biases,

    Score = sum_p (g . da/dx_p) x_p + bias part.

The parts add up to the score whatever the activation is; for tanh, which has no pieces, they are gradient times input,
and the rest is not the biases' alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import Problems
from fastinterp.method.fields import ACTIVATIONS, inner_slopes, pre_activations, pull_back, slope_at
from fastinterp.method.threads import one_thread
from fastinterp.models.protocol import TextClassifier


@dataclass(frozen=True, eq=False)
class TokenScores:
    """The parts of B locations' scores.

    Attributes:
        tokens: (B, R) float32, of each row of the field; 0 where there is no token.
        rest: (B,) float32, what is left of the score: the biases' part.
    """

    tokens: Tensor
    rest: Tensor


def score_gradients(model: TextClassifier, hidden: Tensor, layer: int, target: int, versus: int | None) -> Tensor:
    """Returns dS/dA (L, C) of a sentence's class score by the activations of a layer (Eq. 2).

    Args:
        model: the classifier.
        hidden: (L, C), the layer's activations over the whole frame.
        layer: its index.
        target: the class whose score it is.
        versus: the class whose score is taken away from it, if any.
    """
    top, weights = model.stack(model.layers - 1), model.head[0]
    direction = weights[target] if versus is None else weights[target] - weights[versus]
    with torch.enable_grad():
        explained = hidden.detach().requires_grad_()
        values = explained.T[None]
        for weight, bias in zip(top.weights[layer + 1 :], top.biases[layer + 1 :], strict=True):
            kernel = weight.shape[2]
            padded = functional.pad(values, ((kernel - 1) // 2, kernel // 2))
            values = ACTIVATIONS[top.activation](functional.conv1d(padded, weight, bias))
        first_maximum = values.detach().argmax(dim=2, keepdim=True)
        score = values.gather(2, first_maximum)[0, :, 0] @ direction
        (gradient,) = torch.autograd.grad(score, explained)
    return gradient


def token_scores(problems: Problems, inputs: Tensor, gradients: Tensor) -> TokenScores:
    """Returns how much each token of its field adds to a location's score.

    Args:
        problems: B locations; `target` holds their activations.
        inputs: (B, R, D), the word vectors that they see.
        gradients: (B, C) of the class score by the activations.
    """
    tokens = inputs.new_zeros(inputs.shape[:2])
    with one_thread():
        for number in range(len(problems)):
            problem, seen = problems[number : number + 1], inputs[number : number + 1]
            values = pre_activations(problem, seen)
            inner = inner_slopes(problem, values)
            slope = slope_at(problem.activation, problem.target[0])
            pulled = pull_back(problem, (gradients[number] * slope)[None, :, None], inner)
            tokens[number] = (pulled * seen)[0].sum(dim=1)
    return TokenScores(tokens, (gradients * problems.target).sum(dim=1) - tokens.sum(dim=1))

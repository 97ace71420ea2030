"""Which tokens of its field a location used: its score, taken apart.

Between kinks a stack is linear: with the gradient g = dS_c / da of the class score by the location's activations
(Eq. 2), Score = g . a is a sum over the tokens that the location sees and a part that comes from the biases,

    Score = sum_p (g . da/dx_p) x_p + bias part.

The parts add up to the score whatever the activation is; for tanh, which has no pieces, they are gradient times input,
and the rest is not the biases' alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels.activations import slope_at
from fastinterp.kernels.problems import Problems
from fastinterp.method.fields import class_scores, inner_slopes, pre_activations, pull_back
from fastinterp.models.protocol import TextClassifier

_FLOATS_AT_ONCE = 1 << 21  # bounds the memory


@dataclass(frozen=True, eq=False)
class TokenScores:
    """The parts of B locations' scores.

    Attributes:
        tokens: (B, R) float32, of each row of the field; 0 where there is no token.
        rest: (B,) float32, what is left of the score: the biases' part.
    """

    tokens: Tensor
    rest: Tensor


def score_gradients(
    model: TextClassifier, hidden: Tensor, layer: int, targets: Sequence[int], versus: int | None
) -> Tensor:
    """Returns dS/dA (S, L, C) of each sentence's class score by the activations of a layer (Eq. 2).

    In float64, so that the last bit does not depend on how many sentences there are.

    Args:
        model: the classifier.
        hidden: (S, L, C), the layer's activations over the whole frame.
        layer: its index.
        targets: S classes whose scores they are.
        versus: the class whose score is taken away from them, if any.
    """
    top, asked = model.stack(model.layers - 1), torch.tensor(targets, dtype=torch.int64, device=hidden.device)
    gradients = [torch.empty_like(hidden[:0])]
    size = max(1, _FLOATS_AT_ONCE // (hidden.shape[1] * max(weight[0].numel() for weight in top.weights)))
    # Whatever mode the caller is in: neither it nor the tensors it made may keep a gradient from being taken.
    with torch.inference_mode(False), torch.enable_grad():
        weights, biases = ([each.double() for each in kind[layer + 1 :]] for kind in (top.weights, top.biases))
        weight, bias = (each.double() for each in model.head)
        for part, classes in zip(hidden.split(size), asked.split(size), strict=True):
            explained = part.double().requires_grad_()
            scores = class_scores(explained, weights, biases, top.activation, (weight, bias))
            score = scores.gather(1, classes.clone()[:, None]).sum()
            if versus is not None:
                score = score - scores[:, versus].sum()
            gradients.append(torch.autograd.grad(score, explained)[0].to(hidden.dtype))
    return torch.cat(gradients)


def token_scores(problems: Problems, inputs: Tensor, gradients: Tensor) -> TokenScores:
    """Returns how much each token of its field adds to a location's score; in float64, as `score_gradients`.

    Args:
        problems: B locations; `target` holds their activations.
        inputs: (B, R, D), the word vectors that they see.
        gradients: (B, C) of the class score by the activations.
    """
    tokens = inputs.new_zeros(inputs.shape[:2], dtype=torch.float64)
    exact, slopes = problems.double(), gradients.double() * slope_at(problems.activation, problems.target)
    size = max(1, _FLOATS_AT_ONCE // (problems.field * max(weight[0].numel() for weight in problems.weights)))
    for first in range(0, len(problems), size):
        part = slice(first, first + size)
        seen = inputs[part].double()
        inner = inner_slopes(exact[part], pre_activations(exact[part], seen))
        tokens[part] = (pull_back(exact[part], slopes[part], inner) * seen).sum(dim=2)
    rest = (gradients.double() * exact.target).sum(dim=1) - tokens.sum(dim=1)
    return TokenScores(tokens.to(inputs.dtype), rest.to(inputs.dtype))

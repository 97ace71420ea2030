"""A convolution that stands beside others in a model of ours: its saliency, for which the others are needed too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels import ops
from fastinterp.kernels.activations import activate
from fastinterp.models.protocol import ConvolutionStack, FieldFunction, LayerPass, Places
from fastinterp.models.receptive_field import ReceptiveField
from fastinterp.text.vocabulary import PAD


@dataclass(frozen=True, eq=False)
class Branch:
    """One of several convolutions that read the word vectors and whose maxima over time go to one linear layer.

    Attributes:
        place: which of them.
        stacks: each of them, a convolution.
        heads: (classes, C) each, the part of the linear layer's weight that reads its maxima.
        bias: (classes,), the linear layer's.
        vectors: (V, D), the word vectors.
        length: L, positions of every frame.
    """

    place: int
    stacks: tuple[ConvolutionStack, ...]
    heads: tuple[Tensor, ...]
    bias: Tensor
    vectors: Tensor
    length: int

    def explain(
        self, ids: Tensor, choose: Callable[[Tensor, list[int]], Sequence[int]], versus: int | None
    ) -> LayerPass:
        """Returns activations (b, L, C) of the branch and the gradients of a class score by them (Eq. 2).

        The class scores are sums over the branches and need all of them. Their gradients need this one alone: each
        channel has its weight for the class where it is largest, at the first such location, and 0 elsewhere.

        Args:
            ids: (b, L) int64, on the CPU; padding only behind the tokens.
            choose: gives the explained classes for the class scores (b, classes) of all sentences.
            versus: the class whose score is taken away from theirs, if any.
        """
        lengths = (ids != PAD).sum(dim=1)
        longest = int(lengths.max()) if len(ids) else 0
        embedded = self.vectors[ids[:, :longest].to(self.vectors.device)]
        lengths = lengths.to(self.vectors.device)
        class_scores, hidden = self.bias.repeat(len(ids), 1), embedded
        for number, (stack, head) in enumerate(zip(self.stacks, self.heads, strict=True)):
            is_own = number == self.place
            _, part, kept = ops.saliency(
                embedded,
                lengths,
                self.length,
                list(stack.weights),
                list(stack.biases),
                head,
                torch.zeros_like(self.bias),
                stack.activation,
                0,
                is_own,
            )
            class_scores += part
            hidden = kept if is_own else hidden
        asked = torch.tensor(list(choose(class_scores, list(range(len(ids))))), dtype=torch.int64)
        weight = self.heads[self.place]
        slopes = weight[asked.to(weight.device)]
        if versus is not None:
            slopes = slopes - weight[versus]
        first = hidden.argmax(dim=1, keepdim=True)
        return LayerPass(class_scores, hidden, torch.zeros_like(hidden).scatter_(1, first, slopes[:, None]))

    def gradient_times_input(self, ids: Tensor) -> Tensor:
        """Returns x_p . dS/dx_p for the predicted class of sentences (b, L), through all branches: (b, L) float32."""
        # Whatever mode the caller is in: neither it nor the tensors it made may keep a gradient from being taken.
        with torch.inference_mode(False), torch.enable_grad():
            embedded = self.vectors[ids.to(self.vectors.device)].requires_grad_()
            class_scores = self.bias.repeat(len(ids), 1)
            for stack, head in zip(self.stacks, self.heads, strict=True):
                framed = functional.pad(embedded.transpose(1, 2), (stack.before, stack.after))
                convolved = functional.conv1d(framed, stack.weights[0].clone(), stack.biases[0].clone())
                maxima = activate(stack.activation, convolved).max(dim=2).values
                class_scores = class_scores + functional.linear(maxima, head.clone())
            (gradient,) = torch.autograd.grad(class_scores.amax(dim=1).sum(), embedded)
        return (gradient * embedded.detach()).sum(dim=2)

    def in_fields(self, places: Places, most: int) -> Iterator[tuple[Tensor, FieldFunction]]:
        """Yields which of N locations can be computed at once, `most` at most, (n,) int64, and the function.

        Args:
            places: the locations.
            most: how many at once.
        """
        own = self.stacks[self.place]
        weight, bias = own.weights[0], own.biases[0]
        width = weight.shape[2]
        field = ReceptiveField(own.before, width)

        def compute(inputs: Tensor) -> Tensor:
            hidden = activate(own.activation, functional.conv1d(inputs.transpose(1, 2), weight, bias))
            return hidden[..., 0]

        # Those whose fields reach as far over the edges have the same rows that exist.
        edges = torch.stack(field.edges(places.location, places.frame.to(places.location.device), width))
        for edge in edges.unique(dim=1).T:
            for members in (edges == edge[:, None]).all(dim=0).nonzero()[:, 0].split(most):
                yield members, compute

"""What travels together to an operator that optimises: the problems, and how they are solved.

This module needs torch only where a tensor is made, so that a command line can read the defaults without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastinterp.validation import choice, integer, number

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)  # tensors have no single truth value to compare by
class Problems:
    """B locations whose receptive fields are optimised at once, in the layers that lead to them.

    A field has R rows, one more than the kernels' widths less one add up to. Of problem b the rows
    [begin[b], end[b]) lie inside the sentence frame; the others see its zero padding and are no variables.

    Attributes:
        target: (B, C) activations `a` of the locations, what the optimised input should reproduce.
        weights: per layer (C_out, C_in, K), from the first layer to the explained one.
        biases: per layer (C_out,).
        begin: (B,) int64, the first row of each field that exists.
        end: (B,) int64, one past the last.
        activation: "relu", "leaky_relu" (slope 0.01), "leaky_relu:SLOPE" with a slope of 0 to 1, "identity" or "tanh".
    """

    target: Tensor
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    begin: Tensor
    end: Tensor
    activation: str

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: slice) -> Problems:
        return replace(self, target=self.target[rows], begin=self.begin[rows], end=self.end[rows])

    @property
    def field(self) -> int:
        """R, rows of a receptive field."""
        return 1 + sum(weight.shape[2] - 1 for weight in self.weights)

    @property
    def exists(self) -> Tensor:
        """(B, R) bool, the rows that lie inside the sentence frame."""
        import torch

        place = torch.arange(self.field, device=self.begin.device)
        return (place >= self.begin[:, None]) & (place < self.end[:, None])

    def to(self, device: torch.device | str) -> Problems:
        """Returns the same problems on another device."""
        return Problems(
            self.target.to(device),
            [weight.to(device) for weight in self.weights],
            [bias.to(device) for bias in self.biases],
            self.begin.to(device),
            self.end.to(device),
            self.activation,
        )

    def double(self) -> Problems:
        """Returns the same problems in float64, for the reference: what float32 rounded away is no kernel's error."""
        return replace(
            self,
            target=self.target.double(),
            weights=[weight.double() for weight in self.weights],
            biases=[bias.double() for bias in self.biases],
        )


@dataclass(frozen=True)
class OptimizationConfig:
    """How inputs are optimised; the defaults are the paper's for MR.

    Attributes:
        steps: Adam steps. The paper gives no number; the nearest words settle at about 1,000.
        l2_weight: lambda1 of Eq. 6.
        similarity_weight: lambda2 of Eq. 7.
        learning_rate: Adam's step size.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        epsilon: Adam's denominator floor.
        seed: of the random starts.
        solver: "adam", the paper's; or "ccp", the concave-convex procedure, which goes all the way to a stationary
            point (any activation but tanh, lambda1 > 0; no start, steps or learning rate).
        objective: "joint" (Eq. 5-7), or "per-channel" (Eq. 4): every channel is maximised alone and the optima are
            summed with the activations as weights.

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    steps: int = 1000
    l2_weight: float = 0.004
    similarity_weight: float = 0.02
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0
    solver: str = "adam"
    objective: str = "joint"

    def __post_init__(self) -> None:
        checked = {
            "steps": integer("steps", self.steps, least=0),
            "l2_weight": number("l2_weight", self.l2_weight, least=0),
            "similarity_weight": number("similarity_weight", self.similarity_weight, least=0),
            "learning_rate": number("learning_rate", self.learning_rate, above=0),
            "beta1": number("beta1", self.beta1, least=0, below=1),
            "beta2": number("beta2", self.beta2, least=0, below=1),
            "epsilon": number("epsilon", self.epsilon, above=0),
            "seed": integer("seed", self.seed),
            "solver": choice("solver", self.solver, ("adam", "ccp")),
            "objective": choice("objective", self.objective, ("joint", "per-channel")),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def preset(cls, name: str) -> OptimizationConfig:
        """Returns the paper's settings by the name of their data set, "mr" or "ag_news".

        Raises:
            ValueError: another name.
        """
        presets = {"mr": cls(), "ag_news": cls(l2_weight=0.002, similarity_weight=0.01)}
        return presets[choice("preset", name, presets)]

"""What optimising inputs gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class OptimizedInputs:
    """The optimised receptive fields of B locations, on the model's device.

    Attributes:
        inputs: (B, R, D) float32, zero at positions outside the sentence frame.
        overall: (B, D) float32, the mean of the positions that exist (Eq. 8).
        gates: (B, C) bool, channels whose pre-activation is positive at the optimum and whose target is not 0.
        iterations: (B,) int64, how often the gates were taken anew; None but for the joint objective by "ccp".
        residual: (B,) float32, norm of the objective's gradient relative to that of its linear part; None as above.
            At kinks of the objective it is the way to the nearest summit, relative to the same. Below 1e-5 the point is
            stationary. More than that marks a location that rounding left short of it, or whose activations pull less
            than the similarity term does: it would shrink a row to nothing, where Sim jumps, and no maximum is
            attained.
    """

    inputs: Tensor
    overall: Tensor
    gates: Tensor
    iterations: Tensor | None = None
    residual: Tensor | None = None

"""Writing down the operators of a pass, whatever modules or functions called them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Step:
    """One operator of a pass.

    Attributes:
        name: of the operator, without the mark of one that writes into its input.
        given: its positional arguments.
        inputs: the identities of the tensors among them.
        output: the identity of the first tensor that it gave.
    """

    name: str
    given: list[Any]
    inputs: list[int]
    output: int


class _Writing:
    """Writes down each operator of a pass.

    Apart from `Tape`, since torch loads its compiler, which takes seconds, for a mode that defines this method itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._alive: list[object] = []  # so that no tensor gets another's identity

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if isinstance(first, Tensor):
            name = func.overloadpacket.__name__
            inputs = [id(each) for each in args if isinstance(each, Tensor)]
            self.steps.append(
                Step(name if name.startswith("_") else name.removesuffix("_"), list(args), inputs, id(first))
            )
            self._alive.append((args, result))
        return result


class Tape(_Writing, TorchDispatchMode):
    """A pass, written down."""

"""The embedding of a user's module: a `torch.nn.Embedding`, or any part that gives the rows of a table for the ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastinterp.messages import one_line
from fastinterp.models.adapt.find import listed, name_of

LONGEST_START = 64  # the shortest text that a module takes is no longer
# What too short a text, or one of another length than a layer was made for, raises in the modules that people write.
REFUSED = (RuntimeError, ValueError, IndexError, AssertionError)
Forward = Callable[[nn.Module, Tensor, Tensor], Any]


@dataclass(frozen=True, eq=False)
class Lookup:
    """The part of a module that looks ids up in a table of word vectors.

    Attributes:
        module: the part.
        tables: the weights or buffers, of this part or another, among which the table is.
        key: its name there. The table itself is not kept: moving a module to another device may replace it.
        argument: which of the part's positional arguments the ids are.
    """

    module: nn.Module
    tables: Mapping[str, Tensor | None]
    key: str
    argument: int = 0

    @property
    def weight(self) -> Tensor:
        """(V, D) float, the table."""
        weight = self.tables[self.key]
        if weight is None:
            raise ValueError("embedding: expected one with a table, got one whose table was taken away")
        return weight

    @property
    def rows(self) -> int:
        """V."""
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        """D."""
        return self.weight.shape[1]

    def in_copy(self, whole: nn.Module, copied: nn.Module) -> Lookup:
        """Returns the same part of a copy of the whole module."""
        pairs = list(zip(whole.modules(), copied.modules(), strict=True))
        for own, other in pairs:
            for tables, others in ((own._parameters, other._parameters), (own._buffers, other._buffers)):
                if tables is self.tables:
                    part = next(other for own, other in pairs if own is self.module)
                    return Lookup(part, others, self.key, self.argument)
        raise ValueError("embedding: expected one with a table, got one whose table is no longer a part of the module")


def find_lookup(
    module: nn.Module,
    parts: Mapping[str, nn.Module],
    wanted: nn.Module | str | None,
    forward: Forward | None,
    length: int | None,
) -> Lookup:
    """Returns the embedding.

    Args:
        module: the whole.
        parts: of it, by name.
        wanted: the embedding, its name, or None where there is only one.
        forward: how the module is called; None for `module(ids)`.
        length: tokens of a text, where the module takes no others.

    Raises:
        TypeError: what was named is no embedding.
        ValueError: there is none, or none of that name, or several to choose from.
    """
    plain = {name: part for name, part in parts.items() if isinstance(part, nn.Embedding)}
    name = None if wanted is None else name_of("embedding", parts, wanted, plain or [each for each in parts if each])
    if name is None and len(plain) > 1:
        raise ValueError(f"embedding: expected one of {listed(plain)} to be named, got none")
    if name is None and plain:
        name = next(iter(plain))
    if name in plain:
        return Lookup(plain[name], plain[name]._parameters, "weight")
    found, fault = _looked_up(module, parts, forward, length)
    if name is not None:
        if name in found:
            return found[name]
        raise TypeError(
            f"embedding: expected a torch.nn.Embedding, one of {listed([*plain, *found])}, or another part that looks "
            f"the ids up in a table, got {name} ({type(parts[name]).__name__}){fault}"
        )
    if not found:
        raise ValueError(
            f"module: expected one with a torch.nn.Embedding, got {type(module).__name__} without any, and none of its "
            f"parts looks the ids up in a table{fault}"
        )
    if len(found) > 1:
        raise ValueError(f"embedding: expected one of {listed(found)} to be named, got none")
    return next(iter(found.values()))


def _looked_up(
    module: nn.Module, parts: Mapping[str, nn.Module], forward: Forward | None, length: int | None
) -> tuple[dict[str, Lookup], str]:
    """Returns the parts whose output is the rows of a table for the ids, by name, and why no pass succeeded, if none.

    The ids of the pass are rows 0 and 1 in turns, which every table has and no positions look like.
    """
    found: dict[str, Lookup] = {}
    fault = ""
    for tokens in range(1, LONGEST_START + 1) if length is None else (length,):
        count = 3 if tokens == 2 else 2
        ids = torch.arange(count * tokens).remainder(2).reshape(count, tokens)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for name, part in parts.items():
                if name:
                    stack.callback(part.register_forward_hook(_hook(name, module, ids, found)).remove)
            stack.enter_context(evaluating(module))
            device = next((each.device for each in module.parameters()), ids.device)
            stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
            given = ids.to(device)
            try:
                if forward is None:
                    module(given)
                else:
                    forward(module, given, torch.full((count,), tokens, device=device))
            except (*REFUSED, TypeError) as error:  # TypeError where it needs more arguments
                fault = f" ({one_line(error)})"
            else:
                return found, ""
        # A part may have been found in a pass that failed behind it.
        if found:
            return found, ""
    return found, fault


def _hook(name: str, module: nn.Module, ids: Tensor, found: dict[str, Lookup]) -> Callable[..., None]:
    def compare(part: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or output.dim() != 3 or not output.is_floating_point():
            return
        for argument, rows in enumerate(given):
            # Keras hands ids on as floats.
            if not isinstance(rows, Tensor) or rows.shape != output.shape[:2]:
                continue
            if not any(rows.shape == own.shape and torch.equal(rows.cpu().long(), own) for own in (ids, ids.t())):
                continue
            for tables, key, table in _matrices(module):
                if len(table) > 1 and torch.equal(table[rows.to(table.device).long()], output.to(table.device)):
                    found.setdefault(name, Lookup(part, tables, key, argument))

    return compare


def _matrices(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    for part in module.modules():
        for tables in (part._parameters, part._buffers):
            for key, table in tables.items():
                if table is not None and table.dim() == 2 and table.is_floating_point():
                    yield tables, key, table


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Sets every part to evaluation mode; each gets its own mode back, which may not be that of the whole."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training

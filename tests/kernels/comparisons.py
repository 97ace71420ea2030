"""What the operators' tests have in common: how results are compared, and what must not change them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BATCH = 9  # what the functions below cut into parts


def relative_error(got: Tensor, expected: Tensor, smallest_norm: float = 1e-6) -> float:
    """Largest error of a row (first dimension) relative to the row's norm."""
    if not expected.numel():
        return 0.0
    difference = (got.double() - expected).flatten(1).norm(dim=1)
    return float((difference / expected.flatten(1).norm(dim=1).clamp(min=smallest_norm)).max())


def assert_batching_changes_nothing(
    run: Callable[[slice], Sequence[Tensor]], same: Callable[[int, Tensor, Tensor], None] | None = None
) -> None:
    """`run` gives an operator's results for some rows of one fixed batch; `same` compares its result number i."""
    whole = run(slice(0, BATCH))
    for rows in (slice(0, 1), slice(3, 7), slice(8, 9)):
        for place, (full, part) in enumerate(zip(whole, run(rows), strict=True)):
            if same is None:
                assert torch.equal(full[rows], part)
            else:
                same(place, full[rows], part)


def assert_threads_change_nothing(threads: Callable[[int], None], run: Callable[[slice], Sequence[Tensor]]) -> None:
    """`threads` is the fixture that sets their number."""
    threads(1)
    alone = run(slice(0, BATCH))
    for count in (2, 5):
        threads(count)
        for one, many in zip(alone, run(slice(0, BATCH)), strict=True):
            assert torch.equal(one, many)


def check_operator(name: str, **arguments: object) -> None:
    """The schema, the fake kernel and the dispatch hold under torch.compile."""
    operator = getattr(torch.ops.fastinterp, name).default
    torch.library.opcheck(operator, (), arguments, test_utils=["test_schema", "test_faketensor"])

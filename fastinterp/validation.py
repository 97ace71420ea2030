"""One validator for settings: every check of a value, in the words "name: expected X, got Y".

Each function returns the value as a plain Python int, float or str, so that what a configuration holds can be compared,
hashed and written as JSON whatever it was given.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from numbers import Integral, Real

_LONGEST = 200  # characters of a value in a message
_INT64 = 2**63  # the operators take integers of 64 bits


def got(value: object) -> str:
    """Returns how a message shows a value: its repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


def integer(name: str, value: object, least: int = -_INT64, most: int = _INT64 - 1) -> int:
    """Returns an integer from `least` to `most`. numpy's integers are some, True and False are not.

    Raises:
        ValueError: something else, or out of range.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name}: expected an integer, got {got(value)}")
    given = operator.index(value)
    if not least <= given <= most:
        one_sided = f"at least {least}" if given < least else f"at most {most}"
        both = least > -_INT64 and most < _INT64 - 1
        raise ValueError(f"{name}: expected {f'{least} to {most}' if both else one_sided}, got {got(value)}")
    return given


def number(
    name: str, value: object, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf
) -> float:
    """Returns a finite number that is at least `least`, more than `above` and less than `below`.

    Raises:
        ValueError: no number (True and False are none), NaN, infinity, or out of range.
    """
    try:
        given = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond the largest float
        given = math.inf
    if not math.isfinite(given):
        raise ValueError(f"{name}: expected a finite number, got {got(value)}")
    if not (least <= given and above < given < below):
        bounds = {"at least": least, "more than": above, "below": below}
        wanted = " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if math.isfinite(bound))
        raise ValueError(f"{name}: expected {wanted}, got {got(value)}")
    return given


def flag(name: str, value: object) -> bool:
    """Returns True or False.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {got(value)}")
    return value


def choice(name: str, value: object, choices: Collection[str]) -> str:
    """Returns a string that is one of `choices`.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {got(value)}")
    return value

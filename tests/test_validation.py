"""The validator of settings: what it takes comes back as a plain number, what it refuses is named on one short line."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.validation import choice, got, integer, number

INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(INTEGERS, st.sampled_from([int, np.int64]))
def test_integers_of_64_bits_are_taken_as_plain_ones(value: int, kind: type):
    found = integer("steps", kind(value))
    assert type(found) is int
    assert found == value


@given(INTEGERS, INTEGERS, INTEGERS)
def test_an_integer_is_taken_within_its_bounds_alone(value: int, least: int, most: int):
    if least <= value <= most:
        assert integer("steps", value, least, most) == value
    else:
        one_sided = f"at least {least}" if value < least else f"at most {most}"
        both = least > -(2**63) and most < 2**63 - 1
        bound = f"{least} to {most}" if both else one_sided
        with pytest.raises(ValueError, match=f"^steps: expected {bound}, got {value}$"):
            integer("steps", value, least, most)


@pytest.mark.parametrize(
    "value", [True, np.True_, 1.0, np.float64(1), "1", None, [1], torch.tensor(1), np.array(1), Fraction(1)]
)
def test_what_is_no_integer_is_refused(value: object):
    with pytest.raises(ValueError, match="^steps: expected an integer, got "):
        integer("steps", value)


def test_an_integer_beyond_64_bits_is_refused():
    with pytest.raises(ValueError, match="seed: expected at most 9223372036854775807"):
        integer("seed", 2**63)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.sampled_from([float, np.float32, np.float64]))
def test_finite_numbers_are_taken_as_plain_ones(value: float, kind: type):
    found = number("rate", kind(value))
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, True, "1", None, 1j])
def test_what_is_no_finite_number_is_refused(value: object):
    with pytest.raises(ValueError, match="^rate: expected a finite number, got "):
        number("rate", value)


@given(st.floats(-2, 2), st.booleans())
def test_a_number_is_taken_within_its_bounds_alone(value: float, closed: bool):
    lower = {"least": 0} if closed else {"above": 0}
    if (value >= 0 if closed else value > 0) and value < 1:
        assert number("share", value, **lower, below=1) == value
    else:
        words = "at least 0" if closed else "more than 0"
        with pytest.raises(ValueError, match=f"^share: expected {words} and below 1, got "):
            number("share", value, **lower, below=1)


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_a_choice_is_one_of_the_strings(value: object):
    choices = ("adam", "ccp")
    if value in choices:
        assert choice("solver", value, choices) == value
    else:
        with pytest.raises(ValueError, match="^solver: expected one of adam, ccp, got "):
            choice("solver", value, choices)


@given(st.text(max_size=2000))
def test_a_message_stays_short(value: str):
    assert len(got(value)) < 250
    assert got(value).startswith(repr(value)[:200])

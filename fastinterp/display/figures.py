"""How figures stand in tables."""

from __future__ import annotations


def decimals(value: float, digits: int = 3) -> str:
    """Returns decimals without the zero before the point, as papers print them, and no minus before a rounded 0."""
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """Returns a value and, where there is one, its interval."""
    interval = "" if low is None or high is None else f" [{decimals(low)}, {decimals(high)}]"
    return decimals(value) + interval

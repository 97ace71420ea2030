"""How values stand in error messages."""

from __future__ import annotations


def one_line(value: object, most: int = 150) -> str:
    """Returns str(value) on one line, and without its middle where it is longer than `most` characters."""
    text = " ".join(str(value).split())
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 3]}...{text[-half:]}"

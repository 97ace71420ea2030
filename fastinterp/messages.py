"""How values stand in error messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def one_line(value: object, most: int = 150) -> str:
    """Returns str(value) on one line, and without its middle where it is longer than `most` characters."""
    text = " ".join(str(value).split())
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 3]}...{text[-half:]}"


def clip(text: str, limit: int = 120) -> str:
    """Returns `text` on one line: control characters escaped, the middle left out beyond `limit` characters."""
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    kept = (limit - 3) // 2
    return line if len(line) <= limit else f"{line[:kept]}...{line[-kept:]}"


def quoted(value: str, limit: int = 40, spell: Callable[[str], str] = repr) -> str:
    """Returns `value` in quotes, on one line and cut to `limit` characters; `spell` is `repr` or `ascii`."""
    whole = spell(value[:limit])
    return whole if len(value) <= limit and len(whole) <= limit else whole[: limit - 4] + "..." + whole[0]


def shown_path(path: Path, limit: int = 80) -> str:
    """Returns `path` on one line; of a long one the end, where the file's name is."""
    text = str(path) if str(path).isprintable() else repr(str(path))
    return text if len(text) <= limit else "..." + text[3 - limit :]


def plural(count: int, noun: str) -> str:
    """Returns the count with its noun: "1 word", "2,000 words"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

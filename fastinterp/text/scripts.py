"""Which scripts texts are written in, by the names that Unicode gives their letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

# What stands before the script in the names of letters, such as FULLWIDTH LATIN SMALL LETTER A.
_WIDTHS = frozenset({"FULLWIDTH", "HALFWIDTH"})


@cache
def script_of(character: str) -> str | None:
    """Returns the script of a letter as Unicode's name of it begins, such as "LATIN" or "CJK"; None for all else."""
    if character.isascii():
        return "LATIN" if character.isalpha() else None
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return None
    name = [word for word in unicodedata.name(character, "").split() if word not in _WIDTHS]
    return name[0] if name else None


def letters_by_script(text: str) -> Counter[str]:
    """Returns how many letters of each script the text has."""
    return Counter(script for script in map(script_of, text) if script is not None)


def scripts_of_words(words: Iterable[str], share: float) -> frozenset[str]:
    """Returns the scripts in which at least this share of the words that have a letter are written."""
    counts: Counter[str] = Counter()
    written = 0
    for word in words:
        scripts = letters_by_script(word)
        counts.update(scripts.keys())
        written += bool(scripts)
    return frozenset(script for script, count in counts.items() if count >= share * written)

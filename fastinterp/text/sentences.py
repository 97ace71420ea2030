"""What a caller may pass as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set


def check_sentences(sentences: Iterable[str]) -> list[str]:
    """Returns the sentences as a list, whatever ordered collection they come in.

    Args:
        sentences: a list, tuple, generator, array or column of a data frame.

    Raises:
        TypeError: a single string, a whole table, a collection without an order, or an element that is no string.
    """
    if isinstance(sentences, (str, bytes)):
        raise TypeError(f"sentences: expected a list of strings, got one {type(sentences).__name__}")
    if hasattr(sentences, "columns"):
        raise TypeError(
            f"sentences: expected a list of strings, got a {type(sentences).__name__}; pass the column that holds "
            "the texts, such as frame['text']"
        )
    if isinstance(sentences, (Mapping, Set)) or not isinstance(sentences, Iterable):
        raise TypeError(f"sentences: expected a list of strings, got {type(sentences).__name__}")
    listed = list(sentences)
    for position, sentence in enumerate(listed):
        if not isinstance(sentence, str):
            raise TypeError(f"sentences: expected strings, got {type(sentence).__name__} at position {position}")
    return listed

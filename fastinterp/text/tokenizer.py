"""Text to tokens: Kim-2014 tokenisation with case kept."""

from __future__ import annotations

import re

_DROPPED = re.compile(r"[^A-Za-z0-9(),!?'`]")
_DETACHED = re.compile(r"('s|'ve|n't|'re|'d|'ll)|([,!?()])")


def tokenize(text: str) -> list[str]:
    """Returns the tokens of `text` as Kim (2014) cuts them, but with the case kept.

    Letters, digits and ``( ) , ! ? ' ` `` stay, anything else separates; the clitics 's 've n't 're 'd 'll and the
    punctuation become tokens of their own.
    """
    kept = _DROPPED.sub(" ", text)
    return _DETACHED.sub(lambda found: f" {found[1]}" if found[1] else f" {found[2]} ", kept).split()

"""MurmurHash64A over many strings at once: the key under which spaCy files a word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0xC6A4A7935BD1E995)
_SHIFT = np.uint64(47)
_SPACY_SEED = 1


def murmur64(strings: Sequence[str]) -> NDArray[np.uint64]:
    """Returns the (N,) uint64 hashes of the strings' UTF-8 bytes, with spaCy's seed (Appleby, MurmurHash64A)."""
    encoded = [string.encode("utf-8") for string in strings]
    lengths = np.array([len(data) for data in encoded])
    hashes = np.zeros(len(encoded), dtype=np.uint64)
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        whole_words = -(-int(length) // 8) * 8
        padded = b"".join(encoded[i].ljust(whole_words, b"\0") for i in members)
        blocks = np.frombuffer(padded, dtype="<u8").reshape(len(members), whole_words // 8)
        hashes[members] = _hash_blocks(blocks, int(length))
    return hashes


def _hash_blocks(blocks: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Hashes (N, W) zero-padded 8-byte words that hold strings of one length."""
    start = (length * int(_MULTIPLIER) ^ _SPACY_SEED) & 0xFFFFFFFFFFFFFFFF
    state = np.full(len(blocks), start, dtype=np.uint64)
    for column in range(length // 8):
        word = blocks[:, column] * _MULTIPLIER
        word ^= word >> _SHIFT
        state = (state ^ word * _MULTIPLIER) * _MULTIPLIER
    if length % 8:
        state = (state ^ blocks[:, -1]) * _MULTIPLIER
    state ^= state >> _SHIFT
    state *= _MULTIPLIER
    return state ^ (state >> _SHIFT)

"""Labelled texts, and how they are cut into a part to learn from and a part held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastinterp.errors import DataError
from fastinterp.messages import quoted


@dataclass(frozen=True)
class TextDataset:
    """Labelled texts.

    Attributes:
        texts: N raw texts.
        labels: N class indices.
        classes: names of the classes.

    Raises:
        DataError: no texts, or a label without a class.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise DataError("dataset: it holds no texts")
        if len(self.texts) != len(self.labels):
            raise DataError(f"dataset: {len(self.texts)} texts but {len(self.labels)} labels")
        if min(self.labels) < 0 or max(self.labels) >= len(self.classes):
            raise DataError(f"dataset: expected labels 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int]) -> TextDataset:
        """Returns the texts at `indices`, in that order."""
        return TextDataset(tuple(self.texts[i] for i in indices), tuple(self.labels[i] for i in indices), self.classes)

    def fingerprint(self) -> str:
        """Returns the SHA-256, in hex, of classes, texts and labels in their order.

        Two data sets have the same one only if they are equal: every list stands behind its length, and so does
        every string.
        """
        digest = hashlib.sha256()
        for strings in (self.classes, self.texts):
            digest.update(len(strings).to_bytes(8, "little"))
            for string in strings:
                # Half a surrogate pair is no Unicode, but a caller's string may hold one.
                encoded = string.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        digest.update(np.asarray(self.labels, dtype="<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Corpus:
    """A data set cut into a part to learn from and a part held out.

    Attributes:
        train: the part to learn from.
        test: the part held out.
        fingerprint: of the whole table that both were cut from; None for a corpus that has a name.
    """

    train: TextDataset
    test: TextDataset
    fingerprint: str | None = None


def split(dataset: TextDataset, share: float = 0.1, seed: int = 0) -> Corpus:
    """Returns a seeded split with the classes in equal proportion on both sides.

    Args:
        dataset: N texts.
        share: part held out, of which N x share, rounded to the nearest number of texts, go to `test`.
        seed: of the shuffle.

    Raises:
        ValueError: `share` is not between 0 and 1.
        DataError: a class has a single text, or one side would have fewer texts than there are classes.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected between 0 and 1, got {share!r}")
    from sklearn.model_selection import train_test_split

    counts = _require(dataset, 2, "cannot be split")
    held_out = round(len(dataset) * share)
    if min(held_out, len(dataset) - held_out) < len(counts):
        raise DataError(
            f"dataset: {len(dataset)} texts of {len(counts)} classes cannot be split: of {held_out} held out and "
            f"{len(dataset) - held_out} others, both must be at least as many as there are classes"
        )
    train, test = train_test_split(
        np.arange(len(dataset)), test_size=held_out, random_state=seed, stratify=dataset.labels
    )
    return Corpus(dataset.subset(sorted(train)), dataset.subset(sorted(test)))


def folds(dataset: TextDataset, count: int = 10, seed: int = 0) -> Iterator[Corpus]:
    """Returns `count` stratified cross-validation splits, one after the other; every text is held out once.

    Raises:
        ValueError: `count` is less than 2.
        DataError: a class has fewer than `count` texts.
    """
    from sklearn.model_selection import StratifiedKFold

    if count < 2:
        raise ValueError(f"count: expected at least 2, got {count!r}")
    _require(dataset, count, f"cannot be cut into {count} folds")
    folder = StratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
    parts = folder.split(np.zeros(len(dataset)), dataset.labels)
    return (Corpus(dataset.subset(train.tolist()), dataset.subset(test.tolist())) for train, test in parts)


def _require(dataset: TextDataset, least: int, otherwise: str) -> Counter[int]:
    """The number of texts of each class that occurs, of which each must have at least `least`."""
    counts = Counter(dataset.labels)
    rare = sorted(label for label, count in counts.items() if count < least)
    if not rare:
        return counts
    times = "once" if counts[rare[0]] == 1 else f"{counts[rare[0]]} times"
    others = f", {len(rare) - 1} other labels are as rare" if len(rare) > 1 else ""
    raise DataError(
        f"dataset: {len(dataset)} texts {otherwise}: label {quoted(dataset.classes[rare[0]])} occurs {times}{others}; "
        f"at least {least} texts of each class are needed"
    )

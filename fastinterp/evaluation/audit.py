"""Before explaining: which texts a model cannot have understood, and which predictions rest on nothing that it read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fastinterp.evaluation.faithfulness import keep_tokens
from fastinterp.method.locations import class_index
from fastinterp.method.places import is_own
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.scripts import letters_by_script, scripts_of_words
from fastinterp.text.sentences import check_sentences
from fastinterp.text.tokenizer import TokenizedText
from fastinterp.text.vocabulary import PAD, UNKNOWN

WORST = 10
# Below this share of a vocabulary's words a script is not the vocabulary's, only met in it: a name, a quotation.
SCRIPT_SHARE = 0.01
# Of a text's letters: more of them in other scripts make it a text in another script.
OTHER_SCRIPT_SHARE = 0.5

KINDS = {
    "empty": "texts without a token, which get the class of padding; amount: their characters",
    "cut": "texts longer than the frame; amount: share of the tokens cut off",
    "unknown words": "texts with tokens that the vocabulary lacks; amount: their share",
    "dropped characters": "texts with letters, marks, digits or symbols in no token; amount: their share",
    "another script": "texts most of whose letters are of a script that the vocabulary hardly has; amount: their share",
    "rests on unknown words": "the class changes when they are left out, or nothing is left; amount: what it loses",
    "rests on padding": "the class is an empty text's, and its tokens make it no likelier; amount: how much less",
}


@dataclass(frozen=True)
class AuditedText:
    """A text that one of the audit's kinds counts.

    Attributes:
        row: its place among the texts, from 0.
        text: the text as it came.
        amount: how bad it is; see `KINDS`.
        predicted: name of the class that the model gives it.
    """

    row: int
    text: str
    amount: float
    predicted: str


@dataclass(frozen=True)
class AuditFinding:
    """The texts that one of `KINDS` counts.

    Attributes:
        count: how many there are.
        share: of all texts.
        accuracy: the model's accuracy on them; None without labels or without such texts.
        worst: at most ten of them, those with the largest amount first, ties in the order of the texts.
    """

    count: int
    share: float
    accuracy: float | None
    worst: tuple[AuditedText, ...]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        texts: how many there were.
        unknown_share: mean over the texts with tokens of the share of their tokens that the vocabulary lacks.
        scripts: those of the vocabulary, by the names that Unicode gives them, in alphabetical order.
        accuracy: on all texts; None without labels.
        findings: by the names of `KINDS`, in their order.
    """

    texts: int
    unknown_share: float
    scripts: tuple[str, ...]
    accuracy: float | None
    findings: dict[str, AuditFinding]

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists, strings and numbers, ready for JSON."""
        return {**asdict(self), "scripts": list(self.scripts)}


def audit(model: TextClassifier, texts: Iterable[str], labels: Sequence[int | str] | None = None) -> Audit:
    """Returns which texts the model cannot have understood, and which predictions rest on nothing that it read.

    A prediction rests on unknown words where another class is predicted when they are left out, or where the text has
    no other tokens. It rests on padding where it is the class that an empty text gets, with a probability no higher
    than an empty text's: its tokens together speak against the class, or there are none.

    Args:
        model: the classifier.
        texts: raw texts, in a list, a generator or a column of a data frame.
        labels: the class of each text, by name or index.

    Raises:
        TypeError: `texts` is a single string or a table, or holds something else than strings.
        ValueError: no texts, not one label for each, or a class that the model does not have.
    """
    listed = check_sentences(texts)
    if not listed:
        raise ValueError("texts: expected at least one text, got none")
    right = None if labels is None else _labels(model, labels, len(listed))
    # The empty text goes with them, so that it has a frame and special tokens as they have.
    read = model.read([*listed, ""])
    ids, empty = read.ids[:-1], read.ids[-1]
    *texts_read, _ = read.texts
    everything = _probabilities(model, read.ids)
    probabilities = everything[:-1]
    predicted = probabilities.argmax(dim=1)
    lengths = is_own(model, ids).sum(dim=1).tolist()
    unknown = (ids == UNKNOWN).sum(dim=1).tolist()
    scripts = scripts_of_words(model.words, SCRIPT_SHARE)
    amounts: dict[str, dict[int, float]] = {
        "empty": {row: float(len(listed[row])) for row in (ids == empty).all(dim=1).nonzero()[:, 0].tolist()},
        "cut": {
            row: 1 - model.length / len(text.tokens)
            for row, text in enumerate(texts_read)
            if len(text.tokens) > model.length
        },
        "unknown words": {row: count / lengths[row] for row, count in enumerate(unknown) if count},
        "dropped characters": _dropped(listed, texts_read),
        "another script": _other_scripts(listed, scripts),
        "rests on unknown words": _resting_on_unknown(model, ids, empty, probabilities),
        "rests on padding": _resting_on_padding(probabilities, everything[-1]),
    }
    correct = None if right is None else predicted == right
    shares = [count / length for count, length in zip(unknown, lengths, strict=True) if length]
    classes = [model.classes[label] for label in predicted.tolist()]
    return Audit(
        texts=len(listed),
        unknown_share=sum(shares) / len(shares) if shares else 0.0,
        scripts=tuple(sorted(scripts)),
        accuracy=None if correct is None else float(correct.float().mean()),
        findings={kind: _finding(found, listed, classes, correct) for kind, found in amounts.items()},
    )


def _labels(model: TextClassifier, labels: Sequence[int | str], count: int) -> Tensor:
    if len(labels) != count:
        raise ValueError(f"labels: expected {count}, one for each text, got {len(labels)}")
    return torch.tensor([class_index(model, "labels", label) for label in labels])


def _probabilities(model: TextClassifier, ids: Tensor) -> Tensor:
    return model.probabilities(model.class_scores(ids))


def _dropped(texts: Sequence[str], read: Sequence[TokenizedText]) -> dict[int, float]:
    found = {}
    for row, (raw, text) in enumerate(zip(texts, read, strict=True)):
        if text.dropped and (lost := sum(text.dropped_signs.values())):
            found[row] = lost / sum(not character.isspace() for character in raw)
    return found


def _other_scripts(texts: Sequence[str], scripts: frozenset[str]) -> dict[int, float]:
    found = {}
    for row, text in enumerate(texts):
        letters = letters_by_script(text)
        other = sum(count for script, count in letters.items() if script not in scripts)
        if other > OTHER_SCRIPT_SHARE * letters.total():
            found[row] = other / letters.total()
    return found


def _resting_on_unknown(model: TextClassifier, ids: Tensor, empty: Tensor, probabilities: Tensor) -> dict[int, float]:
    rows = (ids == UNKNOWN).any(dim=1).nonzero()[:, 0]
    left = keep_tokens(ids[rows], (ids[rows] != UNKNOWN) & (ids[rows] != PAD))
    without = _probabilities(model, left)
    classes = probabilities[rows].argmax(dim=1)
    rests = (without.argmax(dim=1) != classes) | (left == empty).all(dim=1)
    lost = (probabilities[rows] - without).gather(1, classes[:, None])[:, 0]
    return dict(zip(rows[rests].tolist(), lost[rests].tolist(), strict=True))


def _resting_on_padding(probabilities: Tensor, empty: Tensor) -> dict[int, float]:
    usual = int(empty.argmax())
    taken = float(empty[usual]) - probabilities[:, usual]
    # What rounding does to one text in different batches is no difference.
    rows = ((probabilities.argmax(dim=1) == usual) & (taken >= -1e-6)).nonzero()[:, 0].tolist()
    return {row: max(0.0, float(taken[row])) for row in rows}


def _finding(
    amounts: dict[int, float], texts: Sequence[str], predicted: Sequence[str], correct: Tensor | None
) -> AuditFinding:
    rows = list(amounts)
    worst = sorted(rows, key=lambda row: (-amounts[row], row))[:WORST]
    return AuditFinding(
        count=len(rows),
        share=len(rows) / len(texts),
        accuracy=None if correct is None or not rows else float(correct[rows].float().mean()),
        worst=tuple(AuditedText(row, texts[row], amounts[row], predicted[row]) for row in worst),
    )

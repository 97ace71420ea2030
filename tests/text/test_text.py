from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import ModelError, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's a GOOD film, isn't it?", ["It", "'s", "a", "GOOD", "film", ",", "is", "n't", "it", "?"]),
        ("we've (they'll) I'd", ["we", "'ve", "(", "they", "'ll", ")", "I", "'d"]),
        ("caf\u00e9 -- 3.5/5*", ["caf", "3", "5", "5"]),
        ("", []),
        (" \n\t", []),
        ("\u4e2d\u6587", []),
    ],
)
def test_tokenize_cuts_as_kim_does_but_keeps_the_case(text: str, tokens: list[str]):
    assert tokenize(text) == tokens


@given(st.text(max_size=80))
def test_tokenizing_tokens_again_changes_nothing(text: str):
    tokens = tokenize(text)
    assert tokenize(" ".join(tokens)) == tokens


def test_vocabulary_orders_by_frequency_then_alphabet():
    vocabulary = Vocabulary.build([["b", "a", "c"], ["c", "b"], ["<pad>"]])
    assert vocabulary.words == ("<pad>", "<unk>", "b", "c", "a")


def test_encode_pads_cuts_and_marks_unknown_words():
    vocabulary = Vocabulary(("<pad>", "<unk>", "a", "b"))
    ids = vocabulary.encode([["a", "z"], [], ["b", "b", "b", "a"]], 3)
    assert ids.tolist() == [[2, 1, 0], [0, 0, 0], [3, 3, 3]]
    assert ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a",), "expected to start with"),
        (("<pad>", "<unk>", "a", "a"), "'a' stands more than once"),
        (("<pad>", "<unk>", "a b"), "without white space"),
        (("<pad>", "<unk>", ""), "without white space"),
    ],
)
def test_vocabulary_refuses_broken_words(words: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


def test_vocabulary_survives_a_file(tmp_path):
    vocabulary = Vocabulary(("<pad>", "<unk>", "na\u00efve", "`"))
    vocabulary.save(tmp_path / "v.txt")
    assert Vocabulary.load(tmp_path / "v.txt") == vocabulary
    (tmp_path / "v.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.txt")

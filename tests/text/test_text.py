from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import ModelError, Vocabulary, tokenize
from fastinterp.text.kim import KimTokenizer

pytestmark = pytest.mark.filterwarnings("ignore::fastinterp.errors.LostTextWarning")


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


@pytest.mark.parametrize("apostrophe", "\u2019\u02bc\uff07\u2032\u00b4\u2018")
def test_a_typographic_apostrophe_is_an_apostrophe(apostrophe: str):
    for text in ("it isn't good", "I can't recommend this film", "they'll say we've won, I'd say it's so"):
        assert tokenize(text.replace("'", apostrophe)) == tokenize(text)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("it isn&#39;t good", "it isn't good"),
        ("it isn&rsquo;t &quot;good&quot;", "it isn't good"),
        ("it isn #39;t good, the players #39; film", "it isn't good, the players ' film"),
        ("he said #39;Go home #39;", "he said 'Go home '"),
        ("quot;good quot; &lt;b&gt;film&lt;/b&gt;", "good b film b"),
        ("\u201cgood\u201d \u2013 a \u2018fine film\u2019", "good a fine film'"),
        ("well\u2014made, so\u2011so", "well made, so so"),
        ("AT&T; R&D, film #39 of 40;", "AT T R D, film 39 of 40"),
    ],
)
def test_entities_and_typographic_characters_mean_what_they_stand_for(text: str, same_as: str):
    assert tokenize(text) == tokenize(same_as)


def test_what_is_dropped_is_counted():
    read = KimTokenizer().read("caf\u00e9 \u2013 a 'fine' film\u2026 \U0001f600\U0001f600 3/5.")
    assert read.dropped == {"\u00e9": 1, "-": 1, "\u2026": 1, "\U0001f600": 2, "/": 1, ".": 1}
    assert read.dropped_signs == {"\u00e9": 1, "\U0001f600": 2}


@given(st.text(max_size=60))
def test_every_character_is_in_a_token_or_counted(text: str):
    if "&" in text or ";" in text:  # an entity stands for another character
        return
    read = KimTokenizer().read(text)
    kept = sum(map(len, read.tokens))
    assert kept + sum(read.dropped.values()) == sum(not character.isspace() for character in text)


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

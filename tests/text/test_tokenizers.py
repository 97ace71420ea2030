"""Every tokenizer: its tokens, what it drops, and where each token stands in the raw text."""

from __future__ import annotations

import copy
import json
import pickle
import re
import time
import unicodedata
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastinterp import make_tokenizer
from fastinterp.errors import LostTextWarning
from fastinterp.text.choice import tokenizer_from_fields
from fastinterp.text.custom import CustomTokenizer
from fastinterp.text.kim import KimTokenizer
from fastinterp.text.tokenizer import TokenizedText
from fastinterp.text.unicode import UnicodeTokenizer

# What goes wrong first: marks, joiners, quotes, entities, jamo, spaces of all widths, signs that cannot be seen.
ODD = (
    "aZ'\u2019\u201c \u00a0\u202f\u3000\t\n\x1c\u0085.;&#39amp\u00e9e\u0301\u0308\u093f\u0915\u094d\u1112\u1161\u11ab"
    "\u0e44\u4e2d\u6587\uff0c\U0001f468\u200d\U0001f467\U0001f1e9\U0001f1ea\u2764\ufe0f\U0001f3fd\u200b\u200e\u00ad\ufeff\ud800"
    "\u0645\u064e"
)
TEXTS = st.text(max_size=40) | st.text(alphabet=ODD, max_size=40)


def pieces(text: str, read: TokenizedText) -> list[str]:
    return [text[begin:end] for begin, end in read.spans]


def check_spans(text: str, read: TokenizedText) -> None:
    """Spans are in order, inside the text, not empty, and no two share a character."""
    assert len(read.spans) == len(read.tokens)
    edges = [0, *(place for span in read.spans for place in span), len(text)]
    assert edges == sorted(edges)
    assert all(begin < end for begin, end in read.spans)


def uncovered(text: str, read: TokenizedText) -> dict[str, int]:
    covered = {place for begin, end in read.spans for place in range(begin, end)}
    rest = [character for place, character in enumerate(text) if place not in covered and not character.isspace()]
    return {character: rest.count(character) for character in rest}


@pytest.mark.filterwarnings("ignore::fastinterp.errors.LostTextWarning")
@given(TEXTS)
@example("quot;don #39;t quot; &amp;&nbsp;it&#8217;s &fjlig;ord &#1;")
def test_a_token_of_kim_is_cut_from_its_span(text: str):
    read = KimTokenizer().read(text)
    check_spans(text, read)
    for token, piece in zip(read.tokens, pieces(text, read), strict=True):
        if ";" not in piece:  # no entity in it: only apostrophes may be spelt otherwise
            assert re.fullmatch(re.sub("'", ".", re.escape(token)), piece)
        else:
            assert len(piece) > len(token)


@given(TEXTS)
@example("\u1112\u1161\u11ab \u1112\u1161\u11ab")
@example("'s n't isn\u2019t film's 'd'accord' N'T")
def test_every_character_of_a_text_is_in_a_token_of_unicode_or_counted(text: str):
    read = UnicodeTokenizer().read(text)
    check_spans(text, read)
    for token, piece in zip(read.tokens, pieces(text, read), strict=True):
        assert token.split() == [token]
        assert unicodedata.is_normalized("NFC", token)
        token.encode()  # no half of a surrogate pair
        if ";" not in piece:
            straight = re.sub("[\u2018\u2019\u201a\u201b]", "'", re.sub("[\u201c\u201d\u201e\u201f]", '"', piece))
            visible = re.sub("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]", "", straight)
            assert unicodedata.normalize("NFC", visible) == token
    if ";" not in text:
        assert uncovered(text, read) == read.dropped
        for character in read.dropped:  # nothing that anybody could see
            assert unicodedata.category(character) in ("Cc", "Cf", "Cs") or character in "\ufe0e\ufe0f"


@given(TEXTS)
def test_words_are_never_cut_at_a_mark(text: str):
    """Each token but the first begins where a reader's character does: never with a mark that belongs to the last."""
    read = UnicodeTokenizer().read(text)
    for begin, _ in read.spans:
        if begin > 0 and not text[begin - 1].isspace() and unicodedata.category(text[begin - 1]) not in ("Cc", "Cs"):
            assert unicodedata.category(text[begin]) not in ("Mn", "Me", "Mc") or ";" in text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("这部iPhone手机很好，《2D》", "这 部 iPhone 手 机 很 好 ， 《 2D 》"),
        ("Этот фильм — чудо!", "Этот фильм — чудо !"),
        ("م\u064fح\u064eم\u0651\u064eد رائع؟", "م\u064fح\u064eم\u0651\u064eد رائع ؟"),
        ("ह\u093fन\u094dद\u0940 फ\u093fल\u094dम।", "ह\u093fन\u094dद\u0940 फ\u093fल\u094dम ।"),
        ("Füße, na\u0308her „gut“", "Füße , näher \" gut \""),
        ("👨\u200d👩\u200d👧🇩🇪🇫🇷👍🏽👍1\ufe0f\u20e3", "👨\u200d👩\u200d👧 🇩🇪 🇫🇷 👍🏽 👍 1\ufe0f\u20e3"),
        ("It isn’t 3.5/5 -- IT'S a @user's #film!!", "It is n't 3.5 / 5 - - IT 'S a @ user 's # film ! !"),
        ("it 's n't we'd", "it 's n't we 'd"),
        ("カタカナです 한국어", "カタカナ で す 한국어"),
        ("R&amp;D &lt;b&gt; &quot;fine&quot; caf&eacute;", "R & D < b > \" fine \" café"),
        ("prix\u202f: 10\u00a0€ Donau\u00addampf\u200b\u200e!", "prix : 10 € Donaudampf !"),
        (" \n\t\u3000", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_unicode_reads_every_script(text: str, tokens: str):
    read = UnicodeTokenizer().read(text)
    assert " ".join(read.tokens) == unicodedata.normalize("NFC", tokens)
    check_spans(text, read)
    assert read.dropped_signs == {}


@pytest.mark.parametrize(
    "unit", ["a", "\u0301", "🇩🇪", "👨\u200d", "中", "'", "a.", "n't", "&amp;", "quot;", "\u200e", "\0"]
)
def test_a_long_text_of_one_thing_takes_time_in_proportion(unit: str):
    started = time.process_time()
    read = UnicodeTokenizer().read("x " + unit * 20_000)
    check_spans("x " + unit * 20_000, read)
    assert time.process_time() - started < 4  # flags took 20 s where each looked back at all before it


@pytest.mark.parametrize(
    "name", ["kim", "unicode", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Metaspace", "ByteLevel"]
)
def test_a_tokenizer_is_made_again_of_its_fields(name: str):
    tokenizer = make_tokenizer(name)
    again = tokenizer_from_fields(json.loads(json.dumps(tokenizer.to_fields())))
    assert again == tokenizer
    assert copy.deepcopy(tokenizer) == pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    text = "It isn't the \u201cbest\u201d film, is it?"
    assert again.read(text) == tokenizer.read(text)
    check_spans(text, tokenizer.read(text))
    assert make_tokenizer(tokenizer) is tokenizer


def test_a_pre_tokenizer_of_the_library_cuts_as_it_does_there():
    read = make_tokenizer({"type": "Punctuation", "behavior": "Isolated"}).read("good films, no?")
    assert read.tokens == ("good", "films", ",", "no", "?")  # the library leaves white space in; we cut there
    assert make_tokenizer("WhitespaceSplit").read("good films, no?").tokens == ("good", "films,", "no?")
    assert make_tokenizer("Metaspace").read("a film").tokens == ("\u2581a", "\u2581film")
    assert make_tokenizer("Metaspace").read("a film").spans == ((0, 1), (1, 6))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("kimm", "tokenizer: expected one of kim, unicode, BertPreTokenizer, .*Whitespace.*, got 'kimm'"),
        ("Split", "tokenizer: expected one of kim, unicode"),
        ({"type": "Nonsense"}, "pre_tokenizer: expected JSON of a pre-tokenizer of the library tokenizers, got"),
        ({"type": "Punctuation", "behavior": object()}, "tokenizer: expected what JSON knows"),
        (lambda text: text.split(), "tokenizer: expected a function with a name"),
    ],
)
def test_a_tokenizer_that_there_is_not_is_one_line(choice: object, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        make_tokenizer(choice)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [None, {}, {"name": "kim", "case": True}, {"name": "unicode"}, {"name": "custom", "function": 3}, {"name": "x"}],
)
def test_fields_of_no_tokenizer_are_one_line(fields: object):
    with pytest.raises(ValueError, match="tokenizer: expected name and settings of one, got"):
        tokenizer_from_fields(fields)


def test_something_else_is_no_tokenizer():
    with pytest.raises(TypeError, match="tokenizer: expected a name, a pre-tokenizer's JSON or a function, got 3"):
        make_tokenizer(3)


def by_pairs(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def lower_words(text: str) -> list[tuple[str, tuple[int, int]]]:
    return [(found[0].lower(), found.span()) for found in re.finditer(r"\w+", text)]


def test_a_function_of_ones_own_is_a_tokenizer():
    read = make_tokenizer(by_pairs).read("\u7535\u5f71  \u5f88\u597d")
    assert read == TokenizedText(("\u7535\u5f71", "\u5f88\u597d"), {}, ((0, 2), (4, 6)))
    read = make_tokenizer(lower_words).read("Good FILM!")
    assert read == TokenizedText(("good", "film"), {"!": 1}, ((0, 4), (5, 9)))
    assert make_tokenizer(lower_words).to_fields() == {"name": "custom", "function": "lower_words"}
    assert make_tokenizer(by_pairs) == make_tokenizer(by_pairs) != make_tokenizer(lower_words)
    assert copy.deepcopy(make_tokenizer(by_pairs)) == make_tokenizer(by_pairs)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["film", "good"], "got 'good', which does not stand behind character 9"),
        (["GOOD"], "expected tokens in the order of the text from cut, or pairs"),
        (["good film"], "expected tokens without white space from cut, got 'good film'"),
        ([3], "expected tokens, or pairs of a token and its \\(begin, end\\) in order, from cut, got 3"),
        ([("good", (0, 4)), ("odd", (2, 4))], "in order, from cut, got"),
        ([("good", (0, 400))], "in order, from cut, got"),
        ([("good", (4, 4))], "in order, from cut, got"),
    ],
)
def test_what_a_function_may_not_return_is_one_line(returned: list[object], message: str):
    with pytest.raises(ValueError, match=message):
        CustomTokenizer("cut", lambda text: returned).read("good film")


def test_a_text_that_loses_much_is_warned_of_once():
    tokenizer = KimTokenizer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer.read(
            "a caf\u00e9 of ... ---- !!!! [[[[[ ascii"
        )  # punctuation counts for nothing, one letter is little
        tokenizer.read("\u201cquoted\u201d \u2013 \u2019t")
        assert not caught
        tokenizer.read("\u7535\u5f71 film")
        tokenizer.read("\u7535\u5f71")
    (warning,) = caught
    assert warning.category is LostTextWarning
    assert "kim reads ASCII alone and dropped 2 of 6 characters of '\u7535\u5f71 film'" in str(warning.message)

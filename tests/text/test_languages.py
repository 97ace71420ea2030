"""Texts in many languages, all the way: tokens, vocabulary, vectors, training, and what is said of each."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from commands import run

import fastinterp
from fastinterp import ConvTextModel, ModelConfig, TrainingConfig, Vocabulary, interpret, load_vectors, make_tokenizer
from fastinterp.data.splits import Corpus, TextDataset, split

# Of each language: frames, words of praise, words of blame. They stand for the texts of a user.
# fmt: off
LANGUAGES = {
    "Chinese": (
        ("这部电影很{}。", "我觉得它{}！", "演员{},剧情也是"),
        ("精彩", "感人", "好看"),
        ("无聊", "难看", "拖沓"),
    ),
    "Russian": (
        ("Этот фильм {}.", "Актёры — {}!", "«{}», сказал критик"),
        ("чудесный", "смешной"),
        ("скучный", "пустой"),
    ),
    "Arabic": (("هذا الفيلم {}.", "التمثيل {}؟", "قِصَّةٌ {} جدًا"), ("رائع", "مُمتِع"), ("مُمِلّ", "ضعيف")),
    "Hindi": (("यह फ़िल्म {} है।", "कहानी {} थी", "अभिनय {}!"), ("शानदार", "बढ़िया"), ("उबाऊ", "ख़राब")),
    "German": (("Der Film ist {}.", "„{}“, fand ich", "Füße hoch: {}!"), ("großartig", "schön"), ("öde", "gräßlich")),
    "English": (
        ("It’s {} 👨‍👩‍👧!", "I don’t lie: {} 🇩🇪", "“{}” 👍🏽"),
        ("great 😀", "fun ❤️"),
        ("dull 😡", "slow 👎🏿"),
    ),
}
# fmt: on


def corpus_of(language: str) -> Corpus:
    frames, praise, blame = LANGUAGES[language]
    rows = [
        (frame.format(word), label)
        for label, words in enumerate((blame, praise))
        for frame, word in product(frames, words)
    ]
    texts, labels = zip(*(rows * 6), strict=True)
    return split(TextDataset(texts, labels, ("blame", "praise")), share=0.2)


@pytest.fixture(scope="module", params=LANGUAGES)
def trained(request: pytest.FixtureRequest) -> tuple[ConvTextModel, Corpus]:
    corpus = corpus_of(request.param)
    tokenizer = make_tokenizer("unicode")
    tokens = [tokenizer.read(text).tokens for text in corpus.train.texts]
    vocabulary = Vocabulary.build(tokens)
    shape = ModelConfig(("blame", "praise"), 12, (12,), (3,), embedding_dimension=16, tokenizer=tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ConvTextModel(shape, vocabulary)
    settings = TrainingConfig(learning_rate=0.01, batch_size=16, epochs=25, patience=25, word_dropout=0.1, averaging=0)
    fastinterp.train_model(model, corpus.train, settings)
    return model, corpus


def test_a_text_of_any_language_is_learnt_and_explained(trained: tuple[ConvTextModel, Corpus]):
    model, corpus = trained
    assert fastinterp.evaluate.accuracy(model, corpus.test) == 1.0
    texts = list(dict.fromkeys(corpus.test.texts))
    for text, result in zip(texts, interpret(model, texts, locations=2, neighbors=2), strict=True):
        assert not result.unknown
        assert not result.dropped_signs
        assert result.locations
        for location in result.locations:
            assert len(location.spans) == len(location.tokens) == len(location.token_indices)
            for token, (begin, end) in zip(location.tokens, location.spans, strict=True):
                assert model.tokenizer.read(text[begin:end]).tokens == (token,)
            assert all(word in model.words for word, _ in location.neighbors)
        assert json.loads(json.dumps(result.to_dict()))["locations"][0]["spans"]


def test_the_command_line_writes_it_readably(trained: tuple[ConvTextModel, Corpus], tmp_path: Path):
    model, corpus = trained
    fastinterp.save(model, tmp_path / "m")
    text = corpus.test.texts[0]
    result = run("interpret", str(tmp_path / "m"), text, "--steps", "10", "--locations", "1", "--neighbors", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == list(model.read([text]).texts[0].tokens)
    assert "not read" not in result.stdout
    assert "\\u" not in result.stdout
    (row,) = run(
        "interpret", str(tmp_path / "m"), text, "--json", "--steps", "1", "--locations", "1"
    ).stdout.splitlines()
    assert text in row.replace('\\"', '"')


def test_vectors_of_a_file_are_found_for_words_of_any_script(tmp_path: Path):
    words = ["电", "फ़िल्म", "مُمِلّ", "чудесный", "öde", "👨‍👩‍👧", "n't"]
    path = tmp_path / "vectors.txt"
    lines = [f"{word} {' '.join(str(i + j / 7) for j in range(4))}" for i, word in enumerate(words)]
    path.write_text(f"{len(words)} 4\n" + "\n".join(lines) + "\n", encoding="utf-8")
    read = [token for word in words for token in make_tokenizer("unicode").read(word).tokens]
    vocabulary = Vocabulary.build([read])
    embedding = fastinterp.embed_vocabulary(vocabulary, load_vectors(path))
    assert len(vocabulary) == len(words) + 2
    assert embedding.coverage == 1.0

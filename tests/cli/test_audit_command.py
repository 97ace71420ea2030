"""fastinterp audit, on tables with labels and on lines without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import error_line, run
from conftest import small_model
from rich.cells import cell_len

from fastinterp import audit, load_model, save
from fastinterp.evaluation.audit import KINDS


@pytest.fixture
def saved(tmp_path: Path) -> str:
    save(small_model(), tmp_path / "model")
    return str(tmp_path / "model")


def test_a_table_is_audited_with_its_labels(saved: str, tmp_path: Path):
    table = tmp_path / "table.csv"
    table.write_text("text,label\ngood film,pos\n电影好看,neg\nzz [bold] yy,neg\n", encoding="utf-8")
    result = run("audit", saved, str(table), "--json")
    found = json.loads(result.stdout)
    with pytest.warns(match="kim reads ASCII alone"):
        expected = audit(load_model(saved), ["good film", "电影好看", "zz [bold] yy"], ["pos", "neg", "neg"])
    assert found == json.loads(json.dumps(expected.to_dict()))
    assert "Warning: tokenizer: kim reads ASCII alone and dropped 4 of 4 characters of '电影好看'" in result.stderr

    shown = run("audit", saved, str(table)).stdout
    assert "3 texts, accuracy " in shown
    for kind in KINDS:
        assert kind in shown
    assert "zz [bold] yy" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("empty  ")]
    assert line.split()[1:3] == ["1", "33.3%"]


def test_lines_are_audited_without_labels(saved: str, tmp_path: Path):
    (tmp_path / "lines.txt").write_text("good film\n\n" + "very long " * 100 + "\n", encoding="utf-8")
    shown = run("audit", saved, str(tmp_path / "lines.txt")).stdout
    assert "3 texts\n" in shown
    assert "accuracy" not in shown
    assert "scripts of the vocabulary: LATIN" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_a_named_corpus_is_audited_by_its_test_part(saved: str, shared_data: Path):
    # The classes of the corpus are not the model's: its texts were read, and no model can be audited by them.
    assert "labels: expected one of neg, pos, got 'negative'" in error_line(run("audit", saved, "mr"))


def test_wide_characters_stay_in_their_columns(saved: str, tmp_path: Path):
    (tmp_path / "lines.txt").write_text("这部电影很好看，" * 20 + "\n", encoding="utf-8")
    shown = run("audit", saved, str(tmp_path / "lines.txt")).stdout.splitlines()
    (row, *_) = [line for line in shown if "电影" in line]
    assert cell_len(row.rstrip()) <= 80
    assert row.rstrip().endswith("…")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lines.txt", b"", "holds no texts"),
        ("lines.txt", b"good\n\xff\n", "line 2: expected UTF-8"),
        ("missing.txt", None, "missing.txt cannot be read"),
        ("missing.csv", None, "missing.csv"),
        ("lines.md", b"good\n", "expected one of mr, ag_news, snippets or a .csv, .tsv or .jsonl file"),
        ("table.csv", b"text,label\ngood,fine\n", "table.csv, line 2"),
    ],
)
def test_what_cannot_be_audited_is_one_line(saved: str, tmp_path: Path, name: str, content: bytes | None, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in error_line(run("audit", saved, str(tmp_path / name)))

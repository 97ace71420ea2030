"""fastinterp train and evaluate on tables that people have, good and bad."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import FAST, FASTEST, PROGRAM, SMALL, error_line, run, run_process

from fastinterp import WordVectors, load_model
from fastinterp.cli import workflow
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.models.storage import load_metrics

QUICK = [*SMALL, "--epochs", "1"]


def three_classes(path: Path, rows: int = 60) -> Path:
    words = {"good": "pos", "bad": "neg", "plain": "neu"}
    lines = [f"a {word} film number x{i % 7},{label}" for i in range(rows // 3) for word, label in words.items()]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def test_evaluate_measures_the_held_out_tenth_of_the_training_data_and_every_row_of_other_data(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    assert run("train", str(table), "--output", str(tmp_path / "m"), *QUICK).exit_code == 0
    same = json.loads(run("evaluate", str(tmp_path / "m"), str(table), *FASTEST, "--json").stdout)
    assert same["sentences"] == 6
    assert "held-out tenth" in same["measured_on"]
    assert same["accuracy"] == load_metrics(tmp_path / "m")["test_accuracy"]

    copy = shutil.copy(table, tmp_path / "renamed.csv")
    assert json.loads(run("evaluate", str(tmp_path / "m"), str(copy), *FASTEST, "--json").stdout)["sentences"] == 6

    two = tmp_path / "two.csv"
    two.write_text("".join(line for line in table.open() if not line.endswith(",neu\n")))
    other = json.loads(run("evaluate", str(tmp_path / "m"), str(two), *FASTEST, "--json").stdout)
    assert other["sentences"] == other["explained"] == 40
    assert other["trained_on"] > 30
    assert other["measured_on"] == f"every row of {two}, 40 sentences"
    shown = run("evaluate", str(tmp_path / "m"), str(two), *FASTEST).stdout
    assert "every row of" in shown
    assert f"The model was trained on {other['trained_on']} of these 40 texts" in shown

    new = tmp_path / "new.csv"
    new.write_text("text,label\na good new film,pos\na bad new plot,neg\na plain thing,neu\n")
    asked = ("evaluate", str(tmp_path / "m"), str(new), *FASTEST)
    assert "was trained on" not in run(*asked).stdout
    assert json.loads(run(*asked, "--json").stdout)["trained_on"] == 0


def test_evaluate_shows_every_control_where_all_are_asked_for(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    assert run("train", str(table), "--output", str(tmp_path / "m"), *QUICK).exit_code == 0
    few = run("evaluate", str(tmp_path / "m"), str(table), *FAST).stdout
    shown = run("evaluate", str(tmp_path / "m"), str(table), *FAST, "--all").stdout
    for name in (
        "unsalient: points to",
        "untrained: stands out by",
        "points to, no L2",
        "inversion",
        "ranking: contributions",
    ):
        assert name not in few
        assert name in shown
    assert max(map(len, shown.splitlines())) <= 100
    measured = json.loads(run("evaluate", str(tmp_path / "m"), str(table), *FAST, "--all", "--json").stdout)
    variant = next(each for each in measured["answers"] if each["answer"] == "points to, another start")
    assert {"value", "low", "high", "count"} == variant["agreement"].keys()


def test_evaluate_refuses_a_label_that_the_model_does_not_have(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    run("train", str(table), "--output", str(tmp_path / "m"), *QUICK)
    (tmp_path / "other.csv").write_text("text,label\na film,pos\na plot,superb\n")
    line = error_line(run("evaluate", str(tmp_path / "m"), str(tmp_path / "other.csv"), *FASTEST))
    assert "other.csv, line 3" in line
    assert "'superb'" in line


def test_a_rate_that_cannot_be_measured_is_null_in_json(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    run("train", str(table), "--output", str(tmp_path / "m"), *QUICK, "--tokenizer", "kim")
    (tmp_path / "chinese.csv").write_text("text,label\n\u7535\u5f71,pos\n\u5f88\u597d,neg\n", encoding="utf-8")
    result = run("evaluate", str(tmp_path / "m"), str(tmp_path / "chinese.csv"), *FASTEST, "--json")
    measured = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert measured["matching_rate"] is None
    assert measured["sentences"] == 2
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("Warning")]
    assert "kim reads ASCII alone and dropped 2 of 2 characters of" in warning
    shown = run("evaluate", str(tmp_path / "m"), str(tmp_path / "chinese.csv"), *FASTEST)
    assert "no sentence with a token" in shown.stdout


@pytest.mark.parametrize(
    ("tokenizer", "texts"),
    [
        ("kim", ("\u7535\u5f71", "\u5f88\u597d")),
        ("kim", ("\U0001f621", "\U0001f600\U0001f44d")),
        ("kim", ("...", "-")),
        ("unicode", ("\u200b", "\u200e\u200f")),
    ],
)
def test_texts_without_tokens_are_refused_before_training(tmp_path: Path, tokenizer: str, texts: tuple[str, str]):
    rows = [f"{texts[0]},neg\n{texts[1]},pos\n"] * 30
    (tmp_path / "table.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    arguments = ["--output", str(tmp_path / "m"), *QUICK, "--tokenizer", tokenizer]
    line = error_line(run("train", str(tmp_path / "table.csv"), *arguments))
    assert "texts to train have no token" in line
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("texts", [("这部电影很无聊", "好看"), ("😡", "😀👍"), ("скучно", "чудесный фильм")])
def test_a_table_in_any_script_is_learnt_from_and_explained(tmp_path: Path, texts: tuple[str, str]):
    rows = [f"{texts[0]},neg\n{texts[1]},pos\n"] * 30
    (tmp_path / "table.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    trained = run("train", str(tmp_path / "table.csv"), "--output", str(tmp_path / "m"), *QUICK)
    assert trained.exit_code == 0, trained.output
    shown = run("interpret", str(tmp_path / "m"), texts[1], *FASTEST)
    assert shown.exit_code == 0
    assert "location" in shown.stdout
    assert texts[1][0] in shown.stdout
    assert "Warning" not in trained.stderr + shown.stderr


@pytest.mark.parametrize(("words", "origin"), [(("a", "film", "number"), DEFAULT_VECTORS), (("电", "影"), "corpus")])
def test_default_vectors_that_know_few_tokens_give_way_to_the_corpus_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], origin: str
):
    vectors = WordVectors({word: row for row, word in enumerate(words)}, np.eye(3, 5, dtype=np.float32))
    monkeypatch.setattr(workflow, "load_vectors", lambda source: vectors)
    table = three_classes(tmp_path / "three.csv")
    shape = [option for option in QUICK if option not in ("--vectors", "corpus")]
    result = run("train", str(table), "--output", str(tmp_path / "m"), *shape)
    assert result.exit_code == 0, result.output
    assert load_metrics(tmp_path / "m")["vectors"] == origin
    said = "en_core_web_md has vectors for 0% of the tokens. Learning word vectors from the corpus instead."
    assert (said in result.stderr) == (origin == "corpus")
    # Vectors that were asked for by name are taken whatever they know.
    result = run("train", str(table), "--output", str(tmp_path / "m"), *shape, "--vectors", "mine")
    assert load_metrics(tmp_path / "m")["vectors"] == "mine"


def test_a_tokenizer_that_there_is_not_is_one_line(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    line = error_line(run("train", str(table), "--output", str(tmp_path / "m"), *QUICK, "--tokenizer", "kimm"))
    assert line.startswith("Error: tokenizer: expected one of kim, unicode, BertPreTokenizer")
    for given, expected in ((None, "unicode"), ("kim", "kim"), ("Whitespace", "unicode")):
        options = [] if given is None else ["--tokenizer", given]
        assert run("train", str(table), "--output", str(tmp_path / "m"), *QUICK, *options).exit_code == 0
        assert json.loads((tmp_path / "m" / "config.json").read_text())["tokenizer"]["name"] == expected


def test_some_texts_without_tokens_are_said(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    table.write_text(table.read_text() + "...,pos\n...,neg\n...,neu\n")
    result = run("train", str(table), "--output", str(tmp_path / "m"), *QUICK, "--tokenizer", "kim")
    assert result.exit_code == 0
    assert "texts to train have no token, such as '...'" in result.stderr


def test_training_that_diverges_is_one_line_and_saves_nothing(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv")
    arguments = ["--output", str(tmp_path / "m"), *SMALL, "--epochs", "3", "--learning-rate", "1e30"]
    line = error_line(run("train", str(table), *arguments))
    assert "training: the loss became" in line
    assert "learning_rate below 1e+30" in line
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "epochs: expected at least 1, got 0"),
        ("--length", "0", "length: expected"),
        ("--patience", "0", "patience: expected at least 1, got 0"),
        ("--batch-size", "0", "batch_size: expected at least 1, got 0"),
        ("--learning-rate", "0", "learning_rate: expected more than 0, got 0"),
        ("--learning-rate", "nan", "learning_rate: expected a finite number, got nan"),
        ("--channels", "", "channels: expected integers separated by commas, got ''"),
        ("--channels", "0", "channels: expected"),
        ("--kernel-sizes", "3,", "kernel_sizes: expected integers separated by commas"),
        ("--seed", "-1", "seed: expected 0 to"),
    ],
)
def test_an_option_is_checked_as_it_was_given(tmp_path: Path, option: str, value: str, message: str):
    table = three_classes(tmp_path / "three.csv")
    small = [part for part in SMALL if option != "--length" or part not in ("--length", "8")]
    result = run("train", str(table), "--output", str(tmp_path / "m"), *small, option, value)
    assert message in error_line(result)
    assert not (tmp_path / "m").exists()


def test_the_frame_of_a_file_holds_nearly_all_of_its_texts(tmp_path: Path):
    """And the texts that it cuts are counted; a file is trained faster than the paper's corpora."""
    table = tmp_path / "long.csv"
    rows = [
        ("good" if i % 2 else "bad", " ".join(["dull", "fine", "film"][(i + j) % 3] for j in range(70)))
        for i in range(200)
    ]
    rows[5] = ("good", " ".join(["fine"] * 600))
    table.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in rows))
    small = ["--vectors", "corpus", "--channels", "4", "--epochs", "1"]
    result = run("train", str(table), "--output", str(tmp_path / "m"), *small)
    assert result.exit_code == 0, result.stderr
    assert load_model(tmp_path / "m").config.length == 70
    assert "1 of 200 texts are cut to 70 tokens; --length changes it" in " ".join(result.stderr.split())
    assert load_metrics(tmp_path / "m")["training"]["learning_rate"] == 1e-3


def test_words_too_rare_to_learn_are_read_as_unknown_and_counted(tmp_path: Path):
    table = tmp_path / "rare.csv"
    rows = [("good", f"a fine film word{i}") if i % 2 else ("bad", "a dull film twice twice") for i in range(60)]
    rows[0] = ("bad", "a dull film twice")
    table.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in rows))
    small = ["--channels", "4", "--epochs", "1", "--vectors", "corpus"]
    result = run("train", str(table), "--output", str(tmp_path / "m"), *small)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "30 of 35 words stand fewer than 3 times and are read as unknown" in said
    assert set(load_model(tmp_path / "m").words[2:]) == {"a", "fine", "dull", "film", "twice"}
    few = tmp_path / "few.csv"
    few.write_text("label,text\n" + "".join(f"{'ab'[i % 2]},one{i} two{i} three{i}\n" for i in range(30)))
    result = run("train", str(few), "--output", str(tmp_path / "few"), *small)
    assert "fewer than" not in result.stderr
    assert len(load_model(tmp_path / "few").words) == 2 + 90


def test_the_classes_are_listed_and_those_that_may_be_the_same_are_named(tmp_path: Path):
    table = tmp_path / "case.csv"
    rows = [(("good", "bad", "Good")[i % 3], "a fine film") for i in range(60)]
    table.write_text("label,text\n" + "".join(f"{label},{text}\n" for label, text in rows))
    result = run(
        "train", str(table), "--output", str(tmp_path / "m"), "--channels", "4", "--epochs", "1", "--vectors", "corpus"
    )
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert (
        "3 classes: Good 18, bad 18, good 18; another class differs from 'Good' by upper and lower case alone" in said
    )


KIM = ["--preset", "kim", "--vectors", "corpus", "--length", "8", "--epochs", "1"]


@pytest.mark.parametrize("static", [[], ["--static"]])
def test_kims_network_is_trained_and_each_width_explained(tmp_path: Path, static: list[str]):
    table = three_classes(tmp_path / "three.csv")
    result = run("train", str(table), "--output", str(tmp_path / "m"), *KIM, *static, "--channels", "6,5,4")
    assert result.exit_code == 0, result.stderr
    config = load_model(tmp_path / "m").config
    assert (config.branches, config.channels, config.kernel_sizes, config.dropout) == (True, (6, 5, 4), (3, 4, 5), 0.5)
    training = load_metrics(tmp_path / "m")["training"]
    assert (training["static"], training["batch_size"]) == (bool(static), 50)
    for layer in ("0", "1", "2"):
        shown = run("interpret", str(tmp_path / "m"), *FASTEST, "--layer", layer, "a good film")
        for answer in ("sees", "points to", "stands out by", "fires alike on"):
            assert answer in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channels", "6,5"], "kernel_sizes: expected 2 values, one per layer, got 3"),
        (["--kernel-sizes", "3,4"], "kernel_sizes: expected 3 values, one per layer, got 2"),
        (["--kernel-sizes", "3,4,0"], "kernel_sizes: expected at least 1, got 0"),
        (["--preset", "lee"], "Invalid value for '--preset': 'lee' is not one of 'mr', 'ag_news', 'kim', 'table'."),
    ],
)
def test_widths_that_do_not_fit_are_one_line(tmp_path: Path, options: list[str], message: str):
    table = three_classes(tmp_path / "three.csv")
    result = run("train", str(table), "--output", str(tmp_path / "m"), *KIM, *options)
    assert message in error_line(result)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("length", ["2", "3"])
def test_a_short_frame_is_indexed_too(tmp_path: Path, length: str):
    table = three_classes(tmp_path / "three.csv")
    result = run("train", str(table), "--output", str(tmp_path / "m"), *QUICK, "--length", length)
    assert result.exit_code == 0, result.stderr
    shown = run("interpret", str(tmp_path / "m"), *FASTEST, "a good film")
    assert "fires alike on" in shown.stdout


def test_paths_and_labels_are_printed_as_they_are(tmp_path: Path):
    rows = "".join(f"the plot was great {i},[red]\nthe plot was dull {i},:bomb:\n" for i in range(20))
    (tmp_path / "table.csv").write_text("text,label\n" + rows)
    folder = tmp_path / "run[v2]" / "x[" / "m:smile:"
    result = run("train", str(tmp_path / "table.csv"), "--output", str(folder), *QUICK)
    assert result.exit_code == 0, result.output
    assert f"model in {folder}" in result.stderr.replace("\n", "")
    shown = run("interpret", str(folder), *FASTEST, "the plot was great").stdout
    assert "[red] with probability" in shown or ":bomb: with probability" in shown
    missing = error_line(run("train", str(tmp_path / "table.csv"), "--output", "o", "--vectors", "[/a].txt"))
    assert "[/a].txt" in missing


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything, and setpriv is missing"
)
@pytest.mark.parametrize("what", ["data", "model", "output", "data folder"])
def test_a_folder_without_permission_is_one_line(tmp_path: Path, what: str):
    table = three_classes(tmp_path / "three.csv")
    locked = tmp_path / "locked"
    locked.mkdir()
    shutil.copy(table, locked / "three.csv")
    commands = {
        "data": ["train", str(locked / "three.csv"), "--output", str(tmp_path / "m"), *QUICK],
        "model": ["interpret", str(locked / "m"), "x"],
        "output": ["train", str(table), "--output", str(locked / "m"), *QUICK],
        "data folder": ["train", "mr", "--output", str(tmp_path / "m"), *QUICK],
    }
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    locked.chmod(0)
    try:
        finished = subprocess.run(
            [*unprivileged, PROGRAM, *commands[what]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "FASTINTERP_DATA_DIR": str(locked), "FASTINTERP_CACHE_DIR": str(tmp_path / "cache")},
        )
    finally:
        locked.chmod(0o700)
    assert "Permission denied" in error_line(finished)


@pytest.mark.parametrize("what", ["data", "model", "output", "vectors"])
def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, what: str):
    table, long = three_classes(tmp_path / "three.csv"), "a" * 300
    commands = {
        "data": ["train", f"{long}.csv", "--output", str(tmp_path / "m"), *QUICK],
        "model": ["interpret", long, "x"],
        "output": ["train", str(table), "--output", str(tmp_path / long), *QUICK],
        "vectors": ["train", str(table), "--output", str(tmp_path / "m"), *QUICK, "--vectors", f"{long}.txt"],
    }
    assert error_line(run(*commands[what]))


def test_a_model_trained_on_thousands_of_rows_explains_them_all(tmp_path: Path):
    table = three_classes(tmp_path / "three.csv", rows=3000)
    assert run_process("train", str(table), "--output", str(tmp_path / "m"), *QUICK).returncode == 0
    evaluated = run_process("evaluate", str(tmp_path / "m"), str(table), *FAST, "--json")
    assert json.loads(evaluated.stdout)["sentences"] == 300
    texts = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()[1:]]
    explained = run_process("interpret", str(tmp_path / "m"), "--json", *FASTEST, given="\n".join(texts))
    assert [json.loads(line)["text"] for line in explained.stdout.splitlines()] == texts
    assert load_model(tmp_path / "m").classes == ("neg", "neu", "pos")

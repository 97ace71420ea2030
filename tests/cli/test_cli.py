"""The command line as a whole: what every command shares, and expected failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import FAST, PROGRAM, SMALL, error_line, run, run_process
from conftest import small_model

from fastinterp import load_model, save
from fastinterp.models.storage import load_metrics


@pytest.fixture
def saved(tmp_path: Path) -> str:
    save(small_model(), tmp_path / "saved")
    return str(tmp_path / "saved")


def test_train_interpret_and_evaluate_as_real_processes(table: Path, tmp_path: Path):
    output = str(tmp_path / "trained")
    trained = run_process(
        "train",
        str(table),
        "--output",
        output,
        *SMALL,
        "--epochs",
        "30",
        "--learning-rate",
        "0.02",
        "--batch-size",
        "8",
    )
    assert trained.returncode == 0, trained.stderr
    assert "Test accuracy" in trained.stderr
    metrics = load_metrics(output)
    assert metrics["corpus"] == str(table)
    assert metrics["vectors"] == "corpus"
    assert len(metrics["training_losses"]) >= metrics["best_epoch"] >= 1

    shown = run_process("interpret", output, *FAST, "a good slow film", "dull")
    assert shown.returncode == 0, shown.stderr
    assert "a good slow film" in shown.stdout
    for answer in ("sees", "points to", "stands out by", "fires alike on"):
        assert answer in shown.stdout

    evaluated = run_process("evaluate", output, str(table), *FAST, "--json")
    measured = json.loads(evaluated.stdout)
    assert measured["sentences"] == 8
    assert measured["accuracy"] == metrics["test_accuracy"]
    assert measured["matched"] <= measured["explained"] == 8


def test_interpret_reads_arguments_a_file_and_standard_input(saved: str, tmp_path: Path):
    (tmp_path / "lines.txt").write_text("good film\n\nbad plot\n")
    results = [
        run("interpret", saved, *FAST, "--json", "good film", "", "bad plot"),
        run("interpret", saved, *FAST, "--json", "--file", str(tmp_path / "lines.txt")),
        run("interpret", saved, *FAST, "--json", given="good film\r\n\nbad plot\n"),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0]
    assert results[0].stdout == results[1].stdout == results[2].stdout
    rows = [json.loads(line) for line in results[0].stdout.splitlines()]
    assert [row["text"] for row in rows] == ["good film", "", "bad plot"]
    assert len(rows[0]["locations"][0]["neighbors"]) == 3


def test_interpret_says_what_the_model_did_not_see(saved: str):
    result = run("interpret", saved, *FAST, "[bold]zzz[/bold] good", "film " * 10, "")
    assert result.exit_code == 0
    assert "unknown to the model: bold, zzz" in result.stdout
    assert "cut after 9 tokens" in result.stdout
    assert "no tokens, so nothing to explain" in result.stdout


def test_evaluate_prints_both_measures(table: Path, tmp_path: Path):
    save(small_model(), tmp_path / "m")
    result = run("evaluate", str(tmp_path / "m"), str(table), *FAST)
    assert result.exit_code == 0
    assert "accuracy" in result.stdout
    for row in ("points to", "control: random words", "identified"):
        assert row in result.stdout


def test_info_reports_the_build():
    result = run("info")
    assert result.exit_code == 0
    for fact in ("fastinterp", "torch", "instruction set", "CUDA kernels", "cache folder"):
        assert fact in result.stdout


def bad_calls(tmp_path: Path, saved: str, table: Path) -> dict[str, tuple[list[str], str]]:
    (tmp_path / "file").write_text("")
    return {
        "no model": (["interpret", str(tmp_path / "none"), "x"], "not a model folder"),
        "layer": (["interpret", saved, "--layer", "7", "x"], "layer: expected 0 to 1"),
        "locations": (["interpret", saved, "--locations", "70", "x"], "locations: expected 1 to 9, got 70"),
        "steps": (["interpret", saved, "--steps", "-1", "x"], "steps: expected at least 0, got -1"),
        "column": (["train", str(table), "--text-column", "t", "--output", "o"], "no column 't'"),
        "data": (["train", "imdb", "--output", "o"], "expected one of mr, ag_news, snippets"),
        "channels": (
            ["train", str(table), "--channels", "a", "--output", "o"],
            "channels: expected integers",
        ),
        "kernels": (
            ["train", str(table), "--kernel-sizes", "3", "--output", "o"],
            "kernel_sizes: expected 3",
        ),
        "vectors": (
            ["train", str(table), "--vectors", "no.bin", "--output", str(tmp_path / "o")],
            "vectors: expected",
        ),
        "output": (
            ["train", str(table), "--output", str(tmp_path / "file" / "m")],
            "output: .* cannot be written",
        ),
        "classes": (["evaluate", saved, str(tmp_path / "other.csv")], "the label 'a' is none of the classes"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "no model",
        "layer",
        "locations",
        "steps",
        "column",
        "data",
        "channels",
        "kernels",
        "vectors",
        "output",
        "classes",
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, saved: str, table: Path, case: str):
    (tmp_path / "other.csv").write_text("text,label\n" + "x,a\ny,b\n" * 20)
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments, message = bad_calls(tmp_path, saved, table)[case]
    result = run(*arguments)
    assert re.search(message, error_line(result))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "file") == [n for n in before if n != "file"]


def test_an_unknown_option_is_exit_code_2():
    assert run("interpret", "--colour").exit_code == 2


def test_control_c_during_training_leaves_nothing(table: Path, tmp_path: Path):
    output = tmp_path / "run" / "trained"
    endless = ["--epochs", "1000000", "--patience", "1000000", "--learning-rate", "1e-9"]
    process = subprocess.Popen(
        [PROGRAM, "train", str(table), "--output", str(output), *SMALL, *endless],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A test run in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in process.stderr:
            if "texts to train" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert "Interrupted; no file was left half-written." in rest
    assert "Traceback" not in rest
    assert not output.exists()
    assert list(tmp_path.joinpath("run").iterdir()) == []


def test_a_closed_pipe_is_no_error(saved: str):
    lines = "good film\n" * 3000
    process = subprocess.Popen(
        f"'{PROGRAM}' interpret '{saved}' --steps 1 --json | head -n 1",
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, errors = process.communicate(lines, timeout=60)
    assert len(out.splitlines()) == 1
    assert "Traceback" not in errors


def test_a_trained_model_loads_in_python(table: Path, tmp_path: Path):
    result = run("train", str(table), "--output", str(tmp_path / "m"), *SMALL, "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "m").config.channels == (6, 4)

"""fastinterp interpret at the size people use it: thousands of lines, open pipes, every kind of screen."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands import FAST, FASTEST, PROGRAM, error_line, run, run_process
from conftest import small_model

from fastinterp import interpret, load_model, save
from fastinterp.method.interpretation import SENTENCES_AT_ONCE

MANY = 3 * SENTENCES_AT_ONCE + 77


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "saved"
    save(small_model(), folder)
    return str(folder)


def sentence(number: int) -> str:
    return f"good film {'dull ' * (number % 9)}x{number}"


@pytest.mark.parametrize("way", ["arguments", "file", "standard input"])
def test_every_one_of_thousands_of_lines_is_answered_in_order(saved: str, tmp_path: Path, way: str):
    lines = [sentence(number) for number in range(MANY)]
    text = "\n".join(lines) + "\n"
    if way == "arguments":
        result = run_process("interpret", saved, "--json", *FASTEST, *lines)
    elif way == "file":
        (tmp_path / "lines.txt").write_text(text)
        result = run_process("interpret", saved, "--json", *FASTEST, "--file", str(tmp_path / "lines.txt"))
    else:
        result = run_process("interpret", saved, "--json", *FASTEST, given=text)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == lines
    model = load_model(saved)
    again = interpret(model, lines[-3:], locations=1, neighbors=1)
    assert [row["label"] for row in rows[-3:]] == [each.label for each in again]


def test_thousands_of_lines_are_answered_for_people_too(saved: str):
    text = "".join(f"{sentence(number)}\n" for number in range(MANY))
    result = run_process("interpret", saved, *FASTEST, given=text)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("with probability") == MANY


def test_a_line_on_an_open_pipe_is_answered_at_once(saved: str):
    command = [PROGRAM, "interpret", saved, "--json", *FASTEST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for number in range(3):
            process.stdin.write(f"{sentence(number)}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == sentence(number)
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (b"good\n\nbad", ["good", "", "bad"]),
        (b"good\r\nbad\r\n", ["good", "bad"]),
        ("\ufeffgood\nna\u00efve \u2028 film\n".encode(), ["good", "na\u00efve \u2028 film"]),
        (b"", []),
        (b"good \x00 film\n", ["good \x00 film"]),
        (b"\n", [""]),
        (b"film " * 40_000, ["film " * 40_000]),
    ],
)
def test_a_line_ends_where_its_line_feed_is(saved: str, given: bytes, texts: list[str]):
    result = run("interpret", saved, "--json", *FASTEST, given=given)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["text"] for line in result.stdout.split("\n")[:-1]] == texts


def test_a_line_that_is_not_utf8_is_named_after_the_lines_before_it(saved: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"good\nfilm\nna\xefve\n")
    result = run("interpret", saved, "--json", *FASTEST, "--file", str(path))
    assert f"{path}, line 3: expected UTF-8" in error_line(result)
    assert len(result.stdout.splitlines()) == 2


def test_no_sentences_are_said_to_be_none(saved: str):
    result = run("interpret", saved, given="")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No sentences came in." in result.stderr


def test_a_wrong_option_is_refused_before_a_sentence_is_waited_for(saved: str):
    command = [PROGRAM, "interpret", saved, "--layer", "7"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "layer: expected 0 to 1" in process.stderr.readline()
        assert process.wait(timeout=30) == 2


@pytest.mark.parametrize("columns", ["0", "1", "40", "200", "x"])
def test_no_width_of_a_terminal_loses_a_word(saved: str, columns: str):
    text = "the good film , a dull plot"
    result = run_process("interpret", saved, *FAST, text, environment={"COLUMNS": columns})
    assert result.returncode == 0, result.stderr
    words = result.stdout.replace(",", " ").split()
    assert "\u2026" not in result.stdout
    for location in interpret(load_model(saved), [text], locations=2, neighbors=3)[0].locations:
        assert set(location.tokens) - {","} <= set(words)


def test_an_ascii_locale_gets_escapes_and_json_that_is_json(saved: str):
    ascii_locale = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    text = "good na\u00efve \U0001f600 film".encode()
    shown = run_process("interpret", saved, *FASTEST, given=text, environment=ascii_locale)
    assert shown.returncode == 0, shown.stderr
    assert "\\xef" in shown.stdout
    as_json = run_process("interpret", saved, "--json", *FASTEST, given=text, environment=ascii_locale)
    assert json.loads(as_json.stdout)["text"].encode() == text


def test_a_sentence_that_is_no_unicode_comes_out_as_json(saved: str):
    result = run_process("interpret", saved, "--json", *FASTEST, os.fsdecode(b"good \xff film"))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "good \udcff film"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_head_ends_the_command_without_an_error(saved: str, tmp_path: Path, form: list[str]):
    (tmp_path / "lines.txt").write_text("good film\n" * 20_000)
    command = f"'{PROGRAM}' interpret '{saved}' {' '.join([*form, *FASTEST])} --file '{tmp_path}/lines.txt'"
    script = f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert finished.stdout.splitlines()[-1] == "0"
    assert finished.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_is_one_line(saved: str, form: list[str]):
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [PROGRAM, "interpret", saved, *form, *FASTEST, "good film"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert finished.returncode == 2
    assert finished.stderr == "Error: input or output: No space left on device\n"


def test_another_class_and_some_answers_are_asked_for(saved: str):
    options = ["--answers", "points_to, contributions", "--target", "pos", "--versus", "neg", "--order", "absolute"]
    (row,) = [json.loads(run("interpret", saved, "--json", *FASTEST, *options, "good film").stdout)]
    assert (row["target"], row["versus"], row["order"]) == ("pos", "neg", "absolute")
    assert "expected one of neg, pos, got 'x'" in error_line(run("interpret", saved, "--target", "x", "good film"))


def test_dropped_characters_are_reported(saved: str):
    (row,) = [json.loads(run("interpret", saved, "--json", *FASTEST, "good. \u7535\u5f71 film").stdout)]
    assert row["dropped"] == {".": 1, "\u7535": 1, "\u5f71": 1}
    shown = run("interpret", saved, *FASTEST, "good. \u7535\u5f71 film", "\u7535\u5f71 film")
    assert "not read by the tokeniser: \u7535 \u5f71 (2 characters)" in shown.stdout
    (warning,) = shown.stderr.splitlines()  # once, however many texts lose so much
    assert warning.startswith("Warning: tokenizer: kim reads ASCII alone and dropped 2 of 11 characters of 'good. ")

"""Drawn command lines: no traceback, no hang, no changed file that is not ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run
from conftest import small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import save

NUMBERS = st.one_of(
    st.integers(-3, 12).map(str),
    st.sampled_from(["", "nan", "inf", "-inf", "1e400", "0.5", "1e-9", "9" * 30, "x", "\u0663", "1_000", " 1", "--"]),
)
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["good film", "[/a]", ":bomb:", "\x1b[31m", "\x00", "\udcff", "--json", "-", "a" * 5000]),
)
INTERPRETATION = ["layer", "locations", "neighbors", "steps", "l2-weight", "similarity-weight", "seed"]
CHOICES = {
    "--solver": ["adam", "ccp", "lbfgs"],
    "--objective": ["joint", "per-channel", ""],
    "--device": ["cpu", "cuda", "meta", "banana", "cuda:99"],
}


@st.composite
def options(draw: st.DrawFn, names: list[str]) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
    numbers = [part for name in chosen for part in (f"--{name}", draw(NUMBERS))]
    named = draw(st.lists(st.sampled_from(sorted(CHOICES)), unique=True, max_size=1))
    return numbers + [part for name in named for part in (name, draw(st.sampled_from(CHOICES[name])))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    save(small_model(), place / "model")
    (place / "thesis.txt").write_text("years of work")
    (place / "lines.txt").write_bytes(b"good film\nna\xefve\n")
    (place / "table.csv").write_text("text,label\n" + "a good film,pos\na dull plot,neg\n" * 12)
    return place


def ends_well(arguments: list[str], given_text: str | None = None) -> str:
    """Runs the command, which must succeed or fail in one line, and returns its output."""
    result = run(*arguments, given=given_text)
    assert result.exit_code in (0, 2), (arguments, result.output, result.exception)
    assert "Traceback" not in result.output
    if result.exit_code == 2:
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
        assert len(errors) == 1, (arguments, result.stderr)
        assert len(errors[0]) < 700
    return result.stdout


@given(st.lists(TEXTS, max_size=3), options(INTERPRETATION), st.booleans(), st.one_of(st.none(), TEXTS))
def test_interpret_ends_well(folder: Path, texts: list[str], chosen: list[str], as_json: bool, given_text: str | None):
    steps = [] if "--steps" in chosen else ["--steps", "2"]
    form = ["--json"] if as_json else []
    given_text = given_text.encode("utf-8", "replace").decode() if given_text else given_text
    out = ends_well(["interpret", str(folder / "model"), *steps, *form, *chosen, "--", *texts], given_text)
    if as_json:
        for line in out.split("\n")[:-1]:
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


SMALL_TRAINING = ["--channels", "4", "--kernel-sizes", "3", "--length", "6", "--vectors", "corpus", "--epochs", "1"]
TRAINING = ["length", "channels", "kernel-sizes", "epochs", "patience", "learning-rate", "batch-size", "seed"]
PATHS = ["table.csv", "thesis.txt", "model", "none.csv", ".", "lines.txt", "a" * 300, "", "\x00", "[/x].csv", "mr\n"]


@given(st.sampled_from(PATHS), st.sampled_from(PATHS), options(TRAINING))
def test_train_ends_well_and_touches_nothing_of_ours(folder: Path, data: str, output: str, chosen: list[str]):
    small = SMALL_TRAINING.copy()
    for name in [part for part in chosen if part.startswith("--") and part in small]:
        place = small.index(name)
        del small[place : place + 2]
    ends_well(["train", str(folder / data), "--output", str(folder / output), *small, *chosen])
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert (folder / "lines.txt").read_bytes() == b"good film\nna\xefve\n"
    assert (folder / "table.csv").read_text().count("\n") == 25


@given(st.sampled_from(PATHS), st.sampled_from(PATHS), options(INTERPRETATION))
def test_evaluate_ends_well(folder: Path, model: str, data: str, chosen: list[str]):
    steps = [] if "--steps" in chosen else ["--steps", "2"]
    ends_well(["evaluate", str(folder / model), str(folder / data), *steps, *chosen])


@given(st.lists(st.one_of(TEXTS, st.sampled_from(["demo", "train", "interpret", "--help", "--version"])), max_size=4))
def test_any_words_end_well(words: list[str]):
    if words and "demo" not in words:  # no word at all shows the help text, and the demo downloads
        ends_well(words)

"""fastinterp reproduce on a corpus in MR's format that is small enough for a test."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from commands import error_line, run

from fastinterp.models import config as shapes

SENTENCES = "6"


@pytest.fixture
def small_mr(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MR's files with a hundred sentences a class, and a preset that trains in a second."""
    draw = random.Random(0)
    nouns = ("film", "plot", "actor", "scene", "story", "end", "cast", "pace")
    folder = tmp_path / "data" / "mr"
    folder.mkdir(parents=True)
    for side, words in {"pos": ("good", "great", "fine"), "neg": ("bad", "dull", "poor")}.items():
        lines = [f"a {draw.choice(words)} {draw.choice(nouns)} with a {draw.choice(nouns)} {i} ." for i in range(100)]
        (folder / f"rt-polarity.{side}").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("FASTINTERP_DATA_DIR", str(folder.parent))
    monkeypatch.setitem(shapes._PRESETS, "mr", {"length": 10, "channels": (6, 4), "kernel_sizes": (5, 5)})
    return tmp_path


def reproduce(folder: Path, *options: str, seeds: str = "2"):
    arguments = ["--seeds", seeds, "--sentences", SENTENCES, "--vectors", "corpus", "--folder", str(folder / "kept")]
    return run("reproduce", "mr", *arguments, "-o", str(folder / "out.md"), *options)


def test_every_step_is_kept_and_a_second_run_computes_nothing(small_mr: Path):
    first = reproduce(small_mr, "--ablation", seeds="1")
    assert first.exit_code == 0, first.output
    report = (small_mr / "out.md").read_text()
    kept = {path: path.read_bytes() for path in (small_mr / "kept" / "mr").glob("*.json")}
    assert len(kept) == 1 + 2 + 1 + 3 * 2

    second = reproduce(small_mr, "--ablation", seeds="1")
    assert second.exit_code == 0
    assert second.stderr.count("kept from an earlier run") == len(kept)
    assert {path: path.read_bytes() for path in kept} == kept
    assert (small_mr / "out.md").read_text() == report

    for heading in ("## MR", "### Beside the paper", "### Answers, layer 2", "### Without our additions"):
        assert heading in report
    assert "| words (Table 1) | 18,160 |" in report
    assert "180 texts to train instead of 9,596" in report
    assert "probability 0.5" in report


def test_a_run_that_was_stopped_goes_on_with_the_step_that_is_missing(small_mr: Path):
    assert reproduce(small_mr, seeds="1").exit_code == 0
    folder, report = small_mr / "kept" / "mr", (small_mr / "out.md").read_text()
    (folder / "seed-0-layer-1.json").unlink()
    (folder / "seed-0-backgrounds.json").write_text('{"settings"')
    again = reproduce(small_mr, seeds="1")
    assert again.exit_code == 0
    assert again.stderr.count("kept from an earlier run") == 2
    assert "not a finished step" in again.stderr
    assert (small_mr / "out.md").read_text() == report  # the same figures come again


def test_other_settings_and_another_model_are_computed_anew(small_mr: Path):
    assert reproduce(small_mr, seeds="1").exit_code == 0
    folder = small_mr / "kept" / "mr"
    changed = reproduce(small_mr, "--sentences", "7,6", seeds="1")
    assert changed.stderr.count("kept from an earlier run") == 3
    assert json.loads((folder / "seed-0-layer-0.json").read_text())["settings"]["sentences"] == 7
    assert "On 7 of the 20 test sentences" in (small_mr / "out.md").read_text()

    trained = json.loads((folder / "seed-0.json").read_text())
    trained["result"]["fingerprint"] = "0" * 64
    (folder / "seed-0.json").write_text(json.dumps(trained))
    assert "not the model that was trained; delete" in error_line(reproduce(small_mr, seeds="1"))


def test_a_report_keeps_what_is_not_its_own(small_mr: Path):
    ours = "<!-- fastinterp reproduce mr: begin -->\nold\n<!-- fastinterp reproduce mr: end -->"
    (small_mr / "out.md").write_text(f"# Mine\n\n{ours}\n\nkept words\n")
    assert reproduce(small_mr, seeds="1").exit_code == 0
    report = (small_mr / "out.md").read_text()
    assert report.startswith("# Mine\n\n<!--")
    assert report.endswith("kept words\n")
    assert "\nold\n" not in report

    (small_mr / "out.md").write_text("<!-- fastinterp reproduce mr: begin -->\nno end\n")
    assert "out.md: expected <!--" in error_line(reproduce(small_mr, seeds="1"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0"), "seeds: expected at least 1, got 0"),
        (("--sentences", "1,2,3"), "sentences: expected one number or 2, got 3"),
        (("--sentences", "some"), "sentences: expected positive numbers, one a layer, got 'some'"),
        (("--sentences", "0"), "sentences: expected positive numbers, one a layer, got '0'"),
    ],
)
def test_a_wrong_option_is_one_line(small_mr: Path, options: tuple[str, ...], message: str):
    assert message in error_line(reproduce(small_mr, *options))
    assert not (small_mr / "kept" / "mr" / "seed-0").exists()

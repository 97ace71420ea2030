"""The examples run as they stand, in a process and a folder of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_model

from fastinterp import load_model, save

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, list[str]]:
    save(small_model(), tmp_path / "model")
    (tmp_path / "sentences.txt").write_text("the good film\n\na dull plot\n")
    return {
        "train_and_explain.py": [str(tmp_path / "trained")],
        "saliency_of_many_sentences.py": [str(tmp_path / "model"), str(tmp_path / "sentences.txt")],
        "operators_without_a_model.py": [],
        "chinese_by_words.py": [str(tmp_path / "trained")],
        "explain_your_own_module.py": [],
    }


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs(tmp_path: Path, arguments: dict[str, list[str]], name: str):
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments[name]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if name == "chinese_by_words.py" and importlib.util.find_spec("jieba") is None:
        assert finished.stderr == "This example needs jieba, a word segmenter for Chinese: pip install jieba\n"
        return
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) >= 3
    if name == "train_and_explain.py":
        assert load_model(tmp_path / "trained").config.classes == ("blame", "praise")
        assert "accuracy on held-out texts: 1.00" in finished.stdout
    if name == "chinese_by_words.py":
        assert "accuracy on held-out texts: 1.00" in finished.stdout
        assert "another script: 'Отличный фильм' (1.00)" in finished.stdout
        assert "sees '电影值得一看', characters 5 to 11" in finished.stdout

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from conftest import small_model

from fastinterp import ModelError, load_model, save
from fastinterp.evaluation.training_texts import TEXTS_FILE, save_training_texts, trained_on

TEXTS = ["good film", "bad plot !", "good film", "the dull actor"]


def test_texts_are_known_again_as_the_model_reads_them(tmp_path: Path):
    model = small_model()
    save(model, tmp_path, companions={TEXTS_FILE: functools.partial(save_training_texts, model, TEXTS)})
    loaded = load_model(tmp_path)
    asked = ["the  dull actor", "film good", "good film", "good film plot", "nowhere plot zzz", ""]
    assert trained_on(loaded, asked).tolist() == [True, False, True, False, False, False]
    assert loaded.companion(TEXTS_FILE).stat().st_size < 200  # eight bytes a text, and a header

    loaded.companion(TEXTS_FILE).write_bytes(b"no")
    with pytest.raises(ModelError, match="not a file of training texts"):
        trained_on(loaded, asked)


def test_an_older_model_says_nothing(tmp_path: Path):
    save(small_model(), tmp_path)
    assert trained_on(load_model(tmp_path), TEXTS) is None
    assert trained_on(small_model(), TEXTS) is None

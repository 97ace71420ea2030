"""A model is saved with its tokenizer: by name and settings, a function by its name."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WORDS, small_model

from fastinterp import ConvTextModel, ModelConfig, ModelError, Vocabulary, load_model, make_tokenizer, save
from fastinterp.text.kim import KimTokenizer
from fastinterp.text.unicode import UnicodeTokenizer


def with_tokenizer(tokenizer: object) -> ConvTextModel:
    plain = small_model()
    config = dataclasses.replace(plain.config, tokenizer=tokenizer)
    return ConvTextModel.from_tensors(config, plain.vocabulary, plain.state_dict())


def by_space(text: str) -> list[str]:
    return text.split()


def upper(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("choice", ["kim", "unicode", "Whitespace", {"type": "Digits", "individual_digits": True}])
def test_a_tokenizer_is_saved_by_name_and_settings(tmp_path: Path, choice: object):
    model = with_tokenizer(choice)
    save(model, tmp_path / "m")
    fields = json.loads((tmp_path / "m" / "config.json").read_text())["tokenizer"]
    assert fields == make_tokenizer(choice).to_fields()
    loaded = load_model(tmp_path / "m")
    assert loaded.config == model.config
    assert loaded.fingerprint() == model.fingerprint()
    text = "Good film, 30% don\u2019t \u7535"
    assert loaded.tokenizer.read(text) == model.tokenizer.read(text)


def test_a_folder_without_a_tokenizer_means_kim(tmp_path: Path):
    save(small_model(), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    fields = json.loads(path.read_text())
    assert fields.pop("tokenizer") == {"name": "kim"}
    path.write_text(json.dumps(fields))
    assert load_model(tmp_path / "m").tokenizer == KimTokenizer()


def test_the_fingerprint_of_a_model_of_kim_is_that_of_before_there_was_a_choice():
    # By it a background and an index know their model; those of saved models must stay theirs.
    plain = small_model(words=WORDS)
    assert "tokenizer" not in repr(plain.config)
    prints = {with_tokenizer(choice).fingerprint() for choice in ("kim", "unicode", "Whitespace", by_space)}
    assert plain.fingerprint() in prints
    assert len(prints) == 4


def test_a_function_is_asked_for_when_the_model_is_loaded(tmp_path: Path):
    model = with_tokenizer(by_space)
    save(model, tmp_path / "m")
    assert load_model(tmp_path / "m", tokenizer=by_space).encode(["good film"]).equal(model.encode(["good film"]))
    with pytest.raises(ModelError, match=r"cut by the function by_space, which no file holds; load_model\(folder, tok"):
        load_model(tmp_path / "m")
    with pytest.raises(ValueError, match="tokenizer: expected by_space, with which the model was trained, got upper"):
        load_model(tmp_path / "m", tokenizer=upper)
    save(small_model(), tmp_path / "other")
    with pytest.raises(ValueError, match="tokenizer: expected none, since the model in .* has its own, got one"):
        load_model(tmp_path / "other", tokenizer=by_space)
    save(small_model(), tmp_path / "m")  # a model of a function is replaced like any other


def test_a_damaged_tokenizer_is_one_clear_error(tmp_path: Path):
    save(small_model(), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    good = json.loads(path.read_text())
    for wrong in (None, {}, {"name": "kim", "x": 1}, {"name": "unicode", "pre_tokenizer": {"type": "x" * 5000}}, "kim"):
        path.write_text(json.dumps({**good, "tokenizer": wrong}))
        with pytest.raises(
            ModelError, match=r"config.json: not a model configuration \(\w*tokenizer: expected"
        ) as caught:
            load_model(tmp_path / "m")
        assert len(str(caught.value)) < 600


def test_a_configuration_is_compared_and_hashed_with_its_tokenizer():
    shape = ModelConfig(("a", "b"), 5, (3,), (3,), tokenizer="unicode")
    assert shape == ModelConfig(("a", "b"), 5, (3,), (3,), tokenizer=UnicodeTokenizer())
    assert hash(shape) == hash(ModelConfig(("a", "b"), 5, (3,), (3,), tokenizer=UnicodeTokenizer()))
    assert shape != ModelConfig(("a", "b"), 5, (3,), (3,))
    with pytest.raises(TypeError, match="tokenizer: expected a name"):
        ModelConfig(("a", "b"), 5, (3,), (3,), tokenizer=7)


def test_a_model_of_kim_never_loads_the_library_of_the_others(tmp_path: Path):
    save(small_model(), tmp_path / "m")
    script = (
        "import sys, fastinterp\n"
        f"model = fastinterp.load_model({str(tmp_path / 'm')!r})\n"
        "fastinterp.interpret(model, ['a good film'], answers='contributions')\n"
        "print('tokenizers' in sys.modules)\n"
        "fastinterp.make_tokenizer('unicode').read('a')\n"
        "print('tokenizers' in sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["False", "True"]


def test_a_model_reads_with_its_tokenizer():
    shape = ModelConfig(("a", "b"), 5, (3,), (3,), embedding_dimension=4, tokenizer="unicode")
    model = ConvTextModel(shape, Vocabulary(("<pad>", "<unk>", "\u7535", "\u5f71")))
    assert model.encode(["\u7535\u5f71\u597d"]).tolist() == [[2, 3, 1, 0, 0]]
    assert model.read(["\u7535\u5f71"]).texts[0].spans == ((0, 1), (1, 2))

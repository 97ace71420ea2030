from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fastinterp import ConvTextModel, ModelConfig, ModelError, Vocabulary, load_model, save
from fastinterp.kernels import reference


def full_frame_scores(model: ConvTextModel, ids: torch.Tensor) -> torch.Tensor:
    """Class scores by the reference, which computes every column of the frame, in float64."""
    weights, biases = model.convolution_weights(model.config.layers - 1)
    _, scores, _ = reference.saliency(
        functional.embedding(ids, model.embedding.weight.detach()).double(),
        (ids != 0).sum(dim=1),
        ids.shape[1],
        [weight.double() for weight in weights],
        [bias.double() for bias in biases],
        model.linear.weight.detach().double(),
        model.linear.bias.detach().double(),
        model.config.activation,
        0,
    )
    return scores


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]),
)
def test_forward_equals_the_full_frame_although_it_computes_less(seed, layers, length, lengths, activation):
    channels, kernels = zip(*layers, strict=True)
    model = small_model(seed, channels, kernels, length, activation)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), length, dtype=torch.int64)
    for row, tokens in zip(ids, lengths, strict=True):
        row[:tokens] = torch.randint(1, len(model.vocabulary), (length,), generator=generator)[:tokens]
    torch.testing.assert_close(model(ids).double(), full_frame_scores(model, ids), rtol=1e-4, atol=1e-5)


def test_presets_are_table_2():
    mr = ModelConfig.preset("mr", ("n", "p"))
    assert (mr.length, mr.channels, mr.kernel_sizes) == (56, (128, 64, 32), (5, 5, 5))
    ag = ModelConfig.preset("ag_news", ("a", "b", "c", "d"))
    assert (ag.length, ag.channels, ag.kernel_sizes) == (195, (512, 256, 128, 64), (5, 5, 5, 5))
    with pytest.raises(ValueError, match="preset: expected one of mr, ag_news, got 'imdb'"):
        ModelConfig.preset("imdb", ("n", "p"))


def test_receptive_fields_grow_with_depth():
    config = ModelConfig(("a", "b"), 9, (1, 1, 1), (3, 4, 1))
    assert [config.receptive_field(layer) for layer in range(3)] == [(1, 1), (2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a",)}, "classes: expected at least two"),
        ({"classes": ("a", "a")}, "classes"),
        ({"length": 0}, "length: expected a positive integer, got 0"),
        ({"length": True}, "length: expected a positive integer, got True"),
        ({"channels": ()}, "channels: expected one positive integer per layer"),
        ({"kernel_sizes": (3, 3)}, "kernel_sizes: expected 1 values"),
        ({"activation": "gelu"}, "activation: expected one of relu"),
        ({"dropout": 1}, "dropout: expected a number from 0 to below 1"),
    ],
)
def test_a_bad_field_is_named(change: dict, message: str):
    fields = {"classes": ("a", "b"), "length": 9, "channels": (4,), "kernel_sizes": (3,)}
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**fields, **change})


def test_an_embedding_must_fit_the_vocabulary():
    config = ModelConfig(("a", "b"), 9, (4,), (3,), 7)
    with pytest.raises(ValueError, match=r"embedding: expected shape \(3, 7\)"):
        ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "x")), torch.zeros(4, 7))


def test_a_saved_model_comes_back_bit_for_bit(model: ConvTextModel, tmp_path: Path):
    save(model, tmp_path / "m", {"accuracy": 0.5})
    loaded = load_model(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "config.json",
        "metrics.json",
        "model.safetensors",
        "vocabulary.txt",
    ]
    assert loaded.config == model.config
    assert loaded.vocabulary == model.vocabulary
    assert not loaded.training
    ids = model.encode(["good film", "dull"])
    assert torch.equal(loaded(ids), model(ids))


def test_saving_replaces_an_older_model_and_nothing_else(model: ConvTextModel, tmp_path: Path):
    save(small_model(1), tmp_path / "m")
    save(model, tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m").linear.weight, model.linear.weight)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="is not a model folder; it is left as it is"):
        save(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "mine"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        save(model, tmp_path / "file" / "m")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_one_clear_error(model: ConvTextModel, tmp_path: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ModelError, match="cannot be written"):
        save(model, tmp_path / "locked" / "m")


def spoil_weights(folder: Path, model: ConvTextModel, **tensors: torch.Tensor) -> None:
    import safetensors.torch

    state = {**model.state_dict(), **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    safetensors.torch.save_file(state, folder / "model.safetensors")


def truncate(folder: Path, _: ConvTextModel) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def change_config(**fields: object):
    def spoil(folder: Path, _: ConvTextModel) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return spoil


def rewrite(name: str, content: str):
    return lambda folder, _: (folder / name).write_text(content)


NAN = torch.full((len(WORDS) + 2, 7), float("nan"))
DAMAGE = {
    "truncated weights": (truncate, "damaged or not a safetensors file"),
    "no weights": (lambda folder, _: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "NaN": (lambda f, m: spoil_weights(f, m, embedding__weight=NAN), "embedding.weight holds NaN"),
    "shorter vocabulary": (
        rewrite("vocabulary.txt", "<pad>\n<unk>\ngood\n"),
        r"embedding.weight has shape \(14, 7\), expected \(3, 7\) \(vocabulary.txt has 3 words\)",
    ),
    "repeated word": (
        rewrite("vocabulary.txt", "<pad>\n<unk>\na\na\n"),
        "not a vocabulary .*'a' stands more",
    ),
    "dtype": (
        lambda f, m: spoil_weights(f, m, linear__bias=torch.zeros(2, dtype=torch.float64)),
        "linear.bias has dtype torch.float64",
    ),
    "extra tensor": (
        lambda f, m: spoil_weights(f, m, more=torch.zeros(1)),
        r"missing or unknown: \['more'\]",
    ),
    "other widths": (change_config(channels=[6, 4]), "config.json says so"),
    "no JSON": (rewrite("config.json", "{"), "not a model configuration"),
    "JSON list": (rewrite("config.json", "[]"), "not a model configuration"),
    "unknown field": (change_config(colour="red"), "not a model configuration .*colour"),
    "bad field": (change_config(length=-1), "length: expected a positive integer"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_folder_is_one_clear_error(model: ConvTextModel, tmp_path: Path, damage: str):
    save(model, tmp_path / "m")
    spoil, message = DAMAGE[damage]
    spoil(tmp_path / "m", model)
    with pytest.raises(ModelError, match=message) as error:
        load_model(tmp_path / "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["banana", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_error(model, tmp_path: Path, device: str):
    save(model, tmp_path / "model")
    with pytest.raises(ValueError, match="^device: "):
        load_model(tmp_path / "model", device)

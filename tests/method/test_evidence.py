from __future__ import annotations

import functools
import json
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import WORDS, field_edges, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from fastinterp import ConvTextModel, ModelError, Problems, tokenize
from fastinterp.data.splits import TextDataset
from fastinterp.method import activation_index
from fastinterp.method.activation_index import build_index
from fastinterp.method.background import Background, fit_background
from fastinterp.method.evidence import ActivationIndex, Evidence
from fastinterp.method.fields import activations as field_activations
from fastinterp.method.index_storage import load_index, save_index
from fastinterp.method.reference_corpus import PackedStrings
from fastinterp.method.saliency import explain_locations

CLASSES = ("neg", "pos")
TEXTS = [" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(1 + i % 9)) for i in range(200)]
EXAMPLES = int(os.environ.get("FASTINTERP_EXAMPLES", "60"))
SHAPES = {
    "two layers": {"channels": (6, 5), "kernel_sizes": (3, 4)},
    "three layers": {"channels": (4, 3, 6), "kernel_sizes": (5, 2, 3), "activation": "leaky_relu"},
    "tanh": {"channels": (5,), "kernel_sizes": (4,), "activation": "tanh", "length": 6},
    "one word": {"channels": (3,), "kernel_sizes": (1,), "activation": "identity"},
}


@functools.cache
def fitted(shape: str) -> tuple[ConvTextModel, Background]:
    model = small_model(3, **SHAPES[shape])
    return model, fit_background(model, TEXTS, locations=4)


def labelled(texts: list[str], labels: list[int] | None = None) -> TextDataset:
    return TextDataset(tuple(texts), tuple(labels or [i % 2 for i in range(len(texts))]), CLASSES)


def small_index(model: ConvTextModel, layer: int = 0, **settings: int) -> ActivationIndex:
    return build_index(model, labelled(TEXTS), fit_background(model, TEXTS), layer, **settings)


def seen_tokens(tokens: list[str], location: int, before: int, width: int) -> tuple[tuple[str, ...], int]:
    """The tokens of a receptive field and the row of the first, one position after another."""
    rows = [
        (row, tokens[location - before + row]) for row in range(width) if 0 <= location - before + row < len(tokens)
    ]
    return tuple(token for _, token in rows), rows[0][0]


def brute_force(
    model: ConvTextModel,
    background: Background,
    dataset: TextDataset,
    layer: int,
    locations: int,
    shrinkage: float,
    activation: Tensor,
    explained: list[str],
) -> list[Evidence]:
    """Every n-gram that may be an answer, with its float64 cosine, best first."""
    stack, measured = model.stack(layer), background.layers[layer]
    covariance = measured.covariance.numpy()
    variance = covariance.diagonal().mean()
    precision = np.linalg.inv(covariance + shrinkage * variance * np.eye(len(covariance)))
    query = activation.double().numpy() - measured.mean.numpy()
    best: dict[tuple[tuple[str, ...], int], Evidence] = {}
    for text, label in zip(dataset.texts, dataset.labels, strict=True):
        tokens = tokenize(text)[: model.length]
        if tokens == explained[: model.length]:
            continue
        _, chosen, activations = explain_locations(model, model.encode([text]), layer, locations)
        for location, candidate in zip(chosen.location.tolist(), activations.double().numpy(), strict=True):
            ngram = seen_tokens(tokens, location, stack.before, stack.before + 1 + stack.after)
            apart = candidate - measured.mean.numpy()
            length = np.sqrt((apart @ precision @ apart) * (query @ precision @ query))
            cosine = float(apart @ precision @ query / length) if length > 0 else 0.0
            if ngram not in best or cosine > best[ngram].cosine:
                best[ngram] = Evidence(*ngram, text, dataset.classes[label], cosine)
    return sorted(best.values(), key=lambda each: -each.cosine)


SENTENCES = st.lists(st.sampled_from([*WORDS[:3], "never-seen"]), max_size=12).map(" ".join)


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from(list(SHAPES)),
    st.integers(0, 2),
    st.lists(SENTENCES, min_size=1, max_size=14).filter(lambda texts: any(texts)),
    st.integers(1, 6),
    st.integers(1, 12),
    st.sampled_from([0.1, 1.0, 5.0]),
)
def test_the_search_finds_what_brute_force_finds(
    shape: str, layer: int, texts: list[str], locations: int, k: int, shrinkage: float
):
    model, background = fitted(shape)
    layer = min(layer, model.layers - 1)
    dataset = labelled(texts)
    index = build_index(model, dataset, background, layer, locations, shrinkage=shrinkage)
    k = min(k, len(index))
    explained = [text for text in (*texts, "film good slow bad") if text]
    _, chosen, activations = explain_locations(model, model.encode(explained), layer, 2)
    tokens = [tokenize(explained[i]) for i in chosen.sentence.tolist()]
    found = index.search(activations, k, tokens)
    assert len(found) == len(activations)
    for activation, sentence, answer in zip(activations, tokens, found, strict=True):
        expected = brute_force(model, background, dataset, layer, locations, shrinkage, activation, sentence)
        cosines = [each.cosine for each in answer]
        assert cosines == pytest.approx([each.cosine for each in expected[:k]], abs=2e-5)
        assert cosines == sorted(cosines, reverse=True)
        of_ngram = {(each.tokens, each.offset): each for each in expected}
        assert len({(each.tokens, each.offset) for each in answer}) == len(answer)
        for each in answer:
            assert each.cosine == pytest.approx(of_ngram[each.tokens, each.offset].cosine, abs=2e-5)
            assert (each.text, each.label) in {
                (text, CLASSES[label]) for text, label in zip(texts, dataset.labels, strict=True)
            }
            assert tokenize(each.text)[: model.length] != sentence[: model.length]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_ngram_put_at_its_offset_fires_as_the_index_says(shape: str):
    """Also at both edges of the frame and where padding is in the field."""
    model, background = fitted(shape)
    texts = ["good", "bad film", " ".join(WORDS[:-1]), " ".join(WORDS[3:9]), " ".join(WORDS * 2)]
    for layer in range(model.layers):
        index = build_index(model, labelled(texts), background, layer, locations=model.length)
        rows = torch.arange(len(index))
        stack = model.stack(layer)
        evidence = index.evidence(rows, torch.zeros(len(index)))
        inputs = torch.zeros(len(index), index.width, model.word_vectors.shape[1])
        for row, each in enumerate(evidence):
            sentence = tokenize(each.text)[: model.length]
            location = int(index.location[row])
            assert (each.tokens, each.offset) == seen_tokens(sentence, location, stack.before, index.width)
            ids = model.token_ids([each.tokens])[0, : len(each.tokens)]
            inputs[row, each.offset : each.offset + len(ids)] = model.word_vectors[ids]
        begin, end = field_edges(model, layer, index.location)
        problems = Problems(
            torch.zeros(len(index), stack.channels), stack.weights, stack.biases, begin, end, stack.activation
        )
        fired = field_activations(problems, inputs)
        np.testing.assert_allclose(index.activations_of(rows).numpy(), fired.numpy(), atol=3e-5)
        edges = {each.offset > 0 for each in evidence}
        assert edges == ({True, False} if stack.before else {False})
        assert any(len(each.tokens) + each.offset < index.width for each in evidence) == (index.width > 1)


def test_an_answer_holds_neither_copies_nor_an_ngram_twice_however_many_there_are():
    model, background = fitted("two layers")
    copies, others = ["good bad film"] * 60, ["dull plot slow"] * 70 + ["odd film", "good bad film dull"]
    index = build_index(model, labelled(copies + others), background, 0)
    _, _, activations = explain_locations(model, model.encode(copies[:1]), 0, 3)
    tokens = [tokenize(copies[0])] * len(activations)
    for k in (1, 5, len(index)):
        for answer in index.search(activations, k, tokens):
            assert len(answer) == min(k, 4 + 3 + 5)  # locations of each distinct other sentence
            assert "good bad film" not in {each.text for each in answer}
    # A sentence whose copy was cut at the frame is a copy still.
    long = " ".join(WORDS)
    index = build_index(model, labelled([long + " bad", long + " good", "odd film"]), background, 0)
    _, _, activations = explain_locations(model, model.encode([long]), 0, 3)
    assert len(tokenize(long)) > model.length
    for answer in index.search(activations, 5, [tokenize(long)] * 3):
        assert {each.text for each in answer} == {"odd film"}
    # Where there is nothing but copies there is no evidence.
    index = build_index(model, labelled([long, long + " good"]), background, 0)
    assert index.search(activations, 5, [tokenize(long)] * 3) == [[], [], []]
    cosines, rows = index.search_vectors(activations, 5, [tokenize(long)] * 3)
    assert rows.tolist() == [[-1] * 5] * 3
    assert not cosines.any()


def test_a_location_does_not_depend_on_the_others_of_the_call(model: ConvTextModel):
    index = small_index(model)
    explained = TEXTS[20:40]
    _, chosen, activations = explain_locations(model, model.encode(explained), 0, 3)
    tokens = [tokenize(explained[i]) for i in chosen.sentence.tolist()]
    together = index.search(activations, 4, tokens)
    for row in range(len(activations)):
        (alone,) = index.search(activations[row : row + 1], 4, tokens[row : row + 1])
        assert [each.cosine for each in alone] == pytest.approx([each.cosine for each in together[row]], abs=1e-6)
        assert [each.tokens for each in alone] == [each.tokens for each in together[row]]
    assert index.search(activations[:0], 4, []) == []


def test_what_has_no_direction_is_never_found_and_finds_anything(model: ConvTextModel):
    index = small_index(model)
    vectors = index.vectors.clone()
    vectors[:-2] = 0
    _, _, activations = explain_locations(model, model.encode(["the dull odd"]), 0, 1)
    (answer,) = replace(index, vectors=vectors).search(activations, 9, [()])
    assert 1 <= len(answer) <= 2
    assert replace(index, vectors=torch.zeros_like(vectors)).search(activations, 9, [()]) == [[]]
    # The mean itself is alike nothing: its first answers are the first of the corpus.
    usual = index.whitening.mean.float()[None]
    exact = replace(index, whitening=replace(index.whitening, mean=usual[0].double()))
    (answer,) = exact.search(usual, 2, [()])
    assert [each.cosine for each in answer] == [0, 0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 99), st.data())
def test_the_draw_is_balanced_bounded_and_repeatable(counts: list[int], most: int, seed: int, data: st.DataObject):
    labels = [data.draw(st.integers(0, 3)) for _ in counts]
    drawn = activation_index._draw(torch.tensor(counts), torch.tensor(labels, dtype=torch.int32), most, seed)
    assert drawn == activation_index._draw(torch.tensor(counts), torch.tensor(labels, dtype=torch.int32), most, seed)
    assert sum(map(len, drawn)) == min(most, sum(counts))
    shares: Counter[int] = Counter()
    available: Counter[int] = Counter()
    for ranks, count, label in zip(drawn, counts, labels, strict=True):
        assert ranks == sorted(set(ranks) & set(range(count)))
        shares[label] += len(ranks)
        available[label] += count
    for label, share in shares.items():
        if share < available[label]:  # a label that has more to give has as much as any other has
            assert share >= max(shares.values()) - 1


def test_every_location_of_a_label_is_as_likely():
    counts, labels = torch.tensor([3, 1, 2, 4, 5]), torch.tensor([0, 0, 0, 1, 1], dtype=torch.int32)
    found: Counter[tuple[int, int]] = Counter()
    for seed in range(600):
        for sentence, ranks in enumerate(activation_index._draw(counts, labels, 6, seed)):
            found.update((sentence, rank) for rank in ranks)
    assert len(found) == 15
    for (sentence, _), times in found.items():
        assert times == pytest.approx(600 * 3 / (6 if sentence < 3 else 9), rel=0.25)


def test_a_bounded_index_holds_a_part_of_the_whole_one(model: ConvTextModel, monkeypatch: pytest.MonkeyPatch):
    background = fit_background(model, TEXTS)
    dataset = labelled(TEXTS, [int(i >= 20) for i in range(200)])  # sorted by class, and unequal
    whole = build_index(model, dataset, background, 1)
    part = build_index(model, dataset, background, 1, most=150, seed=5)
    assert len(part) == 150
    labels = Counter(part.corpus.labels[part.sentence].tolist())
    assert labels[0] == min(75, sum(whole.corpus.labels[whole.sentence] == 0))
    all_texts, some_texts = (each.corpus.texts.all() for each in (whole, part))
    assert set(some_texts) <= set(all_texts)
    assert sorted(set(part.sentence.tolist())) == list(range(len(part.corpus)))  # no sentence without a location
    rows = {
        (all_texts[sentence], location): row
        for row, (sentence, location) in enumerate(zip(whole.sentence.tolist(), whole.location.tolist(), strict=True))
    }
    for row, (sentence, location) in enumerate(zip(part.sentence.tolist(), part.location.tolist(), strict=True)):
        same = whole.vectors[rows[some_texts[sentence], location]]
        torch.testing.assert_close(part.vectors[row], same, atol=1e-5, rtol=1e-5)
    for size in (1, 7):
        monkeypatch.setattr(activation_index, "_SENTENCES_AT_ONCE", size)
        again = build_index(model, dataset, background, 1, most=150, seed=5)
        assert torch.equal(again.sentence, part.sentence)
        assert torch.equal(again.location, part.location)
        torch.testing.assert_close(again.vectors, part.vectors, atol=1e-5, rtol=1e-5)
    other = build_index(model, dataset, background, 1, most=150, seed=6)
    assert other.corpus.texts.all() != some_texts or not torch.equal(other.location, part.location)


def test_an_index_tells_its_size(model: ConvTextModel):
    index = small_index(model)
    assert repr(index).startswith(f"ActivationIndex(layer 0: {len(index):,} locations of 200 texts, 0.")
    assert index.nbytes > index.vectors.nbytes


@given(st.lists(st.text(st.characters(), max_size=5) | st.sampled_from(["\ud800", "\udc00", "\0", ""])))
def test_packed_strings_come_back(strings: list[str]):
    packed = PackedStrings.of(strings)
    assert packed.all() == strings
    positions = [*range(len(strings))][::-1]
    assert packed.at(positions) == strings[::-1]


def tensors_of(index: ActivationIndex) -> dict[str, Tensor]:
    found = {}
    for part in (index, index.corpus, index.corpus.texts, index.corpus.words, index.whitening):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, Tensor):
                found[f"{id(part)} {field.name}"] = value
    return found


def test_a_saved_index_is_the_same_and_stays_in_its_file(model: ConvTextModel, tmp_path: Path):
    texts = [*TEXTS, "half a \ud800 pair", "naïve “film” \U0001f600"]
    index = build_index(model, labelled(texts), fit_background(model, texts), 1)
    path = tmp_path / "evidence.safetensors"
    save_index(index, path)
    loaded = load_index(str(path), model, 1)
    for mine, its in zip(tensors_of(index).values(), tensors_of(loaded).values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=0)
    names = ("layer", "before", "width", "length", "classes", "fingerprint", "shrinkage")
    assert [getattr(index, name) for name in names] == [getattr(loaded, name) for name in names]
    _, chosen, activations = explain_locations(model, model.encode(texts[:30]), 1, 2)
    tokens = [tokenize(texts[i]) for i in chosen.sentence.tolist()]
    assert loaded.search(activations, 5, tokens) == index.search(activations, 5, tokens)
    # Saving what is mapped over its own file; twice the same bytes.
    before = path.read_bytes()
    save_index(loaded, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    # The vectors are read when they are searched, not before: what is written into the file meanwhile is seen.
    loaded = load_index(path, model, 1)
    start = (
        struct.unpack("<Q", before[:8])[0]
        + 8
        + json.loads(before[8 : before.index(b"}" * 2) + 2] or b"{}")["vectors"]["data_offsets"][0]
    )
    with path.open("r+b") as file:
        file.seek(start)
        file.write(struct.pack("<f", float("nan")))
    with pytest.raises(ModelError, match="index: its vectors hold NaN, infinity or huge numbers"):
        loaded.search(activations, 5, tokens)


def test_a_file_has_the_permissions_that_the_umask_leaves(model: ConvTextModel, tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_index(small_index(model), tmp_path / "index")
    finally:
        os.umask(before)
    assert (tmp_path / "index").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["missing/index", "folder", "a\0b", "x" * 300])
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(model: ConvTextModel, tmp_path: Path, place: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="cannot be written") as raised:
        save_index(small_index(model), tmp_path / place)
    assert len(str(raised.value).splitlines()) == 1
    assert os.listdir(tmp_path) == ["folder"]


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, object]], object]) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["fastinterp"])
    change(tensors, about)
    path.write_bytes(safetensors.torch.save(tensors, {"fastinterp": json.dumps(about)}))


def swap_starts(tensors: dict[str, Tensor], about: dict[str, object]) -> None:
    tensors["text_starts"][1], tensors["text_starts"][2] = 2**63 - 1, -(2**63)


def cut_character(tensors: dict[str, Tensor], about: dict[str, object]) -> None:
    tensors["words"][:8] = torch.tensor([195, 169] * 4, dtype=torch.uint8)  # four times an accented letter
    tensors["word_starts"][1] = 1


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor], dict[str, object]], object], str]] = {
    "format": (lambda t, a: a.update(format="x"), "not an index of fastinterp"),
    "version": (lambda t, a: a.update(format_version=2), "this fastinterp reads version 1, got 2"),
    "model": (lambda t, a: a.update(fingerprint="0" * 64), "built with another model; build_index makes one"),
    "layer": (lambda t, a: a.update(layer=0), "expected an index of layer 1, got one of layer 0"),
    "shrinkage": (lambda t, a: a.update(shrinkage=-1), "shrinkage: expected more than 0, got -1"),
    "a tensor less": (lambda t, a: t.pop("mean"), "not an index of fastinterp"),
    "other channels": (lambda t, a: t.update(vectors=t["vectors"][:, 1:].contiguous()), "vectors: expected"),
    "half precision": (lambda t, a: t.update(vectors=t["vectors"].half()), "got torch.float16"),
    "no location": (
        lambda t, a: t.update({name: t[name][:0] for name in ("vectors", "sentence", "location")}),
        "expected sentences of tokens inside the frame",
    ),
    "sentence": (lambda t, a: t["sentence"].fill_(10**6), "sentence: a value is out of range"),
    "location": (lambda t, a: t["location"].fill_(8), "location: a value is out of range"),
    "label": (lambda t, a: t["labels"].fill_(2), "labels: a value is out of range"),
    "token": (lambda t, a: t["tokens"].fill_(-1), "tokens: a value is out of range"),
    "starts": (swap_starts, "text_starts: expected ascending starts"),
    "text": (lambda t, a: t["texts"].fill_(255), "texts: not UTF-8 from byte 0 on"),
    "cut character": (
        cut_character,
        "words: cut inside a character",
    ),
    "mean": (lambda t, a: t["mean"].fill_(float("nan")), "mean or factor holds NaN"),
    "factor": (lambda t, a: t["factor"].fill_(1), "factor: expected a lower triangular matrix"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_one_line_that_names_the_file(model: ConvTextModel, tmp_path: Path, damage: str):
    path = tmp_path / "index.safetensors"
    save_index(small_index(model, layer=1), path)
    change, message = DAMAGE[damage]
    rewritten(path, change)
    with pytest.raises(ModelError, match=message) as raised:
        load_index(path, model, 1)
    assert str(raised.value).startswith(str(path)[:50])
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_no_index_is_one_line(model: ConvTextModel, tmp_path: Path):
    path = tmp_path / "index"
    with pytest.raises(ModelError, match="not an index, there is no such file"):
        load_index(path, model, 0)
    with pytest.raises(ModelError, match="not an index, there is no such file"):
        load_index(tmp_path, model, 0)
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="damaged or not a safetensors file"):
        load_index(path, model, 0)
    path.write_bytes(safetensors.torch.save({"vectors": torch.zeros(1)}))
    with pytest.raises(ModelError, match="not an index of fastinterp"):
        load_index(path, model, 0)
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(ModelError, match="not an index"):
        load_index(path, model, 0)
    with pytest.raises(ValueError, match="layer: expected 0 to 1, got 2"):
        load_index(path, model, 2)


@functools.cache
def saved_index() -> tuple[ConvTextModel, bytes]:
    model = small_model()
    with tempfile.TemporaryDirectory() as folder:
        save_index(build_index(model, labelled(TEXTS[:30]), fit_background(model, TEXTS), 0), Path(folder) / "index")
        return model, (Path(folder) / "index").read_bytes()


@settings(max_examples=max(150, EXAMPLES))
@given(st.data())
def test_whatever_is_in_the_file_it_is_an_index_that_works_or_one_short_line(data: st.DataObject):
    model, content = saved_index()
    header = struct.unpack("<Q", content[:8])[0] + 8
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        # The header has the structure; behind it are values.
        start = data.draw(st.integers(0, min(len(changed), header)) | st.integers(0, len(changed)))
        end = start + data.draw(st.sampled_from([0, 1, 1, 4, 8, 100, len(changed)]))
        odd = st.sampled_from([b"", b"\0" * 8, b"\xff" * 8, b"9" * 12, b"]", b'"F16"', b"\0\0\xc0\x7f", b"\xff\x7f"])
        changed[start:end] = data.draw(odd | st.binary(max_size=9))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.write_bytes(changed)
        try:
            index = load_index(path, model, 0)
            _, _, activations = explain_locations(model, model.encode(["good bad film", "the"]), 0, 3)
            answers = index.search(activations, 5, [["good", "bad", "film"]] * len(activations))
            message = "index: it works"
        except ModelError as error:
            answers, message = [], str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    assert all(-1 <= each.cosine <= 1 and each.tokens for answer in answers for each in answer)


def test_bad_arguments_are_named(model: ConvTextModel):
    background = fit_background(model, TEXTS)
    dataset = labelled(TEXTS)

    def refused(error: type[Exception], message: str, *arguments: object, **settings: object) -> None:
        with pytest.raises(error, match=message) as raised:
            build_index(model, *arguments, **settings)
        assert len(str(raised.value).splitlines()) == 1

    refused(TypeError, r"background: expected what fit_background\(model, texts\) returns, got None", dataset, None, 0)
    other = fit_background(small_model(1), TEXTS)
    refused(ModelError, "background: it was fitted to another model", dataset, other, 0)
    refused(ValueError, "layer: expected 0 to 1, got 2", dataset, background, 2)
    refused(ValueError, "locations: expected 1 to 9, got 0", dataset, background, 0, locations=0)
    refused(ValueError, "most: expected at least 1, got 0", dataset, background, 0, most=0)
    refused(ValueError, "shrinkage: expected more than 0", dataset, background, 0, shrinkage=0)
    classes = TextDataset(("good",), (0,), ("a", "b"))
    refused(ValueError, r"dataset: expected the model's classes \('neg', 'pos'\), got", classes, background, 0)
    empty = labelled(["", " ... ", "\u4e00"])
    refused(ValueError, "dataset: expected texts with tokens, got 3 without any", empty, background, 0)

    index = build_index(model, dataset, background, 0)
    index.check(model, 0)
    with pytest.raises(ModelError, match="index: it was built with another model; build_index makes one"):
        index.check(small_model(1), 0)
    with pytest.raises(ModelError, match="index: expected one of layer 1, got one of layer 0"):
        index.check(model, 1)
    one = torch.zeros(1, 6)
    for k, got in ((0, "0"), (len(index) + 1, str(len(index) + 1)), (True, "True")):
        with pytest.raises(ValueError, match=f"k: expected .*, got {got}"):
            index.search(one, k, [()])
    with pytest.raises(ValueError, match=r"activations: expected float32 of shape \(B, 6\), got torch.float32 of"):
        index.search(torch.zeros(1, 5), 1, [()])
    with pytest.raises(ValueError, match="got torch.float64"):
        index.search(one.double(), 1, [()])
    for value in (float("nan"), float("inf"), 3e38):
        with pytest.raises(ValueError, match="activations: expected finite values"):
            index.search(torch.full((1, 6), value), 1, [()])
    with pytest.raises(ValueError, match="sentences: expected 1, one for each location, got 2"):
        index.search(one, 1, [(), ()])
    with pytest.raises(TypeError, match="sentences: expected tuples of tokens, got one str"):
        index.search(one, 1, ["good film"])

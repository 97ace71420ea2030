"""Eight modules as their users write them, explained by `adapt`, against a float64 reference by autograd alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from captum.attr import LayerGradientXActivation
from models.architectures import ARCHITECTURES, Architecture
from torch import Tensor, nn
from torch.nn import functional

from fastinterp import (
    AdaptedModel,
    Interpretation,
    ModelError,
    OptimizationConfig,
    adapt,
    build_index,
    fit_background,
    interpret,
    load_corpus,
    saliency,
)
from fastinterp.data.splits import TextDataset
from fastinterp.method.starts import content_keys, mix, random_starts
from fastinterp.text.kim import tokenize

WORDS, TEXTS = 400, 800
CONFIG = OptimizationConfig(steps=30, learning_rate=0.01)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@dataclass
class Trained:
    """A module after a little training, its adapted model, and a float64 copy for the reference."""

    architecture: Architecture
    module: nn.Module
    model: AdaptedModel
    exact: nn.Module
    rows: dict[str, int]
    padding: int

    def ids(self, text: str) -> Tensor:
        """(1, L) rows of the embedding, at the text's own length or the shortest that the module takes."""
        rows = [self.rows.get(token, 1) for token in tokenize(text)]
        shortest = int(self.model.frames(torch.zeros(1, 1)))
        return torch.tensor([rows + [self.padding] * (shortest - len(rows))])

    def scores(self, ids: Tensor) -> Tensor:
        """Class scores of the float64 copy, before softmax."""
        if hasattr(self.exact, "logits"):
            return self.exact.logits(ids)
        return self.exact((ids, None)) if "forward" in self.architecture.options else self.exact(ids)


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> tuple[list[str], list[int]]:
    data = load_corpus("snippets").train
    every = range(0, len(data.texts), len(data.texts) // TEXTS)
    return [data.texts[i] for i in every], [data.labels[i] for i in every]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def trained(request: pytest.FixtureRequest, texts: tuple[list[str], list[int]]) -> Trained:
    return train(ARCHITECTURES[request.param], *texts)


def train(architecture: Architecture, texts: list[str], labels: list[int]) -> Trained:
    counts: dict[str, int] = {}
    for text in texts:
        for token in tokenize(text):
            counts[token] = counts.get(token, 0) + 1
    common = sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 2]
    padding = 0 if architecture.padding_first else WORDS - 1
    words = ["<pad>", "<unk>", *common] if architecture.padding_first else [common[0], "<unk>", *common[1:], "<pad>"]
    rows = {word: row for row, word in enumerate(words)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = architecture.kind(WORDS)
        read = [[rows.get(token, 1) for token in tokenize(text)][:30] for text in texts]
        ids = torch.full((len(texts), 30), padding)
        for place, each in enumerate(read):
            ids[place, : len(each)] = torch.tensor(each, dtype=torch.int64)
        wanted = torch.tensor(labels)
        optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        module.train()
        for batch in torch.randperm(len(texts)).split(100):
            given = ids[batch]
            found = module((given, None)) if "forward" in architecture.options else module(given)
            loss = (
                functional.cross_entropy(found, wanted[batch])
                if found.dim() == 2
                else functional.binary_cross_entropy(found, wanted[batch].float())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model = adapt(
        module,
        embedding=architecture.embedding,
        layer=architecture.layer,
        tokenizer=tokenize,
        words=words,
        classes=("negative", "positive"),
        padding_id=padding,
        unknown_id=1,
        **architecture.options,
    )
    return Trained(architecture, module, model, copy.deepcopy(module).double().eval(), rows, padding)


@pytest.fixture(scope="module")
def sentences(texts: tuple[list[str], list[int]]) -> list[str]:
    by_length = sorted(texts[0], key=lambda text: len(tokenize(text)))
    return [by_length[len(by_length) // 2], by_length[-1], "a good film"]


@pytest.fixture(scope="module")
def results(trained: Trained, sentences: list[str]) -> list[Interpretation]:
    return interpret(trained.model, sentences, optimization=CONFIG)


def reference(trained: Trained, text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Class scores (2,), activations (P, C) and saliency (P,) of a text's predicted class, in float64."""
    found: list[Tensor] = []
    name, number = (*trained.architecture.layer.split(":"), "1")[:2]
    ids = trained.ids(text)
    hidden = trained.exact.layer(trained.exact.get_submodule(trained.architecture.embedding)(ids))[0].detach()
    if not trained.architecture.captum:  # Captum takes no module that is called twice

        def keep(module: nn.Module, given: object, output: Tensor) -> None:
            found.append(output)

        with hooked(trained.exact.get_submodule(name), keep):
            scores = trained.scores(ids)
        (gradient,) = torch.autograd.grad(scores.max(), found[int(number) - 1])
        return scores[0].detach(), hidden, (gradient * found[int(number) - 1]).sum(dim=(0, 1, 3)).detach()
    scores = trained.scores(ids)
    layer = trained.exact.get_submodule(trained.architecture.captum)
    explainer = LayerGradientXActivation(trained.scores, layer)
    attribution = explainer.attribute(ids, target=int(scores.argmax()))
    return scores[0].detach(), hidden, attribution.sum(dim=1).flatten().detach()


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def test_the_path_and_the_field_are_found(trained: Trained):
    path, field = trained.model.path(0), trained.model.field(0)
    assert path.name == trained.architecture.path
    assert (field.before, field.width, field.stride) == trained.architecture.field


def test_activations_and_saliency_are_those_of_the_reference(
    trained: Trained, sentences: list[str], results: list[Interpretation]
):
    own = trained.model.module_layer(0)
    found = saliency(trained.model, sentences)
    for row, (text, result) in enumerate(zip(sentences, results, strict=True)):
        scores, hidden, expected = reference(trained, text)
        torch.testing.assert_close(found.class_scores[row].double(), scores, rtol=1e-4, atol=1e-5)
        size = expected.abs().max()
        assert len(result.saliency) == len(expected)
        torch.testing.assert_close(result.saliency.double(), expected, rtol=1e-4, atol=1e-5 * float(size))
        torch.testing.assert_close(found.scores[row, : len(expected)], result.saliency)
        ids = trained.model.read([text]).ids
        activations = own.explain(ids, lambda class_scores, rows: [0], None).activations[0]
        torch.testing.assert_close(activations.double(), hidden, rtol=1e-4, atol=1e-5 * float(hidden.abs().max()))
        # The best location, of those that see a token, is among the explained.
        order = expected.argsort(descending=True, stable=True).tolist()
        seen = [place for place in order if result.locations and place in {each.index for each in result.locations}]
        assert seen == [each.index for each in result.locations]


def test_optimised_inputs_are_those_of_the_reference(
    trained: Trained, sentences: list[str], results: list[Interpretation]
):
    exact, field = trained.exact, trained.model.field(0)
    width = exact.get_submodule(trained.architecture.embedding).embedding_dim
    longest = max(trained.ids(text).shape[1] for text in sentences)
    for text, result in zip(sentences, results, strict=True):
        ids = trained.ids(text)
        frame = ids.shape[1]
        embedded = exact.get_submodule(trained.architecture.embedding)(ids).detach()
        key = content_keys(trained.model.read([text]).ids)
        target = exact.layer(embedded)[0].detach()
        for location in result.locations:
            rows = field.width or longest
            first = location.index * field.stride - field.before
            begin, end = max(0, first), min(frame, first + rows)
            keys = mix(key, torch.tensor([location.index]))
            start = random_starts(keys, frame, rows, width, CONFIG.seed)[0, begin - first : end - first]
            inputs = start.double().requires_grad_()
            optimizer = torch.optim.Adam([inputs], lr=CONFIG.learning_rate, maximize=True)
            for _ in range(CONFIG.steps):
                whole = torch.cat([embedded[0, :begin], inputs, embedded[0, end:]])[None]
                units = functional.normalize(inputs, dim=1).sum(dim=0)
                value = exact.layer(whole)[0, location.index] @ target[location.index]
                value = value - CONFIG.l2_weight * inputs.square().sum()
                value = value + CONFIG.similarity_weight * units.square().sum() / len(inputs)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            expected = inputs.detach().mean(dim=0)
            torch.testing.assert_close(location.optimized.double(), expected, rtol=1e-3, atol=1e-4)


def test_token_scores_add_up_to_the_score_and_are_gradient_times_input(
    trained: Trained, sentences: list[str], results: list[Interpretation]
):
    exact, field = trained.exact, trained.model.field(0)
    ids = trained.ids(sentences[1])
    embedded = exact.get_submodule(trained.architecture.embedding)(ids).detach().requires_grad_()
    hidden = exact.layer(embedded)
    gradients = trained.model.module_layer(0).explain(
        trained.model.read([sentences[1]]).ids, lambda scores, rows: scores.argmax(dim=1).tolist(), None
    )
    for location in results[1].locations:
        assert sum(location.token_scores) + location.rest_score == pytest.approx(location.score, abs=1e-4)
        pulled = gradients.gradients[0, location.index].double() @ hidden[0, location.index]
        (gradient,) = torch.autograd.grad(pulled, embedded, retain_graph=True)
        expected = (gradient * embedded).sum(dim=2)[0].detach()
        found = torch.zeros_like(expected)
        found[list(location.token_indices)] = torch.tensor(location.token_scores, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert field.width is None or all(len(each.tokens) <= field.width for each in results[1].locations)


def test_a_result_does_not_depend_on_the_other_sentences(
    trained: Trained, sentences: list[str], results: list[Interpretation]
):
    alone = interpret(trained.model, sentences[0], optimization=CONFIG)
    if alone.path == "kernels":
        assert alone == results[0]
    assert [each.index for each in alone.locations] == [each.index for each in results[0].locations]
    for one, other in zip(alone.locations, results[0].locations, strict=True):
        torch.testing.assert_close(one.optimized, other.optimized, rtol=1e-3, atol=1e-5)
        assert [word for word, _ in one.neighbors] == [word for word, _ in other.neighbors]


def test_the_module_is_given_back_as_it_came(trained: Trained, sentences: list[str]):
    module = trained.module
    module.train()
    part = next(each for each in module.modules() if not list(each.children()))
    part.eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    interpret(trained.model, sentences[:2], optimization=OptimizationConfig(steps=2))
    assert torch.equal(torch.rand(1), expected)
    assert module.training
    assert not part.training
    assert all(torch.equal(before[name], each) for name, each in module.state_dict().items())
    assert all(weight.grad is None or not weight.grad.isnan().any() for weight in module.parameters())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())


def test_all_answers_are_given_that_a_layer_can_give(
    trained: Trained, texts: tuple[list[str], list[int]], sentences: list[str]
):
    model, exact = trained.model, trained.exact
    background = fit_background(model, texts[0][::5])
    index = build_index(model, TextDataset(*(each[::4] for each in texts), ("negative", "positive")), background, 0)
    contrast = model.path(0).name == "kernels"
    found = interpret(model, sentences, optimization=CONFIG, background=background, index=index)
    whitening = background.layer(model, 0).whitening()
    assert sum(len(result.locations) for result in found) >= 6
    for text, result in zip(sentences, found, strict=True):
        ids = trained.ids(text)
        hidden = exact.layer(exact.get_submodule(trained.architecture.embedding)(ids))[0].detach()
        for location in result.locations:
            assert location.evidence
            for evidence in location.evidence:
                assert evidence.tokens
                assert " ".join(evidence.tokens) in " ".join(tokenize(evidence.text))
            assert (location.position_words is not None) == contrast
            if contrast:
                rows = ids.clone()
                places = list(location.token_indices)
                rows[0, places] = torch.tensor([trained.rows[word] for word, _ in location.position_words])
                vectors = exact.get_submodule(trained.architecture.embedding)(rows)
                # Only what the location sees is replaced, so it answers for the words alone.
                reached = exact.layer(vectors)[0, location.index].detach()
                pair = (torch.stack([reached, hidden[location.index]]) - whitening.mean) @ whitening.factor
                expected = functional.cosine_similarity(pair[0], pair[1], dim=0)
                assert location.likeness == pytest.approx(float(expected), abs=1e-4)
    if not contrast:
        with pytest.raises(ModelError, match="stands_out: expected a layer that the kernels explain"):
            interpret(model, sentences[:1], answers=["stands_out"], background=background)
    # The nearest evidence of a sentence of the corpus is none of its own.
    again = interpret(model, texts[0][:20:4], answers=["fires_alike"], background=background, index=index)
    for text, result in zip(texts[0][:20:4], again, strict=True):
        for location in result.locations:
            assert all(tokenize(evidence.text) != tokenize(text) for evidence in location.evidence)

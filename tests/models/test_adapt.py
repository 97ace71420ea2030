"""What a user's module may be like, what is found out about it, and what is said where it cannot be explained."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from models.architectures import WIDTH, KimConv1d, KimConv2d, OneSigmoid, PooledResidual
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional

from fastinterp import AdaptedModel, OptimizationConfig, adapt, fit_background, interpret, saliency
from fastinterp.text.tokenizer import TokenizedText

WORDS = ["<pad>", "<unk>", *(f"w{i}" for i in range(2, 30))]
FEW = OptimizationConfig(steps=3)


class Plain(nn.Module):
    """One convolution and a maximum, with options that the tests turn."""

    def __init__(self, outputs: int = 2, words: int = len(WORDS), padding: int | None = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=padding)
        self.conv = nn.Conv1d(WIDTH, 6, 3, padding=1)
        self.fc = nn.Linear(6, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv(self.embedding(ids).transpose(1, 2))).amax(dim=2))


def seeded(kind: type[nn.Module], *arguments: object, **named: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(*arguments, **named)


def adapted(module: nn.Module | None = None, **settings: object) -> AdaptedModel:
    given = {"tokenizer": str.split, "words": WORDS, "unknown_id": 1, **settings}
    return adapt(module if module is not None else seeded(Plain), **given)


TEXT = "w2 w3 w4 w5 w6 w7"


def test_one_string_gives_one_result_and_a_list_a_list():
    model = adapted()
    one, many = interpret(model, TEXT, optimization=FEW), interpret(model, [TEXT], optimization=FEW)
    assert many == [one]
    assert one.layer_name == "conv"
    assert one.path == "kernels"
    assert one.reason == "1 convolution with relu, compared with the module's own"
    assert interpret(model, [], optimization=FEW) == []


def test_layers_are_asked_for_by_index_name_or_module():
    model = adapted(seeded(KimConv1d, len(WORDS)))
    assert model.layer_names == ("branches.0.0", "branches.1.0")
    part = model.module.get_submodule("branches.1.0")
    results = [interpret(model, TEXT, layer, optimization=FEW) for layer in (1, "branches.1.0", part)]
    assert results[0] == results[1] == results[2]
    assert results[0].layer == 1
    torch.testing.assert_close(saliency(model, [TEXT], "branches.1.0").scores[0], results[0].saliency)
    chosen = adapted(model.module, layer=part)
    assert chosen.layer_names == ("branches.1.0", "branches.0.0")
    with pytest.raises(ValueError, match=r"layer: expected one of branches.0.0, branches.1.0, got 'conv'; adapt"):
        interpret(model, TEXT, "conv")


def test_a_part_of_another_module_is_no_layer():
    with pytest.raises(
        ValueError, match="layer: expected a part of the module, such as conv, got a Conv1d that is not"
    ):
        adapted(layer=nn.Conv1d(3, 3, 3))


def test_all_branches_in_a_module_list_are_layers():
    module = seeded(KimConv2d, len(WORDS))
    model = adapted(module, layer=module.convs, forward=lambda module, ids, lengths: module((ids, lengths)))
    assert model.layer_names == ("convs.0", "convs.1", "convs.2")


class TwoEmbeddings(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Embedding(5, 4)


class WithoutEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3)


class Pooled(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.shrink = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        hidden = functional.relu(self.conv(self.embedding(ids).transpose(1, 2)))
        return self.fc(self.shrink(hidden.amax(dim=2)))


class Blind(Plain):
    """A convolution over positions alone, whose output is as long as the text."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = nn.Conv1d(1, 6, 3, padding=1)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device).float().expand(len(ids), 1, -1)
        hidden = self.conv(self.embedding(ids).transpose(1, 2)) + self.blind(places)
        return self.fc(hidden.amax(dim=2))


class Tuple(Plain):
    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        return super().forward(ids), None


@pytest.mark.parametrize(
    ("make", "settings", "kind", "message"),
    [
        (TwoEmbeddings, {}, ValueError, "embedding: expected one of embedding, other to be named, got none"),
        (TwoEmbeddings, {"embedding": "odd"}, ValueError, "embedding: expected one of embedding, other, got 'odd'"),
        (TwoEmbeddings, {"embedding": "conv"}, TypeError, r"a torch.nn.Embedding, one of .*, got conv \(Conv1d\)"),
        (WithoutEmbedding, {}, ValueError, "module: expected one with a torch.nn.Embedding, got WithoutEmbedding"),
        (nn.ReLU, {}, ValueError, "module: expected one with weights, got ReLU without any"),
        (lambda: "model.pt", {}, TypeError, "module: expected a torch.nn.Module, got str"),
        (Pooled, {"layer": "shrink"}, ValueError, "layer: expected one .* before any pooling over time, got shrink"),
        (Blind, {"layer": "blind"}, ValueError, "layer: expected one that the embedding leads to, got blind"),
        (Plain, {"layer": "conv:2"}, ValueError, "layer: expected one of conv or another .*; conv is called 1 times"),
        (Plain, {"layer": "conv:x"}, ValueError, "layer: expected a number from 1 behind the colon"),
        (Plain, {"layer": "cnv"}, ValueError, "layer: expected one of conv, got 'cnv'"),
        (Plain, {"layer": 0}, TypeError, "'int' object is not iterable"),
        (
            Plain,
            {"words": WORDS[:-1]},
            ValueError,
            "words: expected a word for each of the embedding's 30 rows, got 29",
        ),
        (Plain, {"words": None}, ValueError, "words: expected a word for each of the embedding's 30 rows, got None"),
        (Plain, {"words": {"a": 30}}, ValueError, "words: expected rows 0 to 29 of the embedding, got 30 for 'a'"),
        (Plain, {"words": "abc"}, TypeError, "words: expected a list of words or a mapping of words to rows, got str"),
        (
            Plain,
            {"classes": ["a"]},
            ValueError,
            r"classes: expected 2 names, a string for each class score, got \['a'\]",
        ),
        (Plain, {"classes": ["a", "a"]}, ValueError, "classes: expected different names"),
        (Plain, {"padding_id": 30}, ValueError, "padding_id: expected 0 to 29, got 30"),
        (Plain, {"unknown_id": 0}, ValueError, "unknown_id: expected another row than padding_id, got 0"),
        (Plain, {"tokenizer": 3}, TypeError, "tokenizer: expected a callable from text to ids, .* got int"),
        (Plain, {"forward": 3}, TypeError, r"forward: expected a callable \(module, ids, lengths\), got int"),
        (Tuple, {}, ValueError, "module: expected class scores in a tensor, got tuple; forward= says how to call it"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make, settings: dict, kind: type, message: str):
    with pytest.raises(kind, match=message) as caught:
        adapted(make(), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (lambda text: [2, 30], "tokenizer: expected ids 0 to 29, the embedding's rows, got 30"),
        (lambda text: [2, 0, 3], "tokenizer: expected padding behind the tokens alone, got padding_id 0 at token 1"),
        (lambda text: [2, 2.5], "tokenizer: expected ids or tokens of a text, got 2.5 among them"),
        (lambda text: text, "tokenizer: expected ids or tokens of a text, got str"),
        (lambda text: ([2, 3], [(0, 2)]), "tokenizer: expected an offset for each of 2 ids, got 1"),
    ],
)
def test_what_a_tokenizer_gives_is_checked(tokenizer, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        interpret(adapted(tokenizer=tokenizer), TEXT)


def test_a_token_without_a_row_needs_one_for_unknown_words():
    with pytest.raises(ValueError, match="tokenizer: expected tokens that are among words, got 'new'; unknown_id="):
        interpret(adapted(unknown_id=None), "w2 new")
    result = interpret(adapted(), "w2 new w3", optimization=FEW)
    assert result.unknown == ("new",)
    assert result.tokens == ("w2", "new", "w3")


def hugging_face() -> Tokenizer:
    names = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{f"w{i}": i for i in range(4, 30)}}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


class Fast:
    """As a fast tokenizer of transformers answers."""

    def __init__(self) -> None:
        self.backend_tokenizer = hugging_face()
        self.all_special_ids = [0, 1, 2, 3]

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab()

    def __call__(self, text: str, **wanted: bool) -> dict[str, list]:
        assert wanted == {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        found = self.backend_tokenizer.encode(text)
        return {
            "input_ids": found.ids,
            "offset_mapping": found.offsets,
            "special_tokens_mask": found.special_tokens_mask,
        }


@pytest.mark.parametrize("tokenizer", [hugging_face(), Fast()], ids=["tokenizers", "transformers"])
def test_special_tokens_are_never_explained(tokenizer):
    model = adapted(words=None, tokenizer=tokenizer)
    result = interpret(model, "w5 Neues w6", locations=10, optimization=OptimizationConfig(steps=50))
    assert result.tokens == ("[CLS]", "w5", "Neues", "w6", "[SEP]")
    assert result.unknown == ("Neues",)
    assert result.dropped == {}
    assert {token for each in result.locations for token in each.tokens} == {"w5", "Neues", "w6"}
    assert all(set(each.token_indices) <= {1, 2, 3} for each in result.locations)
    assert not {word for each in result.locations for word, _ in each.neighbors} & {"[CLS]", "[SEP]", "[PAD]", "[UNK]"}
    for each in result.locations:
        assert sum(each.token_scores) + each.rest_score == pytest.approx(each.score, abs=1e-5)
    # A location that sees special tokens alone is none.
    assert interpret(model, "", optimization=FEW).locations == ()


def test_special_tokens_stay_where_words_stand_for_the_others():
    model = adapted(words=None, tokenizer=hugging_face())
    background = fit_background(model, [f"w{i} w{i + 1} w{i + 2} w{i + 3}" for i in range(4, 26)])
    result = interpret(model, "w5 w9 w6", answers=["stands_out"], background=background, locations=3)
    whitening, module = background.layer(model, 0).whitening(), model.module
    rows = [2, 5, 9, 6, 3]
    assert len(result.locations) == 3
    for location in result.locations:
        said = list(rows)
        for place, (word, _) in zip(location.token_indices, location.position_words, strict=True):
            assert word.startswith("w")
            said[place] = int(word[1:])
        vectors = module.embedding(torch.tensor([rows, said])).transpose(1, 2)
        hidden = functional.relu(module.conv(vectors))[:, :, location.index].detach().double()
        one, other = (hidden - whitening.mean) @ whitening.factor
        assert location.likeness == pytest.approx(float(functional.cosine_similarity(one, other, dim=0)), abs=1e-5)


def test_every_kind_of_tokenizer_gives_the_same():
    rows = {word: row for row, word in enumerate(WORDS)}
    spans = [(3 * i, 3 * i + 2) for i in range(6)]
    kinds = {
        "tokens": str.split,
        "ids": lambda text: [rows[word] for word in text.split()],
        "a tensor": lambda text: torch.tensor([rows[word] for word in text.split()]),
        "padded ids": lambda text: [*(rows[word] for word in text.split()), 0, 0],
        "ids and offsets": lambda text: ([rows[word] for word in text.split()], spans),
        "one of ours": SimpleNamespace(read=lambda text: TokenizedText(tuple(text.split()))),
    }
    results = [interpret(adapted(tokenizer=tokenizer), TEXT, optimization=FEW) for tokenizer in kinds.values()]
    for kind, result in zip(kinds, results, strict=True):
        for location in result.locations:  # only offsets say where a token stands in the text
            place = location.token_indices
            assert location.spans == (tuple(spans[i] for i in place) if kind == "ids and offsets" else ())
        alike = tuple(replace(location, spans=()) for location in result.locations)
        assert replace(result, locations=alike) == results[0]
    assert results[0].tokens == tuple(TEXT.split())


def test_offsets_say_what_was_dropped():
    model = adapted(tokenizer=lambda text: ([2, 3], [(0, 2), (4, 6)]))
    result = interpret(model, "AB! CD ?", optimization=FEW)
    assert result.tokens == ("AB", "CD")
    assert result.dropped == {"!": 1, "?": 1}


@pytest.mark.parametrize("padding", [0, 7, 29])
def test_padding_stands_at_any_row(padding: int):
    """The same module with its rows in another order gives the same."""
    module = seeded(Plain, padding=None)
    with torch.no_grad():
        module.embedding.weight[0] = 0
    order = torch.arange(30)
    order[[0, padding]] = order[[padding, 0]]
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.embedding.weight.copy_(module.embedding.weight[order])
    moved = [WORDS[i] for i in order.tolist()]
    texts = [TEXT, "w2", ""]
    expected = interpret(adapted(module, length=8), texts, optimization=OptimizationConfig(steps=30))
    model = adapted(other, words=moved, padding_id=padding, length=8)
    for mine, its in zip(interpret(model, texts, optimization=OptimizationConfig(steps=30)), expected, strict=True):
        torch.testing.assert_close(mine.saliency, its.saliency)
        assert [each.tokens for each in mine.locations] == [each.tokens for each in its.locations]
        assert len(mine.saliency) == 8


def test_a_twin_with_shuffled_weights_has_the_same_numbers_in_another_order():
    module = seeded(KimConv1d, len(WORDS))
    model = adapted(module)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    twin, again, other = (model.with_shuffled_weights(seed) for seed in (3, 3, 4))
    for name, weight in twin.module.state_dict().items():
        assert torch.equal(module.state_dict()[name], before[name])
        assert torch.equal(again.module.state_dict()[name], weight)
        torch.testing.assert_close(weight.flatten().sort().values, before[name].flatten().sort().values)
        if weight.numel() > 6:
            kept = "embedding" in name
            assert torch.equal(weight, before[name]) == kept
            assert torch.equal(other.module.state_dict()[name], weight) == kept
    own, others = interpret(model, TEXT, optimization=FEW), interpret(twin, TEXT, optimization=FEW)
    assert own.path == others.path == "kernels"
    assert not torch.equal(own.saliency, others.saliency)
    assert interpret(model, TEXT, optimization=FEW) == own


def test_a_module_that_takes_short_texts_alone_says_which_length_to_give():
    class Short(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("positions", torch.randn(40, WIDTH))

        def forward(self, ids: Tensor) -> Tensor:
            hidden = self.embedding(ids) + self.positions[: ids.shape[1]]
            return self.fc(functional.relu(self.conv(hidden.transpose(1, 2))).amax(dim=2))

    with pytest.raises(ValueError, match=r"expected one that takes texts of 48 tokens, got one that takes 40 .*=40 "):
        adapted(seeded(Short))
    short, long = interpret(adapted(seeded(Short), length=40), [TEXT, "w2 " * 90], optimization=FEW)
    assert (short.truncated, long.truncated) == (False, True)


def test_a_module_that_needs_more_than_ids_says_how_to_call_it():
    class Masked(Plain):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return super().forward(ids * mask)

    with pytest.raises(ValueError, match=r"module: expected one that is called with ids alone, got .*'mask'; forward="):
        adapted(seeded(Masked))
    model = adapted(seeded(Masked), forward=lambda module, ids, lengths: module(ids, torch.ones_like(ids)))
    assert interpret(model, TEXT, optimization=FEW) == interpret(adapted(), TEXT, optimization=FEW)


class LinearUponAll(Plain):
    """Takes texts of twelve tokens alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6 * 12, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(functional.relu(self.conv(self.embedding(ids).transpose(1, 2))).flatten(1))


class WithPositions(Plain):
    """Takes texts of twelve tokens; of one too, whose vector is added to each row of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(12, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = functional.relu(self.conv((self.embedding(ids) + self.positions).transpose(1, 2)))
        return self.fc(hidden.amax(dim=2))


@pytest.mark.parametrize("kind", [LinearUponAll, WithPositions])
def test_a_module_that_takes_one_length_alone_is_given_that(kind: type[nn.Module]):
    module = seeded(kind)
    model = adapted(module)
    assert (model.length, model.path(0).name) == (12, "kernels" if kind is LinearUponAll else "module")
    short, long = interpret(model, [TEXT, " ".join(WORDS[2:20])], optimization=FEW)
    assert (short.truncated, long.truncated) == (False, True)
    for result, ids in ((short, [*range(2, 8), *[0] * 6]), (long, [*range(2, 14)])):
        hidden: list[Tensor] = []
        hook = module.conv.register_forward_hook(lambda *call, kept=hidden: kept.append(call[2]))
        scores = module(torch.tensor([ids]))
        hook.remove()
        activations = functional.relu(hidden[0])
        weight = torch.autograd.grad(scores.max(), hidden[0])[0]
        torch.testing.assert_close(result.saliency, (weight * activations).sum(dim=1)[0].detach())
        assert result.probability == pytest.approx(float(scores.detach().softmax(dim=1).max()), abs=1e-6)


def test_a_vector_of_padding_that_is_not_zero_is_seen_as_it_is():
    module = seeded(Plain, padding=None)
    model = adapted(module, length=9)
    result = interpret(model, "w2 w3", optimization=FEW)
    ids = torch.tensor([[2, 3, *[0] * 7]])
    hidden = functional.relu(module.conv(module.embedding(ids).transpose(1, 2)))
    scores = module.fc(hidden.amax(dim=2))
    (gradient,) = torch.autograd.grad(scores.max(), hidden)
    torch.testing.assert_close(result.saliency, (gradient * hidden).sum(dim=1)[0].detach())
    assert result.probability == pytest.approx(float(scores.detach().softmax(dim=1).max()), abs=1e-6)
    for each in result.locations:
        assert sum(each.token_scores) + each.rest_score == pytest.approx(each.score, abs=1e-5)


def test_sentences_shorter_than_the_widest_filter_are_padded_to_it():
    module = seeded(KimConv2d, len(WORDS)).eval()
    words = ["<a>", "<unk>", *WORDS[2:-1], "<pad>"]
    model = adapted(module, words=words, padding_id=29, forward=lambda module, ids, lengths: module((ids, lengths)))
    result = interpret(model, "w4", layer="convs.2", optimization=FEW)
    expected = module((torch.tensor([[4, 29, 29, 29, 29]]), None))
    assert result.probability == pytest.approx(float(expected.softmax(dim=1).max()), abs=1e-6)
    assert [each.tokens for each in result.locations] == [("w4",)]


def test_a_single_output_is_the_second_of_two_classes():
    model = adapted(seeded(OneSigmoid, len(WORDS)), classes=("no", "yes"))
    result = interpret(model, TEXT, optimization=FEW)
    share = float(model.module.eval()(torch.arange(2, 8)[None]))
    assert result.label == ("yes" if share > 0.5 else "no")
    assert result.probability == pytest.approx(max(share, 1 - share), abs=1e-6)
    other = interpret(model, TEXT, target="no" if share > 0.5 else "yes", optimization=FEW)
    torch.testing.assert_close(other.saliency, -result.saliency)


class Labels(Plain):
    def forward(self, ids: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(ids))


def test_several_labels_have_probabilities_of_their_own():
    module = seeded(Labels, 3)
    model = adapted(module, classes=("a", "b", "c"))
    logits = seeded(Plain, 3)(torch.arange(2, 8)[None])[0]
    for target in "abc":
        result = interpret(model, TEXT, target=target, optimization=FEW)
        assert result.target == target
        assert result.probability == pytest.approx(float(logits.sigmoid().max()), abs=1e-6)
    plain = adapted(seeded(Plain, 3), multilabel=True)
    assert interpret(plain, TEXT, optimization=FEW).probability == pytest.approx(
        float(logits.sigmoid().max()), abs=1e-6
    )
    assert plain.classes == ("class 0", "class 1", "class 2")
    versus = interpret(plain, TEXT, target=0, versus=2, optimization=FEW).saliency
    one, two = (interpret(plain, TEXT, target=target, optimization=FEW).saliency for target in (0, 2))
    torch.testing.assert_close(versus, one - two)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_explained_in_a_float32_copy(kind: torch.dtype):
    module = seeded(Plain).to(kind)
    model = adapted(module)
    result = interpret(model, TEXT, optimization=FEW)
    name = str(kind).removeprefix("torch.")
    assert result.reason.endswith(f"; in a float32 copy of the {name} module")
    assert module.conv.weight.dtype == kind
    expected = interpret(adapted(seeded(Plain).to(kind).float()), TEXT, optimization=FEW)
    torch.testing.assert_close(result.saliency, expected.saliency)


def test_wrappers_are_taken_off_and_scripts_refused():
    module = seeded(Plain)
    expected = interpret(adapted(module), TEXT, optimization=FEW)
    for wrapped in (torch.compile(module), nn.DataParallel(module), nn.DataParallel(torch.compile(module))):
        assert interpret(adapted(wrapped), TEXT, optimization=FEW) == expected
    with pytest.raises(ValueError, match="module: expected one whose calls can be followed, got a torch.jit module"):
        adapted(torch.jit.script(module))


class LengthFirst(Plain):
    """As torchtext's models were: ids and embedding are (L, B)."""

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids.t())
        return self.fc(functional.relu(self.conv(embedded.permute(1, 2, 0))).amax(dim=2))


class Packed(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(ids), lengths.cpu(), True, False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.fc(functional.relu(self.conv(hidden.transpose(1, 2))).amax(dim=2))


def test_an_embedding_over_positions_first_gives_the_same():
    expected = interpret(adapted(), [TEXT, "w3 w2"], optimization=FEW)
    assert interpret(adapted(seeded(LengthFirst)), [TEXT, "w3 w2"], optimization=FEW) == expected


def test_packed_sequences_see_the_whole_text():
    model = adapted(seeded(Packed), forward=lambda module, ids, lengths: module(ids, lengths))
    results = interpret(model, [TEXT, "w3 w2"], optimization=FEW)
    assert results[0].path == "module"
    assert results[0].reason.endswith("each location sees the whole text")
    assert [len(each.tokens) for result in results for each in result.locations] == [6, 6, 6, 2, 2]


def test_a_changed_weight_is_noticed():
    model = adapted()
    before, mark = interpret(model, TEXT, optimization=FEW), model.fingerprint()
    with torch.no_grad():
        model.module.conv.weight.mul_(2)
    after = interpret(model, TEXT, optimization=FEW)
    assert not torch.equal(before.saliency, after.saliency)
    assert model.fingerprint() != mark
    with torch.no_grad():
        model.module.fc.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"model: fc.weight holds NaN or infinite values"):
        interpret(model, TEXT)


def test_gradients_and_frozen_weights_are_left_alone():
    module = seeded(PooledResidual, len(WORDS)).requires_grad_(False)
    module.fc.weight.requires_grad_(True)
    module.fc(torch.ones(1, 8)).sum().backward()
    before = module.fc.weight.grad.clone()
    interpret(adapted(module), TEXT, optimization=FEW)
    assert torch.equal(module.fc.weight.grad, before)
    assert [name for name, weight in module.named_parameters() if weight.requires_grad] == ["fc.weight"]


@pytest.mark.parametrize("kind", [Plain, PooledResidual])
def test_inference_mode_changes_nothing(kind: type[nn.Module]):
    model = adapted(seeded(kind, *([len(WORDS)] if kind is PooledResidual else [])))
    expected = interpret(model, TEXT, optimization=FEW)
    with torch.inference_mode():
        assert interpret(model, TEXT, optimization=FEW) == expected
        made = adapted(seeded(kind, *([len(WORDS)] if kind is PooledResidual else [])))
        found = interpret(made, TEXT, optimization=FEW)
    assert found.reason.endswith("; in a copy of the module, whose weights were made in inference mode")
    torch.testing.assert_close(found.saliency, expected.saliency)


class Odd(Plain):
    """Looks like a convolution on the way, but is scaled by the text's length."""

    def forward(self, ids: Tensor) -> Tensor:
        hidden = functional.relu(self.conv(self.embedding(ids).transpose(1, 2)))
        return self.fc((hidden / ids.shape[1]).amax(dim=2))


class Scaled(Plain):
    def forward(self, ids: Tensor) -> Tensor:
        with torch.no_grad():
            scale = 1.0 if ids.shape[1] == 40 else 2.0
        return self.fc(functional.relu(self.conv(self.embedding(ids).transpose(1, 2) * scale)).amax(dim=2))


def test_what_does_not_reproduce_the_module_is_not_used():
    assert adapted(seeded(Odd)).path(0).name == "kernels"  # what follows the layer is the module's own affair
    path = adapted(seeded(Scaled)).path(0)
    assert path.name == "module"
    assert path.reason == "mul stands between the embedding and it"


def test_batches_change_nothing_and_a_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]):
    model, texts = adapted(), [TEXT, "w2 w3", "w9", "", "w4 w4 w4"]
    expected = interpret(model, texts, optimization=FEW)
    assert interpret(model, texts, optimization=FEW, batch_size=2) == expected
    assert "Interpreting" not in capsys.readouterr().err
    assert interpret(model, texts, optimization=FEW, batch_size=1, show_progress=True) == expected
    shown = capsys.readouterr()
    assert "Interpreting" in shown.err
    assert shown.out == ""
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        interpret(model, texts, batch_size=0)

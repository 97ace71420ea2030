"""fastinterp reproduce: models of several seeds trained and measured, beside the paper's figures, as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from fastinterp.cli.options import device_option
from fastinterp.cli.steps import Step, Steps
from fastinterp.cli.workflow import CORPUS_VECTORS, train_on_corpus
from fastinterp.data.corpora import load_corpus
from fastinterp.data.splits import Corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.display.progress import ProgressReport
from fastinterp.display.reproduction import replace_section, section
from fastinterp.display.screen import Screen
from fastinterp.errors import ModelError
from fastinterp.evaluation.answers_table import measure_answers
from fastinterp.evaluation.bootstrap import SentenceSums
from fastinterp.evaluation.over_seeds import background_agreement, row_record, sums_record
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.background import draw_texts, fit_background
from fastinterp.models.config import ModelConfig
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.storage import load_metrics, load_model
from fastinterp.text.vocabulary import SPECIAL_WORDS
from fastinterp.training.trainer import TrainingConfig
from fastinterp.validation import integer

# How many sentences are explained in each layer: by Adam the layers above the first take minutes a hundred sentences.
SENTENCES = {"mr": (1066, 1066, 1066), "ag_news": (1000, 200, 100, 50)}
ABLATIONS: dict[str, dict[str, Any]] = {
    "no word dropout": {"word_dropout": 0.0},
    "no averaging": {"averaging": 0.0},
    "neither": {"word_dropout": 0.0, "averaging": 0.0},
}
ABLATED_SEEDS = {"mr": None, "ag_news": 1}  # None: all of them
OTHER_BACKGROUND = 200  # sentences whose words are compared between two backgrounds


def _per_layer(context: click.Context, parameter: click.Parameter, listed: str | None) -> tuple[int, ...] | None:
    if listed is None:
        return None
    try:
        return tuple(integer("sentences", int(part), least=1) for part in listed.split(","))
    except ValueError:
        raise ValueError(f"sentences: expected positive numbers, one a layer, got {listed!r}") from None


@click.command("reproduce")
@click.argument("corpus", type=click.Choice(sorted(SENTENCES)))
@click.option("--seeds", default=3, show_default=True, help="So many models, of seeds 0, 1, 2, ...")
@click.option(
    "--sentences",
    callback=_per_layer,
    help="Sentences explained in each layer, such as 1000,200,100,50, the default for ag_news; for mr all. One number "
    "goes for all layers.",
)
@click.option(
    "--ablation",
    is_flag=True,
    help="Train without our additions too: three more models for every seed of mr, for the first seed of ag_news.",
)
@click.option(
    "--vectors",
    default=DEFAULT_VECTORS,
    show_default=True,
    help=f"As train takes them; {CORPUS_VECTORS!r} learns them.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("reproduction"),
    show_default=True,
    help="Keeps models and finished steps; a second run goes on from there.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Markdown file; default: reproduction.md in the folder."
)
@device_option
def command(
    corpus: str,
    seeds: int,
    sentences: tuple[int, ...] | None,
    ablation: bool,
    vectors: str,
    folder: Path,
    output: Path | None,
    device: str,
) -> None:
    """Train models on CORPUS with the paper's settings, measure them, and write the paper's tables beside ours.

    One model of mr takes ten to twenty minutes on two cores to train and as long to measure, one of ag_news about
    twice that. Every finished step is kept. The output's section of this corpus is written anew after each seed, its
    other text stays.
    """
    integer("seeds", seeds, least=1)
    report = output or folder / "reproduction.md"
    replace_section(report, corpus, None)  # what cannot be written is said before hours of work
    Reproduction(corpus, seeds, sentences, ablation, vectors, folder / corpus, report, device).run()


class Reproduction:
    """All steps of one corpus, and the report of those that are done."""

    def __init__(
        self,
        name: str,
        seeds: int,
        sentences: tuple[int, ...] | None,
        ablation: bool,
        vectors: str,
        folder: Path,
        report: Path,
        device: str,
    ) -> None:
        self.name, self.vectors, self.folder, self.report, self.device = name, vectors, folder, report, device
        self.screen = Screen(stderr=True)
        self.corpus: Corpus = load_corpus(name)
        self.shape = ModelConfig.preset(name, self.corpus.train.classes)
        self.optimization = OptimizationConfig.preset(name)
        wanted = SENTENCES[name] if sentences is None else sentences
        if len(wanted) not in (1, self.shape.layers):
            raise ValueError(f"sentences: expected one number or {self.shape.layers}, got {len(wanted)}")
        self.sentences = wanted * (self.shape.layers // len(wanted))
        self.seeds = range(seeds)
        self.ablated = range(0 if not ablation else min(seeds, ABLATED_SEEDS[name] or seeds))
        self.steps = Steps(folder, self._plan(), self.screen)

    def run(self) -> None:
        """Does what is not done yet."""
        models: list[dict[str, Any]] = []
        variants: dict[str, list[dict[str, Any]]] = {}
        for seed in self.seeds:
            models.append(self._model(f"seed-{seed}", TrainingConfig.preset(self.name), seed, range(self.shape.layers)))
            self._report(models, variants)
        for seed in self.ablated:
            for variant, changes in ABLATIONS.items():
                config = dataclasses.replace(TrainingConfig.preset(self.name), **changes)
                found = self._model(_variant_step(variant, seed), config, seed, range(0))
                variants.setdefault(variant, []).append(found)
            self._report(models, variants)
        self.screen.say(f"Report in {self.report}")

    def _plan(self) -> list[Step]:
        plan = []
        for seed in self.seeds:
            plan.append(Step(f"seed-{seed}", "train", f"training the model of seed {seed}"))
            plan += [
                Step(f"seed-{seed}-layer-{layer}", f"layer {layer}", f"measuring layer {layer + 1} of seed {seed}")
                for layer in range(self.shape.layers)
            ]
            plan.append(Step(f"seed-{seed}-backgrounds", "backgrounds", f"another background for seed {seed}"))
        for seed in self.ablated:
            for variant in ABLATIONS:
                name = _variant_step(variant, seed)
                plan.append(Step(name, "train", f"training with {variant}, seed {seed}"))
                plan.append(Step(f"{name}-layer-0", "ablation", f"measuring it ({variant}, seed {seed})"))
        return plan

    def _model(self, name: str, config: TrainingConfig, seed: int, layers: range) -> dict[str, Any]:
        """Trains and measures one model; without layers to measure wholly, the first is measured shortly."""
        trained = self._trained(name, dataclasses.replace(config, seed=seed))
        model = _LazyModel(self.folder / name, trained["fingerprint"], self.device)
        tables = [self._measured(name, model, layer, everything=layer == 0) for layer in layers]
        if not layers:
            return {"trained": trained, "layers": [self._measured(name, model, 0, everything=False)]}
        return {"trained": trained, "layers": tables, "backgrounds": self._backgrounds(name, model)}

    def _trained(self, name: str, config: TrainingConfig) -> dict[str, Any]:
        settings = {
            "training": dataclasses.asdict(config),
            "shape": self.shape.to_fields(),
            "vectors": self.vectors,
            "train": self.corpus.train.fingerprint(),
            "test": self.corpus.test.fingerprint(),
        }

        def compute() -> dict[str, Any]:
            place = self.folder / name
            model = train_on_corpus(self.corpus, self.name, self.shape, config, self.vectors, place, self.device)
            metrics = load_metrics(place)
            scores = model.class_scores(model.read(self.corpus.test.texts).ids)
            right = (scores.argmax(dim=1) == torch.tensor(self.corpus.test.labels)).double()
            return {
                "fingerprint": model.fingerprint(),
                "words": len(model.words) - len(SPECIAL_WORDS),
                "accuracy": sums_record(SentenceSums.of(right, None, len(right))),
                "epochs": len(metrics["training_losses"]),
                "best_epoch": metrics["best_epoch"],
                "vectors": metrics["vectors"],
                "coverage": metrics["vector_coverage"],
                "dimension": int(model.word_vectors.shape[1]),
            }

        return self.steps.run(name, settings, compute)

    def _measured(self, name: str, model: _LazyModel, layer: int, everything: bool) -> dict[str, Any]:
        texts = draw_texts(self.corpus.test.texts, self.sentences[layer], 0)
        optimization = dataclasses.asdict(self.optimization)
        settings = {
            "model": model.fingerprint,
            "sentences": len(texts),
            "optimization": optimization,
            "everything": everything,
        }

        def compute() -> dict[str, Any]:
            with ProgressReport(self.screen) as progress:
                table = measure_answers(
                    model.load(),
                    texts,
                    layer,
                    optimization=self.optimization,
                    everything=everything,
                    on_step=lambda step: progress.show(f"Layer {layer + 1}: {step}"),
                )
            return {
                "layer": layer,
                "sentences": len(texts),
                "locations": table.locations,
                "answers": [row_record(row) for row in table.rows],
                "faithfulness": [row_record(row) for row in table.faithfulness],
            }

        return self.steps.run(f"{name}-layer-{layer}", settings, compute)

    def _backgrounds(self, name: str, model: _LazyModel) -> dict[str, Any]:
        texts = draw_texts(self.corpus.test.texts, OTHER_BACKGROUND, 0)
        settings = {"model": model.fingerprint, "sentences": len(texts)}

        def compute() -> dict[str, Any]:
            found = []
            with ProgressReport(self.screen) as progress:
                progress.show("Fitting another background")
                other = fit_background(model.load(), self.corpus.train.texts, seed=1)
                for layer in range(self.shape.layers):
                    progress.show("Comparing words between backgrounds", layer, self.shape.layers)
                    found.append(sums_record(background_agreement(model.load(), texts, other, layer)))
            return {"sentences": len(texts), "agreement": found}

        return self.steps.run(f"{name}-backgrounds", settings, compute)

    def _report(self, models: Sequence[dict[str, Any]], variants: dict[str, list[dict[str, Any]]]) -> None:
        facts = {
            "corpus": self.name,
            "train": len(self.corpus.train),
            "test": len(self.corpus.test),
            "training": dataclasses.asdict(TrainingConfig.preset(self.name)),
            "dropout": self.shape.dropout,
            "optimization": dataclasses.asdict(self.optimization),
        }
        replace_section(self.report, self.name, section(facts, models, variants))


def _variant_step(variant: str, seed: int) -> str:
    return f"{variant.replace(' ', '-')}-seed-{seed}"


class _LazyModel:
    """A trained model that is loaded when a step needs it.

    Args:
        folder: of the model.
        fingerprint: which it must have.
        device: where it is to work.
    """

    def __init__(self, folder: Path, fingerprint: str, device: str) -> None:
        self.folder, self.fingerprint, self.device = folder, fingerprint, device
        self._model: ConvTextModel | None = None

    def load(self) -> ConvTextModel:
        """Returns the model.

        Raises:
            ModelError: it cannot be loaded, or is another one than was trained.
        """
        if self._model is None:
            model = load_model(self.folder, self.device)
            if model.fingerprint() != self.fingerprint:
                raise ModelError(
                    f"{self.folder}: not the model that was trained; delete {self.folder}.json to train it again"
                )
            self._model = model
        return self._model

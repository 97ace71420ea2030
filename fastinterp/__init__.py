"""Which hidden locations decide a text CNN's prediction, what they detect, and what that means in words."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastinterp import evaluation as evaluate
    from fastinterp.data.corpora import load_corpus
    from fastinterp.data.word_vectors import WordVectors, embed_vocabulary, load_vectors, train_vectors
    from fastinterp.errors import DataError, DownloadError, FastinterpError, ModelError, TrainingError
    from fastinterp.evaluation.audit import Audit, audit
    from fastinterp.kernels import ops, reference
    from fastinterp.kernels.problems import OptimizationConfig, Problems
    from fastinterp.method.activation_index import build_index
    from fastinterp.method.background import Background, fit_background
    from fastinterp.method.contrast import ContrastConfig
    from fastinterp.method.evidence import ActivationIndex, Evidence
    from fastinterp.method.index_storage import load_index, save_index
    from fastinterp.method.interpretation import interpret
    from fastinterp.method.optimization import optimize_inputs
    from fastinterp.method.optimized import OptimizedInputs
    from fastinterp.method.position_words import PositionConfig
    from fastinterp.method.results import Interpretation, Location
    from fastinterp.method.saliency import Saliency, saliency
    from fastinterp.method.words import nearest_words
    from fastinterp.models.adapt import AdaptedModel, adapt
    from fastinterp.models.config import ModelConfig
    from fastinterp.models.conv import ConvTextModel
    from fastinterp.models.storage import load_model, save
    from fastinterp.text.choice import make_tokenizer
    from fastinterp.text.kim import tokenize
    from fastinterp.text.vocabulary import Vocabulary
    from fastinterp.training.trainer import TrainingConfig, train_model

# Where each public name lives. They are imported when first asked for: gensim and scikit-learn alone would double the
# time of `import fastinterp`, and whoever interprets needs neither.
_NAMES = {
    "fastinterp.data.corpora": ("load_corpus",),
    "fastinterp.data.word_vectors": ("WordVectors", "embed_vocabulary", "load_vectors", "train_vectors"),
    "fastinterp.errors": ("DataError", "DownloadError", "FastinterpError", "ModelError", "TrainingError"),
    "fastinterp.evaluation.audit": ("Audit", "audit"),
    "fastinterp.method.activation_index": ("build_index",),
    "fastinterp.method.background": ("Background", "fit_background"),
    "fastinterp.method.contrast": ("ContrastConfig",),
    "fastinterp.method.evidence": ("ActivationIndex", "Evidence"),
    "fastinterp.method.index_storage": ("load_index", "save_index"),
    "fastinterp.method.interpretation": ("interpret",),
    "fastinterp.method.position_words": ("PositionConfig",),
    "fastinterp.method.results": ("Interpretation", "Location"),
    "fastinterp.kernels.problems": ("OptimizationConfig", "Problems"),
    "fastinterp.method.optimization": ("optimize_inputs",),
    "fastinterp.method.optimized": ("OptimizedInputs",),
    "fastinterp.method.saliency": ("Saliency", "saliency"),
    "fastinterp.method.words": ("nearest_words",),
    "fastinterp.models.adapt": ("AdaptedModel", "adapt"),
    "fastinterp.models.config": ("ModelConfig",),
    "fastinterp.models.conv": ("ConvTextModel",),
    "fastinterp.models.storage": ("load_model", "save"),
    "fastinterp.text.choice": ("make_tokenizer",),
    "fastinterp.text.kim": ("tokenize",),
    "fastinterp.text.vocabulary": ("Vocabulary",),
    "fastinterp.training.trainer": ("TrainingConfig", "train_model"),
}
_MODULES = {
    "evaluate": "fastinterp.evaluation",
    "ops": "fastinterp.kernels.ops",
    "reference": "fastinterp.kernels.reference",
}

__all__ = [
    "ActivationIndex",
    "AdaptedModel",
    "Audit",
    "Background",
    "ContrastConfig",
    "ConvTextModel",
    "DataError",
    "DownloadError",
    "Evidence",
    "FastinterpError",
    "Interpretation",
    "Location",
    "ModelConfig",
    "ModelError",
    "OptimizationConfig",
    "OptimizedInputs",
    "PositionConfig",
    "Problems",
    "Saliency",
    "TrainingConfig",
    "TrainingError",
    "Vocabulary",
    "WordVectors",
    "adapt",
    "audit",
    "build_index",
    "embed_vocabulary",
    "evaluate",
    "fit_background",
    "interpret",
    "load_corpus",
    "load_index",
    "load_model",
    "load_vectors",
    "make_tokenizer",
    "nearest_words",
    "ops",
    "optimize_inputs",
    "reference",
    "saliency",
    "save",
    "save_index",
    "tokenize",
    "train_model",
    "train_vectors",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        found: object = version("fastinterp")
    elif name in _MODULES:
        found = import_module(_MODULES[name])
    else:
        home = next((module for module, names in _NAMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'fastinterp' has no attribute {name!r}")
        found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})

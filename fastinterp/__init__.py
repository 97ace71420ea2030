"""Which hidden locations decide a text CNN's prediction, what they detect, and what that means in words."""

from importlib.metadata import version

from fastinterp import evaluate
from fastinterp.datasets import load_corpus
from fastinterp.errors import DataError, DownloadError, FastinterpError, ModelError
from fastinterp.interpretation import Interpretation, Location, interpret
from fastinterp.model import ConvTextModel, ModelConfig, load_model, save
from fastinterp.neighbors import nearest_words
from fastinterp.optimization import OptimizationConfig, OptimizedInputs, optimize_inputs
from fastinterp.saliency import Saliency, saliency
from fastinterp.text import Vocabulary, tokenize
from fastinterp.training import TrainingConfig, train_model
from fastinterp.vectors import WordVectors, embed_vocabulary, load_vectors, train_vectors

__version__ = version("fastinterp")

__all__ = [
    "ConvTextModel",
    "DataError",
    "DownloadError",
    "FastinterpError",
    "Interpretation",
    "Location",
    "ModelConfig",
    "ModelError",
    "OptimizationConfig",
    "OptimizedInputs",
    "Saliency",
    "TrainingConfig",
    "Vocabulary",
    "WordVectors",
    "embed_vocabulary",
    "evaluate",
    "interpret",
    "load_corpus",
    "load_model",
    "load_vectors",
    "nearest_words",
    "optimize_inputs",
    "saliency",
    "save",
    "tokenize",
    "train_model",
    "train_vectors",
]

"""What was measured with a model and saved beside its weights: the background of its layers, an index for a layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastinterp.method.background import Background, load_background
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.index_storage import load_index
from fastinterp.models.protocol import TextClassifier

BACKGROUND_FILE = "background.safetensors"


def index_file(layer: int) -> str:
    """Returns the name of the file with the index of a layer."""
    return f"index-{layer}.safetensors"


def background_of(model: TextClassifier, given: Background | None = None) -> Background | None:
    """Returns the given background, else the one that was saved with the model, None where there is none.

    Raises:
        ModelError: its file is damaged.
    """
    if given is not None:
        return given
    background: Background | None = _companion(model, BACKGROUND_FILE, load_background)
    return background


def index_of(model: TextClassifier, layer: int, given: ActivationIndex | None = None) -> ActivationIndex | None:
    """Returns the given index, else that of the layer that was saved with the model, None where there is none.

    Raises:
        ModelError: its file is damaged, or the weights have changed since.
    """
    if given is not None:
        return given
    index: ActivationIndex | None = _companion(model, index_file(layer), lambda path: load_index(path, model, layer))
    return index


def _companion(model: TextClassifier, name: str, load: Callable[[Path], Any]) -> Any:
    path = model.companion(name)
    if path is None:
        return None
    kept = model.prepared().kept
    if name not in kept:
        kept[name] = load(path)
    return kept[name]

"""Which texts a model was trained on: 64-bit keys of them, saved with the model, so that `evaluate` can say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.messages import one_line
from fastinterp.method.starts import content_keys
from fastinterp.models.protocol import TextClassifier

TEXTS_FILE = "texts.safetensors"


def save_training_texts(model: TextClassifier, texts: Sequence[str], path: Path) -> None:
    """Writes eight bytes for each different text, as the model reads it: its tokens inside the frame.

    Args:
        model: the classifier.
        texts: that it was trained on.
        path: the file.
    """
    path.write_bytes(safetensors.torch.save({"keys": content_keys(model.read(texts).ids).unique()}))


def trained_on(model: TextClassifier, texts: Sequence[str]) -> Tensor | None:
    """Returns whether the model was trained on each text or on one that it reads as the same, (N,) bool.

    None for a model that was saved without its training texts' keys. Of two texts that differ, one in 2^64 is taken for
    the other.

    Args:
        model: the classifier.
        texts: N raw texts.

    Raises:
        ModelError: the keys' file is damaged.
    """
    path = model.companion(TEXTS_FILE)
    if path is None:
        return None
    try:
        keys = safetensors.torch.load_file(path)["keys"]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"{one_line(path)}: not a file of training texts ({one_line(error)})") from error
    return torch.isin(content_keys(model.read(texts).ids), keys)

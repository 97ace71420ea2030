"""Which tensors a ConvTextModel has, and what may be wrong with given ones."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

import torch
from torch import Tensor

from fastinterp.models.config import ModelConfig
from fastinterp.models.weights import is_finite
from fastinterp.text.vocabulary import PAD


def weight_shapes(config: ModelConfig, words: int) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor in the state of a ConvTextModel with so many words."""
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (words, config.embedding_dimension)}
    for i, (channels, kernel) in enumerate(zip(config.channels, config.kernel_sizes, strict=True)):
        shapes[f"convolutions.{i}.weight"] = (channels, width_below(config, i), kernel)
        shapes[f"convolutions.{i}.bias"] = (channels,)
    shapes["linear.weight"] = (len(config.classes), sum(config.channels[i] for i in config.ends))
    shapes["linear.bias"] = (len(config.classes),)
    return shapes


def width_below(config: ModelConfig, layer: int) -> int:
    """Returns the channels of what a convolution reads."""
    chain = config.chain(layer)
    return config.embedding_dimension if len(chain) == 1 else config.channels[chain[-2]]


def find_fault(
    tensors: Mapping[str, Tensor], config: ModelConfig, words: int, vocabulary_name: str, config_name: str
) -> str | None:
    """Returns how the tensors differ from those that a model needs, in name, shape or dtype; None where they do not.

    Args:
        tensors: by name.
        config: the model's shape.
        words: V, size of the vocabulary.
        vocabulary_name: what the text calls the vocabulary.
        config_name: what the text calls the configuration.
    """
    shapes = weight_shapes(config, words)
    odd = sorted(shapes.keys() ^ tensors.keys())
    if odd:
        return f"expected the tensors that {config_name} describes, missing or unknown: {reprlib.repr(odd)}"
    for name, tensor in tensors.items():
        shape, expected = tuple(tensor.shape), shapes[name]
        if shape != expected:
            rows = name == "embedding.weight" and shape[:1] != expected[:1]
            cause = f"{vocabulary_name} has {words} words" if rows else f"{config_name} says so"
            return f"{name} has shape {reprlib.repr(shape)}, expected {reprlib.repr(expected)} ({cause})"
        if tensor.dtype != torch.float32:
            return f"{name} has dtype {tensor.dtype}, expected torch.float32"
    return None


def check_embedding(embedding: Tensor, size: tuple[int, int]) -> None:
    """Checks word vectors that a model is to start with.

    Args:
        embedding: (V, D) float32, finite, with a zero row for padding.
        size: (V, D).

    Raises:
        TypeError: no tensor.
        ValueError: something else is wrong; the message says what.
    """
    if not isinstance(embedding, Tensor):
        raise TypeError(f"embedding: expected a tensor, got {type(embedding).__name__}")
    if tuple(embedding.shape) != size:
        raise ValueError(f"embedding: expected shape {size}, one row per word, got {tuple(embedding.shape)}")
    if embedding.dtype != torch.float32:
        raise ValueError(f"embedding: expected dtype torch.float32, got {embedding.dtype}")
    if not is_finite(embedding):
        raise ValueError("embedding: expected finite values, got NaN or infinity")
    if embedding[PAD].any():
        raise ValueError(f"embedding: expected zeros in row {PAD}, the vector of the padding")

"""An activation index as one safetensors file, which is mapped into memory when it is loaded."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.messages import one_line
from fastinterp.method.background import Whitening
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.reference_corpus import PackedStrings, ReferenceCorpus
from fastinterp.models.protocol import TextClassifier
from fastinterp.models.receptive_field import ReceptiveField
from fastinterp.validation import got, integer, number

FORMAT, FORMAT_VERSION = "fastinterp-index", 1
# safetensors writes several entries in an order that changes from one save to the next, so there is only one.
_ENTRY = "fastinterp"
_DTYPES = {
    "vectors": torch.float32,
    "sentence": torch.int64,
    "location": torch.int64,
    "mean": torch.float64,
    "factor": torch.float64,
    "texts": torch.uint8,
    "text_starts": torch.int64,
    "labels": torch.int32,
    "words": torch.uint8,
    "word_starts": torch.int64,
    "tokens": torch.int32,
    "token_starts": torch.int64,
}


def save_index(index: ActivationIndex, path: str | Path) -> None:
    """Writes the index into one file; all or nothing, also when killed. An older file is replaced.

    Raises:
        ModelError: the file cannot be written.
    """
    corpus = index.corpus
    tensors = {
        "vectors": index.vectors,
        "sentence": index.sentence,
        "location": index.location,
        "mean": index.whitening.mean,
        "factor": index.whitening.factor,
        "texts": corpus.texts.characters,
        "text_starts": corpus.texts.starts,
        "labels": corpus.labels,
        "words": corpus.words.characters,
        "word_starts": corpus.words.starts,
        "tokens": corpus.tokens,
        "token_starts": corpus.starts,
    }
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fingerprint": index.fingerprint,
        "layer": index.layer,
        "shrinkage": index.shrinkage,
    }
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contiguous, {_ENTRY: json.dumps(about)})
    target = Path(path)
    staged = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.partial")
    try:
        try:
            with staged.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, target)
        finally:
            with contextlib.suppress(OSError, ValueError):
                staged.unlink()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or a path without a name
        cause = one_line(getattr(error, "strerror", None) or error)
        raise ModelError(f"{one_line(target)}: cannot be written ({cause})") from error


def load_index(path: str | Path, model: TextClassifier, layer: int) -> ActivationIndex:
    """Returns the index that `save_index` wrote. Its vectors are read from the file when they are searched.

    Args:
        path: the file; it may be replaced, but must not be written into, while the index is in use.
        model: the model that it was built with.
        layer: the layer that it was built for.

    Raises:
        ValueError: the model has no such layer.
        ModelError: no such file, a damaged one, or the index of another model or layer; the message names the file.
    """
    field, channels = model.field(layer), model.channels(layer)
    place = Path(path)
    about, tensors = _read(place)
    try:
        shrinkage = _check_about(about, model, layer)
        _check_tensors(tensors, channels, field, model)
    except ValueError as error:
        raise ModelError(f"{one_line(place)}: {one_line(error)}") from error
    factor = tensors["factor"]
    return ActivationIndex(
        vectors=tensors["vectors"],
        sentence=tensors["sentence"],
        location=tensors["location"],
        corpus=ReferenceCorpus(
            texts=PackedStrings(tensors["texts"], tensors["text_starts"]),
            labels=tensors["labels"],
            words=PackedStrings(tensors["words"], tensors["word_starts"]),
            tokens=tensors["tokens"],
            starts=tensors["token_starts"],
        ),
        whitening=Whitening(tensors["mean"], factor @ factor.T, factor),
        shrinkage=shrinkage,
        layer=layer,
        before=field.before,
        width=field.rows(tensors["token_starts"].diff()),
        stride=field.stride,
        length=model.length,
        classes=tuple(model.classes),
        fingerprint=model.fingerprint(),
    )


def _read(path: Path) -> tuple[object, dict[str, Tensor]]:
    """Returns what the file says about itself, and its tensors, which stay in the file."""
    try:
        if not path.is_file():  # opening a named pipe would wait for ever
            raise ModelError(f"{one_line(path)}: not an index, there is no such file")
        with path.open("rb"):  # where this fails, its reason is the right one; safetensors' may not be
            pass
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_ENTRY)
            if entry is None or set(file.keys()) != set(_DTYPES):
                raise ModelError(f"{one_line(path)}: not an index of fastinterp")
            return json.loads(entry), {name: file.get_tensor(name) for name in _DTYPES}
    except OSError as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({error.strerror or one_line(error)})") from error
    except MemoryError as error:
        raise ModelError(f"{one_line(path)}: does not fit into memory") from error
    except (SafetensorError, ValueError, RecursionError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        # ValueError and RecursionError: of JSON, and of a null byte in the path. The last four are for dtypes that
        # torch has not and for sizes beyond its integers.
        raise ModelError(f"{one_line(path)}: damaged or not a safetensors file ({one_line(error)})") from error


def _check_about(about: object, model: TextClassifier, layer: int) -> float:
    """Returns the shrinkage; raises ValueError where the file is not the index of this layer of this model."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("not an index of fastinterp")
    if about.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"this fastinterp reads version {FORMAT_VERSION}, got {got(about.get('format_version'))}")
    if about.get("fingerprint") != model.fingerprint():
        raise ValueError("the index was built with another model; build_index makes one")
    if integer("layer", about.get("layer")) != layer:
        raise ValueError(f"expected an index of layer {layer}, got one of layer {about['layer']}")
    return number("shrinkage", about.get("shrinkage"), above=0)


def _check_tensors(tensors: dict[str, Tensor], channels: int, field: ReceptiveField, model: TextClassifier) -> None:
    """Raises ValueError where the tensors do not fit each other or the model; does not look at the vectors' values."""
    count, sentences = len(tensors["vectors"]), len(tensors["labels"])
    shapes = {
        "vectors": (count, channels),
        "sentence": (count,),
        "location": (count,),
        "mean": (channels,),
        "factor": (channels, channels),
        "text_starts": (sentences + 1,),
        "labels": (sentences,),
        "token_starts": (sentences + 1,),
    }
    for name, tensor in tensors.items():
        shape = shapes.get(name, (tensor.numel(),))
        if tensor.dtype != _DTYPES[name] or tuple(tensor.shape) != shape:
            raise ValueError(
                f"damaged: {name}: expected {_DTYPES[name]} of shape {shape}, got {tensor.dtype} of shape "
                f"{tuple(tensor.shape)}"
            )
    for name, parts in (("text_starts", "texts"), ("word_starts", "words"), ("token_starts", "tokens")):
        starts = tensors[name]
        ends = [*starts[:1].tolist(), *starts[-1:].tolist()]
        if ends != [0, len(tensors[parts])] or (starts[1:] < starts[:-1]).any():
            raise ValueError(f"damaged: {name}: expected ascending starts of {len(tensors[parts])} {parts}")
    for parts, name in (("texts", "text_starts"), ("words", "word_starts")):
        _check_strings(parts, tensors[parts], tensors[name])
    _check_range("labels", tensors["labels"], len(model.classes))
    _check_range("tokens", tensors["tokens"], len(tensors["word_starts"]) - 1)
    _check_range("sentence", tensors["sentence"], sentences)
    lengths = tensors["token_starts"].diff()[tensors["sentence"]]
    if not count or (lengths < 1).any() or (lengths > model.length).any():
        raise ValueError("damaged: expected sentences of tokens inside the frame")
    _check_range("location", tensors["location"], model.length)
    _check_range("location", field.first(tensors["location"]).clamp(min=0), lengths)
    if not all(torch.isfinite(tensors[name].float()).all() for name in ("mean", "factor")):
        raise ValueError("damaged: mean or factor holds NaN, infinity or huge numbers")
    if tensors["factor"].triu(1).any() or not (tensors["factor"].diagonal() > 0).all():
        raise ValueError("damaged: factor: expected a lower triangular matrix with a positive diagonal")


def _check_range(name: str, values: Tensor, below: int | Tensor) -> None:
    if ((values < 0) | (values >= below)).any():
        raise ValueError(f"damaged: {name}: a value is out of range")


def _check_strings(name: str, characters: Tensor, starts: Tensor) -> None:
    """Raises ValueError where these are no strings: as a whole no UTF-8, or cut inside a character."""
    try:
        characters.numpy().tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise ValueError(f"damaged: {name}: not UTF-8 from byte {error.start} on") from error
    inner = characters[starts[starts < len(characters)]]
    if ((inner & 0xC0) == 0x80).any():
        raise ValueError(f"damaged: {name}: cut inside a character")

"""Saving a model into a folder of plain files, and loading it again, without a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.messages import one_line
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.device import check_device
from fastinterp.models.folder import (
    COMPANION,
    CONFIG_FILE,
    METRICS_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    Entry,
    check_folder,
    read_entry,
    write_version,
)
from fastinterp.models.shapes import find_fault
from fastinterp.text.custom import CustomTokenizer, CutFunction
from fastinterp.text.vocabulary import Vocabulary


def check_output(folder: str | Path) -> Path:
    """Returns `folder`, absolute, if a model can be saved there, so that a long training need not end in an error.

    Missing parents are made and left; the folder itself is not.

    Raises:
        ModelError: it cannot be written, or holds something that is no model of ours.
    """
    absolute = _absolute(folder)
    check_folder(absolute)
    return absolute


def save(
    model: ConvTextModel,
    folder: str | Path,
    metrics: Mapping[str, object] | None = None,
    companions: Mapping[str, Callable[[Path], object]] | None = None,
) -> None:
    """Writes the model and, where given, its metrics into the folder; all or nothing, also when killed.

    `config.json` has the shape and names the subfolder with `model.safetensors`, `vocabulary.txt` and `metrics.json`.
    An older model in the folder is replaced, files of others in it stay. See `write_version` for several writers and
    for what a killed save leaves.

    Args:
        model: the classifier; all its weights float32 and finite, its padding row zero.
        folder: made where it is missing; may be a mount point or a symbolic link.
        metrics: plain numbers, strings, lists and dicts.
        companions: other files that go with these weights, by name the function that writes each:
            `background.safetensors`, `index-<layer>.safetensors` or `texts.safetensors`.

    Raises:
        TypeError: no ConvTextModel, or metrics that JSON does not know.
        ValueError: weights that could not be loaded again, or NaN or infinity in the metrics, which JSON has not.
        ModelError: the folder cannot be written, or holds something that is not a model.
    """
    if not isinstance(model, ConvTextModel):
        raise TypeError(f"model: expected a ConvTextModel, got {type(model).__name__}")
    model.check_weights()
    # Copies: safetensors refuses tensors that share memory, as two layers of a model may.
    weights = safetensors.torch.save({name: tensor.cpu().clone() for name, tensor in model.state_dict().items()})
    files: dict[str, Callable[[Path], object]] = {
        WEIGHTS_FILE: lambda path: path.write_bytes(weights),
        VOCABULARY_FILE: model.vocabulary.save,
    }
    if metrics is not None:
        text = _json(metrics)
        files[METRICS_FILE] = lambda path: path.write_text(text, encoding="utf-8")
    for name, write in (companions or {}).items():
        if not COMPANION.fullmatch(name):
            expected = "background.safetensors, index-<layer>.safetensors or texts.safetensors"
            raise ValueError(f"companions: expected {expected}, got {name!r}")
        files[name] = write
    model.folder = write_version(_absolute(folder), model.config, files)


def _absolute(folder: str | Path) -> Path:
    path = Path(folder)
    try:
        return path.absolute()
    except OSError as error:  # the working directory was removed
        raise ModelError(f"output: {one_line(path)} cannot be written ({error.strerror})") from error


def _json(metrics: Mapping[str, object]) -> str:
    try:
        return json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    except TypeError as error:
        raise TypeError(f"metrics: expected what JSON knows ({one_line(error)})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metrics: expected what JSON knows ({one_line(error)})") from error


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", tokenizer: CutFunction | None = None
) -> ConvTextModel:
    """Returns the model that `save` wrote, in evaluation mode. Draws no random numbers.

    A save that happens meanwhile does no harm: it is the old model or the new one.

    Args:
        folder: what `save` wrote.
        device: where the model is to work, such as "cuda".
        tokenizer: the function that cuts the texts of a model that was trained with one; no file holds it.

    Raises:
        ValueError: there is no such device, or the function has another name than the one that the model was trained
            with.
        ModelError: a file is missing or damaged, or configuration, vocabulary and weights contradict each other; the
            message names the file.
    """
    device = check_device(device)
    path = Path(folder)
    entry = read_entry(path)
    while True:
        try:
            return _load(_with_function(entry, tokenizer, path)).to(device).eval()
        except ModelError:
            # A save may have removed the version that we were reading: then there is another.
            newer = read_entry(path)
            if newer == entry:
                raise
            entry = newer


def _with_function(entry: Entry, function: CutFunction | None, folder: Path) -> Entry:
    """Returns the entry with the function that its tokeniser lacks."""
    saved = entry.config.tokenizer
    if not isinstance(saved, CustomTokenizer):
        if function is not None:
            raise ValueError(f"tokenizer: expected none, since the model in {one_line(folder)} has its own, got one")
        return entry
    if function is None:
        raise ModelError(
            f"{one_line(folder)}: the model's texts are cut by the function {saved.name}, which no file holds; "
            "load_model(folder, tokenizer=...) takes it"
        )
    given = CustomTokenizer.of(function)
    if given.name != saved.name:
        raise ValueError(f"tokenizer: expected {saved.name}, with which the model was trained, got {given.name}")
    return replace(entry, config=replace(entry.config, tokenizer=given))


def load_metrics(folder: str | Path) -> dict[str, Any]:
    """Returns what was measured when the model of the folder was trained; nothing where that was not kept.

    Raises:
        ModelError: no model folder, or its metrics are damaged; the message names the file.
    """
    path = read_entry(Path(folder)).place / METRICS_FILE
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({one_line(error)})") from error
    if not isinstance(metrics, dict):
        raise ModelError(f"{one_line(path)}: expected a JSON object, got {type(metrics).__name__}")
    return metrics


def _load(entry: Entry) -> ConvTextModel:
    for name in (WEIGHTS_FILE, VOCABULARY_FILE):
        _check_file(entry.place / name)
    vocabulary = Vocabulary.load(entry.place / VOCABULARY_FILE)
    weights_path = entry.place / WEIGHTS_FILE
    tensors = _read_tensors(weights_path)
    fault = find_fault(tensors, entry.config, len(vocabulary), VOCABULARY_FILE, CONFIG_FILE)
    if fault is not None:
        raise ModelError(f"{one_line(weights_path)}: {one_line(fault, 220)}")
    try:
        model = ConvTextModel.from_tensors(entry.config, vocabulary, tensors)
    except ValueError as error:
        raise ModelError(f"{one_line(weights_path)}: {one_line(error)}") from error
    model.folder = entry.place
    return model


def _check_file(path: Path) -> None:
    try:
        found = path.is_file()
    except OSError as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({error.strerror})") from error
    if not found:
        raise ModelError(f"{one_line(path.parent)}: not a model folder, {path.name} is missing")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file, in memory of their own: the file may be replaced while they are used."""
    try:
        with path.open("rb"):  # where this fails, its reason is the right one; safetensors' may not be
            tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
            return {name: tensors.pop(name).clone() for name in list(tensors)}
    except OSError as error:
        raise ModelError(f"{one_line(path)}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise ModelError(f"{one_line(path)}: does not fit into memory") from error
    except (SafetensorError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        # The last four are for dtypes that torch has not and for sizes beyond its integers.
        raise ModelError(f"{one_line(path)}: damaged or not a safetensors file ({one_line(error)})") from error

"""Models on disk: a folder of plain files, without a pickle."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.models.config import ModelConfig
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.device import check_device
from fastinterp.text.vocabulary import Vocabulary

WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE = "model.safetensors", "config.json", "vocabulary.txt"
METRICS_FILE = "metrics.json"


def check_output(folder: str | Path) -> Path:
    """Returns `folder` if a model can be saved there, so that a long training need not end in an error.

    Raises:
        ModelError: its parent cannot be written, or it exists and is neither empty nor a model folder.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not (folder.is_dir() and ((folder / CONFIG_FILE).is_file() or not any(folder.iterdir()))):
        raise ModelError(f"output: {folder} exists and is not a model folder; it is left as it is")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.check-"):
            pass
    except OSError as error:
        raise ModelError(f"output: {folder} cannot be written ({error.strerror})") from error
    return folder


def save(model: ConvTextModel, folder: str | Path, metrics: Mapping[str, object] | None = None) -> None:
    """Writes model.safetensors, config.json, vocabulary.txt and, where given, metrics.json; all or nothing.

    An older model in the folder is replaced.

    Raises:
        ModelError: the folder cannot be written, or holds something that is not a model.
    """
    folder = check_output(folder)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    try:
        staged.chmod(0o755)
        safetensors.torch.save_file(model.state_dict(), staged / WEIGHTS_FILE)
        (staged / CONFIG_FILE).write_text(_json(dataclasses.asdict(model.config)), encoding="utf-8")
        model.vocabulary.save(staged / VOCABULARY_FILE)
        if metrics is not None:
            (staged / METRICS_FILE).write_text(_json(metrics), encoding="utf-8")
        if folder.exists():
            old = staged.with_name(staged.name + "-old")
            folder.rename(old)
            staged.rename(folder)
            shutil.rmtree(old)
        else:
            staged.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"output: {folder} cannot be written ({error})") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, indent=2) + "\n"


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> ConvTextModel:
    """Returns the model that `save` wrote, in evaluation mode.

    Args:
        folder: what `save` wrote.
        device: where the model is to work, such as "cuda".

    Raises:
        ValueError: there is no such device.
        ModelError: a file is missing or damaged, or configuration, vocabulary and weights contradict each other; the
            message names the file.
    """
    device = check_device(device)
    folder = Path(folder)
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config_path, weights_path, folder / VOCABULARY_FILE):
        if not path.is_file():
            raise ModelError(f"{folder}: not a model folder, {path.name} is missing")
    try:
        fields = json.loads(config_path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        config = ModelConfig(**{**fields, **lists})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{config_path}: not a model configuration ({error})") from error
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    try:
        tensors = safetensors.torch.load_file(weights_path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weights_path}: damaged or not a safetensors file ({error})") from error
    with torch.device("meta"):
        model = ConvTextModel(config, vocabulary)
    _check_tensors(model, tensors, weights_path)
    model.load_state_dict(tensors, assign=True)
    try:
        model.check_finite()
    except ValueError as error:
        raise ModelError(f"{weights_path}: {error}") from error
    return model.to(device).eval()


def _check_tensors(model: ConvTextModel, tensors: dict[str, Tensor], path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())
        raise ModelError(f"{path}: expected the tensors that {CONFIG_FILE} describes, missing or unknown: {odd}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name]:
            cause = (
                f"{VOCABULARY_FILE} has {len(model.vocabulary)} words"
                if name == "embedding.weight" and tensor.shape[0] != expected[name][0]
                else f"{CONFIG_FILE} says so"
            )
            raise ModelError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {expected[name]} ({cause})")
        if tensor.dtype != torch.float32:
            raise ModelError(f"{path}: {name} has dtype {tensor.dtype}, expected torch.float32")

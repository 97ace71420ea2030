"""ConvTextModel: embedding, 1-D convolutions, max over time, linear. Saved as a folder without a pickle."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fastinterp import _C
from fastinterp.errors import ModelError
from fastinterp.text import PAD, Vocabulary, tokenize

WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE = "model.safetensors", "config.json", "vocabulary.txt"
METRICS_FILE = "metrics.json"
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "identity": nn.Identity,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a ConvTextModel.

    Attributes:
        classes: names of the classes.
        length: L, number of token positions of the sentence frame; longer sentences are cut.
        channels: channels of each convolution, first layer first.
        kernel_sizes: kernel width of each convolution.
        embedding_dimension: D, width of a word vector.
        activation: "relu", "leaky_relu" (slope 0.01), "identity" or "tanh".
        dropout: probability that a feature is dropped before the linear layer, in training. Table 2 gives none; a
            high one spreads the evidence so that fewer optimised inputs get their class back (matching rate).

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    classes: tuple[str, ...]
    length: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    embedding_dimension: int = 300
    activation: str = "relu"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _expect(
            isinstance(self.classes, tuple)
            and len(self.classes) >= 2
            and all(isinstance(name, str) for name in self.classes)
            and len(set(self.classes)) == len(self.classes),
            f"classes: expected at least two different names, got {self.classes!r}",
        )
        for name in ("length", "embedding_dimension"):
            value = getattr(self, name)
            _expect(_is_positive_integer(value), f"{name}: expected a positive integer, got {value!r}")
        for name in ("channels", "kernel_sizes"):
            value = getattr(self, name)
            _expect(
                isinstance(value, tuple) and len(value) > 0 and all(map(_is_positive_integer, value)),
                f"{name}: expected one positive integer per layer, got {value!r}",
            )
        _expect(
            len(self.channels) == len(self.kernel_sizes),
            f"kernel_sizes: expected {len(self.channels)} values, one per layer, got {len(self.kernel_sizes)}",
        )
        _expect(
            self.activation in ACTIVATIONS,
            f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation!r}",
        )
        _expect(
            isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1,
            f"dropout: expected a number from 0 to below 1, got {self.dropout!r}",
        )

    @classmethod
    def preset(cls, name: str, classes: Sequence[str], embedding_dimension: int = 300) -> ModelConfig:
        """Returns a configuration of the paper's Table 2 by the name of its data set, "mr" or "ag_news"."""
        if name not in _PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(_PRESETS)}, got {name!r}")
        length, channels = _PRESETS[name]
        return cls(tuple(classes), length, channels, (5,) * len(channels), embedding_dimension)

    @property
    def layers(self) -> int:
        """Number of convolutions."""
        return len(self.channels)

    def check_layer(self, layer: int) -> int:
        """Returns `layer` if it is the index of a convolution; raises ValueError otherwise."""
        _expect(
            isinstance(layer, int) and 0 <= layer < self.layers,
            f"layer: expected 0 to {self.layers - 1} (this model has {self.layers}), got {layer!r}",
        )
        return layer

    def receptive_field(self, layer: int) -> tuple[int, int]:
        """Returns how many tokens before and after its own position a location of `layer` sees."""
        kernels = self.kernel_sizes[: self.check_layer(layer) + 1]
        return sum((kernel - 1) // 2 for kernel in kernels), sum(kernel // 2 for kernel in kernels)


_PRESETS = {"mr": (56, (128, 64, 32)), "ag_news": (195, (512, 256, 128, 64))}


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class ConvTextModel(nn.Module):
    """A text classifier: embedding, a stack of 'same' convolutions with an activation, max over time, linear.

    Args:
        config: the shape.
        vocabulary: V words.
        embedding: (V, D) float32 initial word vectors with a zero padding row; small noise where None.

    Raises:
        ValueError: the embedding does not fit the vocabulary or the configuration.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, embedding: Tensor | None = None) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        size = (len(vocabulary), config.embedding_dimension)
        if embedding is not None and tuple(embedding.shape) != size:
            raise ValueError(f"embedding: expected shape {size}, one row per word, got {tuple(embedding.shape)}")
        self.embedding = nn.Embedding(*size, padding_idx=PAD, _weight=embedding)
        widths = (config.embedding_dimension, *config.channels)
        self.convolutions = nn.ModuleList(
            # Padding on both sides; an even kernel then has one output too many, the first, which forward drops.
            nn.Conv1d(widths[i], widths[i + 1], kernel, padding=kernel // 2)
            for i, kernel in enumerate(config.kernel_sizes)
        )
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.channels[-1], len(config.classes))

    def forward(self, ids: Tensor) -> Tensor:
        """Returns class scores (B, classes), before softmax, of token ids (B, L) int64."""
        hidden = self.embedding(self._without_needless_padding(ids)).transpose(1, 2)
        for convolution, kernel in zip(self.convolutions, self.config.kernel_sizes, strict=True):
            hidden = convolution(hidden)
            hidden = self.activation(hidden[..., 1:] if kernel % 2 == 0 else hidden)
        scores: Tensor = self.linear(self.dropout(hidden.amax(dim=2)))
        return scores

    def _without_needless_padding(self, ids: Tensor) -> Tensor:
        """Returns the shortest frame in which the last layer has every column that it has in the full one.

        Columns differ only where they see a token of the longest sentence or the frame's right edge; those between
        are all the same, and one of them is enough for the maximum over time.
        """
        used = (ids != PAD).any(dim=0).nonzero()
        longest = int(used[-1]) + 1 if len(used) else 0
        before, after = self.config.receptive_field(self.config.layers - 1)
        return ids[:, : longest + before + 1 + after]

    @property
    def device(self) -> torch.device:
        """Where the weights are, and so where everything about the model is computed."""
        return self.embedding.weight.device

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Returns token ids (B, L) int64 of raw sentences, cut or padded to the frame, on the CPU."""
        return self.vocabulary.encode([tokenize(sentence) for sentence in sentences], self.config.length)

    def convolution_weights(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        """Returns weights (C_out, C_in, K) and biases (C_out,) of the layers up to and including `layer`."""
        stack: Any = self.convolutions[: self.config.check_layer(layer) + 1]
        return [each.weight.detach() for each in stack], [each.bias.detach() for each in stack]

    def check_finite(self) -> None:
        """Raises ValueError if a weight is NaN or infinite; the message names the tensor."""
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"model: {name} holds NaN or infinite values")


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


def check_device(device: str | torch.device) -> torch.device:
    """Returns the device; raises ValueError unless torch has it and fastinterp has kernels for it."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected cpu, cuda or cuda:0, got {device!r}") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu, cuda or cuda:0, got {device!r}")
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device: {device} is not there (torch {torch.__version__} finds no GPU)")
        if not _C.cuda:
            raise ValueError(
                f"device: fastinterp was built without CUDA; {device} needs a build where nvcc is installed"
            )
        if (found.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"device: expected cuda:0 to cuda:{torch.cuda.device_count() - 1}, got {device}")
    return found


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

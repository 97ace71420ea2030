"""Explains an ONNX graph that goes from token ids to class scores, turned into a PyTorch module by onnx2torch.

python examples/explain_an_onnx_graph.py [FILE.onnx]

Without a file, the network below is written to one first. An operator that onnx2torch does not have it names in one
line; ReduceMax, a maximum over time, it has up to opset 17. It needs torchvision: install the one that was made for
your PyTorch first (0.28.0 for 2.13.0), or pip replaces PyTorch by another, for which fastinterp is not compiled.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

if any(importlib.util.find_spec(name) is None for name in ("onnx2torch", "torchvision")):
    sys.exit("This example needs onnx2torch, and before it the torchvision that was made for your PyTorch")
import onnx
import onnx2torch

import fastinterp

WORDS = ["<pad>", "<unk>", "a", "at", "bore", "film", "is", "joy", "last", "never", "shines", "the", "works"]


class TextCNN(nn.Module):
    """Kim's (2014), which stands for what was exported elsewhere."""

    def __init__(self, words: int, width: int = 32, channels: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.convs = nn.ModuleList(nn.Conv2d(1, channels, (size, width)) for size in (2, 3, 4))
        self.fc = nn.Linear(3 * channels, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns class scores (B, 2) of ids (B, L)."""
        embedded = self.embedding(ids).unsqueeze(1)
        maps = [functional.relu(conv(embedded)).squeeze(3) for conv in self.convs]
        return self.fc(torch.cat([each.amax(dim=2) for each in maps], dim=1))


def exported(folder: Path) -> Path:
    """Returns the file of a network, whose texts may be of any number and length."""
    torch.manual_seed(0)
    path = folder / "model.onnx"
    texts, axes = torch.zeros(2, 9, dtype=torch.int64), {"ids": {0: "texts", 1: "tokens"}}
    torch.onnx.export(
        TextCNN(len(WORDS)).eval(), (texts,), path,
        input_names=["ids"], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    return path


path = Path(sys.argv[1]) if len(sys.argv) > 1 else exported(Path(tempfile.mkdtemp()))
graph = onnx.load(path)
onnx.checker.check_model(graph)
try:
    module = onnx2torch.convert(graph)
except NotImplementedError as error:
    sys.exit(f"{path.name}: expected a graph of operators that onnx2torch has, got another: {error}")

model = fastinterp.adapt(module, tokenizer=str.split, words=WORDS, unknown_id=1, classes=("praise", "blame"))
print(f"layers: {', '.join(model.layer_names)}")
result = fastinterp.interpret(model, "the film never shines", layer=1, locations=2)
print(f"{result.label} with probability {result.probability:.2f}, explained by the {result.path}: {result.reason}")
for location in result.locations:
    found = ", ".join(f"{word} {cosine:.2f}" for word, cosine in location.neighbors)
    print(f"{' '.join(location.tokens)} ({location.score:+.2f}) points to {found}")

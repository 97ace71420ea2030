"""Explains a network whose weights are in a file: safetensors, or a `state_dict` as `torch.save` writes it.

python examples/explain_saved_weights.py [FILE]

FILE holds the weights of `TextCNN` below, which stands for your own class; without one, fresh weights are saved first.
A file that holds a whole pickled module runs whatever code it names; neither way of reading here does.
"""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fastinterp

WORDS = ["<pad>", "<unk>", "a", "at", "bore", "film", "is", "joy", "last", "never", "shines", "the", "works"]


class TextCNN(nn.Module):
    """Yours: the class that the weights were trained with."""

    def __init__(self, words: int, width: int = 32, channels: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.convs = nn.ModuleList(nn.Conv1d(width, channels, size, padding="same") for size in (3, 5))
        self.fc = nn.Linear(2 * channels, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns class scores (B, 2) of ids (B, L)."""
        embedded = self.embedding(ids).transpose(1, 2)
        return self.fc(torch.cat([conv(embedded).relu().amax(dim=2) for conv in self.convs], dim=1))


if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:
    torch.manual_seed(0)
    path = Path(tempfile.mkdtemp()) / "model.safetensors"
    save_file(TextCNN(len(WORDS)).state_dict(), path)

# These lines read your weights; a name or a shape that does not fit the class is named by load_state_dict.
safe = path.suffix == ".safetensors"
weights = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
module = TextCNN(len(weights["embedding.weight"]))
module.load_state_dict(weights)

model = fastinterp.adapt(module, tokenizer=str.split, words=WORDS, unknown_id=1, classes=("praise", "blame"))
print(f"layers: {', '.join(model.layer_names)}")
result = fastinterp.interpret(model, "the film never shines", layer="convs.0", locations=2)
print(f"{result.label} with probability {result.probability:.2f}, explained by the {result.path}: {result.reason}")
for location in result.locations:
    found = ", ".join(f"{word} {cosine:.2f}" for word, cosine in location.neighbors)
    print(f"{' '.join(location.tokens)} ({location.score:+.2f}) points to {found}")

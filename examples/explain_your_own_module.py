"""Explains a network that fastinterp knows nothing of: Kim's (2014), with the Conv2d branches that most of them have.

python examples/explain_your_own_module.py
"""

import torch
from torch import nn
from torch.nn import functional

import fastinterp


class TextCNN(nn.Module):
    """Yours: any module that goes from ids over an embedding to class scores."""

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


subjects = ("the film", "this plot", "her voice", "the whole cast", "one long scene")
verdicts = (("is a joy", "works very well", "shines at last"), ("is a bore", "never works", "falls very flat"))
texts = [(f"{subject} {verdict}", label) for subject in subjects for label in (0, 1) for verdict in verdicts[label]]
words = ["<pad>", "<unk>", *sorted({word for text, _ in texts for word in text.split()})]

torch.manual_seed(0)
module = TextCNN(len(words))
ids = torch.zeros(len(texts), 6, dtype=torch.int64)
for row, (text, _) in zip(ids, texts, strict=True):
    row[: len(text.split())] = torch.tensor([words.index(word) for word in text.split()])
optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
for _ in range(60):
    optimizer.zero_grad()
    functional.cross_entropy(module(ids), torch.tensor([label for _, label in texts])).backward()
    optimizer.step()

# What follows is all that explaining it takes.
model = fastinterp.adapt(module, tokenizer=str.split, words=words, unknown_id=1, classes=("praise", "blame"))
print(f"layers: {', '.join(model.layer_names)}")
result = fastinterp.interpret(model, "her film never works at last", layer="convs.1", locations=2)
print(f"{result.label} with probability {result.probability:.2f}, explained by the {result.path}: {result.reason}")
for location in result.locations:
    found = ", ".join(f"{word} {cosine:.2f}" for word, cosine in location.neighbors)
    print(f"{' '.join(location.tokens)} ({location.score:+.2f}) points to {found}")

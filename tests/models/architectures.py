"""Text classifiers as their users write them, with the layer that the tests explain and what a float64 copy gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 12


class KimConv2d(nn.Module):
    """Kim (2014) as most PyTorch versions have it: Conv2d over the whole width, no padding, the ids in a tuple."""

    def __init__(self, words: int, classes: int = 2):
        super().__init__()
        self.embed = nn.Embedding(words, WIDTH, padding_idx=words - 1)
        self.convs = nn.ModuleList(nn.Conv2d(1, 6, (width, WIDTH)) for width in (3, 4, 5))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(18, classes)

    def layer(self, embedded: Tensor) -> Tensor:
        return functional.relu(self.convs[1](embedded.unsqueeze(1))).squeeze(3).transpose(1, 2)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        embedded = self.embed(x[0]).unsqueeze(1)
        features = [functional.relu(conv(embedded)).squeeze(3) for conv in self.convs]
        pooled = [functional.max_pool1d(each, each.size(2)).squeeze(2) for each in features]
        return self.fc(self.dropout(torch.cat(pooled, 1)))


class KimConv1d(nn.Module):
    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv1d(WIDTH, 6, width, padding=width - 1), nn.Tanh()) for width in (2, 3)
        )
        self.out = nn.Linear(12, 2)

    def layer(self, embedded: Tensor) -> Tensor:
        return self.branches[1](embedded.transpose(1, 2)).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids).transpose(1, 2)
        return self.out(torch.cat([branch(embedded).amax(dim=2) for branch in self.branches], dim=1))


class BatchNormStack(nn.Module):
    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.body = nn.Sequential(
            nn.Conv1d(WIDTH, 8, 5, padding="same", bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Conv1d(8, 6, 4, padding="same", groups=2),
            nn.BatchNorm1d(6),
            nn.ReLU(inplace=True),
        )
        self.linear = nn.Linear(6, 2)

    def layer(self, embedded: Tensor) -> Tensor:
        return self.body(embedded.transpose(1, 2)).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.linear(self.body(self.embedding(ids).permute(0, 2, 1)).max(dim=2).values)


class StridedDilated(nn.Module):
    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH)
        self.first = nn.Conv1d(WIDTH, 8, 3, stride=2, padding=1)
        self.second = nn.Conv1d(8, 6, 3, dilation=2, padding=2)
        self.norm = nn.BatchNorm1d(6)
        self.linear = nn.Linear(6, 2)

    def layer(self, embedded: Tensor) -> Tensor:
        hidden = functional.leaky_relu(self.first(embedded.transpose(1, 2)))
        return functional.leaky_relu(self.norm(self.second(hidden))).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.linear(self.layer(self.embedding(ids)).mean(dim=1))


class PooledResidual(nn.Module):
    """DPCNN (Johnson and Zhang 2017) in small: one convolution called twice, pooling between, a shortcut around."""

    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.region = nn.Conv2d(1, 8, (3, WIDTH))
        self.conv = nn.Conv2d(8, 8, (3, 1))
        self.pool = nn.MaxPool2d((3, 1), stride=2)
        self.pad_both, self.pad_end = nn.ZeroPad2d((0, 0, 1, 1)), nn.ZeroPad2d((0, 0, 0, 1))
        self.fc = nn.Linear(8, 2)

    def layer(self, embedded: Tensor) -> Tensor:
        hidden = self.region(self.pad_both(embedded.unsqueeze(1)))
        hidden = self.conv(self.pad_both(functional.relu(hidden)))
        pooled = self.pool(self.pad_end(hidden))
        return self.conv(self.pad_both(functional.relu(pooled))).squeeze(3).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.region(self.pad_both(self.embedding(ids).unsqueeze(1)))
        hidden = self.conv(self.pad_both(functional.relu(hidden)))
        pooled = self.pool(self.pad_end(hidden))
        return self.fc((pooled + self.conv(self.pad_both(functional.relu(pooled)))).amax(dim=(2, 3)))


class AttentionHead(nn.Module):
    """Average and attention over time, two linear layers, a softmax at the end, an activation that no kernel has."""

    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.conv = nn.Conv1d(WIDTH, 6, 3, padding=1)
        self.act = nn.SiLU()
        self.attention = nn.Linear(6, 1)
        self.head = nn.Sequential(nn.Linear(12, 5), nn.GELU(), nn.Linear(5, 2))

    def layer(self, embedded: Tensor) -> Tensor:
        return self.act(self.conv(embedded.transpose(1, 2))).transpose(1, 2)

    def pool(self, hidden: Tensor) -> Tensor:
        share = self.attention(hidden.tanh()).softmax(dim=1)
        return torch.cat([(share * hidden).sum(dim=1), hidden.mean(dim=1)], dim=1)

    def logits(self, ids: Tensor) -> Tensor:
        return self.head(self.pool(self.layer(self.embedding(ids))))

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(ids).softmax(dim=1)


class OneSigmoid(nn.Module):
    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.convs = nn.Sequential(nn.Conv1d(WIDTH, 8, 3), nn.ReLU(), nn.Conv1d(8, 6, 2), nn.ReLU())
        self.fc = nn.Linear(6, 1)

    def layer(self, embedded: Tensor) -> Tensor:
        return self.convs(embedded.transpose(1, 2)).transpose(1, 2)

    def logits(self, ids: Tensor) -> Tensor:
        score = self.fc(self.layer(self.embedding(ids)).amax(dim=1))
        return torch.cat([-score, score], dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(self.layer(self.embedding(ids)).amax(dim=1))).squeeze(1)


class ConvolutionOverLSTM(nn.Module):
    def __init__(self, words: int):
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH, padding_idx=0)
        self.lstm = nn.LSTM(WIDTH, 5, batch_first=True, bidirectional=True)
        self.conv = nn.Conv1d(10, 6, 3, padding=1)
        self.fc = nn.Linear(6, 2)

    def layer(self, embedded: Tensor) -> Tensor:
        return self.conv(self.lstm(embedded)[0].transpose(1, 2)).relu().transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.layer(self.embedding(ids)).amax(dim=1))


@dataclass(frozen=True)
class Architecture:
    """A kind of module, and what the tests should find out about its layer."""

    kind: type[nn.Module]
    embedding: str
    layer: str
    captum: str  # the module whose output has the layer's gradient times activation
    path: str
    field: tuple[int, int | None, int]
    padding_first: bool = True
    options: dict = field(default_factory=dict)


ARCHITECTURES = {
    "Kim, Conv2d branches": Architecture(
        KimConv2d,
        "embed",
        "convs.1",
        "convs.1",
        "kernels",
        (0, 4, 1),
        padding_first=False,
        options={"forward": lambda module, ids, lengths: module((ids, lengths))},
    ),
    "Kim, Conv1d branches": Architecture(KimConv1d, "embedding", "branches.1.0", "branches.1", "kernels", (2, 3, 1)),
    "Conv1d stack with batch norm": Architecture(BatchNormStack, "embedding", "body.4", "body.6", "kernels", (3, 8, 1)),
    "strided and dilated": Architecture(StridedDilated, "embedding", "second", "norm", "kernels", (5, 11, 2)),
    "residual with pooling between": Architecture(PooledResidual, "embedding", "conv:2", "", "module", (4, 11, 2)),
    "average and attention": Architecture(AttentionHead, "embedding", "act", "act", "module", (1, 3, 1)),
    "one sigmoid": Architecture(OneSigmoid, "embedding", "convs.2", "convs.3", "kernels", (0, 4, 1)),
    "convolution over a BiLSTM": Architecture(ConvolutionOverLSTM, "embedding", "conv", "conv", "module", (0, None, 0)),
}

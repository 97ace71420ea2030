"""The classifier as any PyTorch user would write it, on the same weights."""

from __future__ import annotations

from torch import Tensor, nn

from fastinterp import ConvTextModel


class FullFrameModel(nn.Module):
    """The model as any PyTorch user has it: every position of the frame is computed."""

    def __init__(self, model: ConvTextModel) -> None:
        super().__init__()
        self.embedding, self.convolutions = model.embedding, model.convolutions
        self.activations = nn.ModuleList(nn.ReLU() for _ in model.convolutions)
        self.linear = model.linear

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids).transpose(1, 2)
        for convolution, activation in zip(self.convolutions, self.activations, strict=True):
            hidden = activation(convolution(hidden))
        return self.linear(hidden.amax(dim=2))

"""Recognising the convolutions that lead from the word vectors to a layer, so that the kernels can compute it.

A pass over a drawn text is followed operator by operator, whatever modules or functions made it. What is recognised is
only proposed: `verified` compares it with the module's own activations, at every location, edges included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels.activations import leaky_relu
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.probe import drawn_ids
from fastinterp.models.adapt.tape import Step, Tape
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.protocol import ConvolutionStack
from fastinterp.models.receptive_field import ReceptiveField

_SAME_VALUES = frozenset(
    (
        "alias",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "flatten",
        "lift_fresh",
        "native_dropout",
        "permute",
        "reshape",
        "_reshape_alias",
        "_unsafe_view",
        "squeeze",
        "t",
        "transpose",
        "unsqueeze",
        "view",
        "_to_copy",
    )
)
_BATCH_NORMS = frozenset(
    (
        "batch_norm",
        "native_batch_norm",
        "_native_batch_norm_legit_no_training",
        "cudnn_batch_norm",
        "miopen_batch_norm",
    )
)
_ACTIVATIONS = frozenset(("relu", "leaky_relu", "prelu", "_prelu_kernel", "tanh"))


class NotRecognised(Exception):  # noqa: N818  (no error: the module's own passes explain the layer then)
    """A layer that is no stack that the kernels compute; the message says why."""


@dataclass(frozen=True)
class Recognised:
    """What leads to a layer.

    Attributes:
        stack: the convolutions; those with a dilation have zeros between the taps of their kernels.
        field: which tokens each location sees.
        weights: where the convolutions' own weights are in memory, the first layer first, and which of the calls with
            them each is, from 1.
    """

    stack: ConvolutionStack
    field: ReceptiveField
    weights: tuple[tuple[int, int], ...]


def recognise(caller: Caller, layer: LayerCall, length: int) -> Recognised:
    """Returns the convolutions from the word vectors to a layer.

    Args:
        caller: of the module.
        layer: the layer.
        length: tokens of the text that is followed.

    Raises:
        NotRecognised: there is something else on the way, or what the kernels do not have.
    """
    tape = Tape()
    with torch.no_grad(), tape:
        passed = caller.run(drawn_ids(caller, 2, length), torch.full((2,), length), layer, stop=True)
    if passed.layer is None or passed.embedded is None:
        raise NotRecognised(f"a text of {length} tokens does not reach it")
    blocks = _blocks(tape.steps, id(passed.layer), id(passed.embedded))
    activations = {block.activation for block in blocks}
    if len(activations) > 1:
        raise NotRecognised(f"its layers have different activations ({', '.join(sorted(activations))})")
    return _stack(blocks, activations.pop())


@dataclass
class _Block:
    """A convolution with what follows it: weight (C_out, C_in, K) over tokens, undilated."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: tuple[int, int]
    dilation: int
    axis: int  # of the tokens, counted from the last one of the convolution's input
    own: tuple[int, int]  # see `Recognised.weights`
    activation: str = "identity"

    @property
    def kernel(self) -> int:
        """How many positions of the layer below it reaches over."""
        return int((self.weight.shape[2] - 1) * self.dilation + 1)

    @property
    def kind(self) -> str:
        """How it pads its input, as far as the kernels care."""
        if self.padding == ((self.kernel - 1) // 2, self.kernel // 2):
            return "same"
        return "valid" if self.padding == (0, 0) else "other"


def _blocks(steps: list[Step], output: int, start: int) -> list[_Block]:
    """Goes back from the layer's output to the word vectors, and returns the convolutions on the way, first to last."""
    blocks: list[_Block] = []
    activation, norms, place, wanted = "identity", list[Step](), len(steps), output
    pending = False  # an activation or batch norm that no convolution has come before yet
    while wanted != start or _written_since(steps, place, wanted):
        place = next((i for i in range(place - 1, -1, -1) if steps[i].output == wanted), -1)
        if place < 0:
            raise NotRecognised("the way from the embedding to it is not one chain of operators")
        step = steps[place]
        if step.name == "convolution":
            block = _block(step, steps[:place])
            for norm in reversed(norms):
                (_fold if norm.name in _BATCH_NORMS else _add)(block, norm)
            block.activation = activation
            blocks.append(block)
            activation, norms, pending = "identity", [], False
        elif step.name in _BATCH_NORMS or (step.name == "add" and _is_vector(step.given[1])):
            norms.append(step)
            pending = True
        elif step.name in _ACTIVATIONS:
            if pending:
                raise NotRecognised("it has a batch norm or a second activation behind an activation")
            activation, pending = _activation(step), True
        elif step.name == "constant_pad_nd" and blocks and not pending:
            _pad(blocks[-1], step)
        elif step.name not in _SAME_VALUES:
            raise NotRecognised(f"{step.name} stands between the embedding and it")
        wanted = step.inputs[0]
    if pending or norms:
        raise NotRecognised("something else than a convolution comes first behind the embedding")
    if not blocks:
        raise NotRecognised("no convolution stands between the embedding and it")
    return blocks[::-1]


def _activation(step: Step) -> str:
    """Returns the name of an activation as the kernels have it."""
    if step.name in ("relu", "tanh"):
        return step.name
    slope = step.given[1] if len(step.given) > 1 else 0.01
    if isinstance(slope, Tensor):
        if slope.numel() > 1:
            raise NotRecognised("its PReLU has a slope of its own for each channel")
        slope = float(slope.detach())
    if not 0 <= slope <= 1:
        raise NotRecognised(f"the slope {slope:g} of its leaky ReLU does not lie between 0 and 1")
    return leaky_relu(slope)


def _written_since(steps: list[Step], place: int, wanted: int) -> bool:
    """Whether an operator before `place` wrote into the word vectors themselves."""
    return any(step.output == wanted and wanted in step.inputs for step in steps[:place])


def _pad(block: _Block, step: Step) -> None:
    """Adds zeros that are put before and behind a convolution's input by an operator of their own."""
    pads = [int(each) for each in step.given[1]] + [0, 0, 0, 0]
    before, behind = pads[2 * block.axis : 2 * block.axis + 2]
    if sum(pads) != before + behind or min(pads) < 0 or (len(step.given) > 2 and step.given[2] != 0):
        raise NotRecognised("its input is padded with something else than zeros in front and behind")
    block.padding = (block.padding[0] + before, block.padding[1] + behind)


def _block(step: Step, earlier: list[Step]) -> _Block:
    """Returns a convolution over tokens, of one or two dimensions."""
    given = step.given + [None] * 9
    weight, bias = given[1].detach(), given[2]
    if given[6]:
        raise NotRecognised("a transposed convolution leads to it")
    strides, paddings, dilations, groups = given[3], given[4], given[5], int(given[8] or 1)
    place = weight.data_ptr()
    before = sum(each.name == "convolution" and each.given[1].data_ptr() == place for each in earlier)
    if weight.dim() == 4:
        weight, axis = _over_tokens(weight, given[0].shape, paddings)
    elif weight.dim() == 3:
        axis = 0
    else:
        raise NotRecognised("a convolution of three dimensions leads to it")
    if groups > 1:
        weight = _dense(weight, groups)
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    padding = (int(paddings[axis]), int(paddings[axis]))
    from_last = len(strides) - 1 - axis
    return _Block(weight, bias, int(strides[axis]), padding, int(dilations[axis]), from_last, (place, before + 1))


def _over_tokens(weight: Tensor, shape: torch.Size, paddings: list[int]) -> tuple[Tensor, int]:
    """Returns a two-dimensional kernel as one over tokens (C_out, C_in, K), and which axis the tokens are on."""
    channels, planes, height, width = weight.shape
    if width == shape[3] and paddings[1] == 0:  # the whole width of the vectors at once
        return weight.permute(0, 1, 3, 2).reshape(channels, planes * width, height), 0
    if height == shape[2] and paddings[0] == 0 and shape[3] > 1:
        return weight.reshape(channels, planes * height, width), 1
    raise NotRecognised("a convolution over a part of the word vectors leads to it")


def _dense(weight: Tensor, groups: int) -> Tensor:
    """Returns the kernel (C_out, C_in, K) of a convolution in groups, with zeros between them."""
    outputs, inputs, kernel = weight.shape
    whole = weight.new_zeros(outputs, inputs * groups, kernel)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        whole[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return whole


def _fold(block: _Block, norm: Step) -> None:
    """Puts a batch norm in evaluation mode into the convolution before it."""
    scale, shift, mean, variance = (each if each is None else each.detach() for each in norm.given[1:5])
    numbers = [each for each in norm.given[5:] if isinstance(each, float)]
    if mean is None or variance is None:
        raise NotRecognised("a batch norm without running statistics leads to it")
    factor = torch.rsqrt(variance.double() + numbers[-1])
    factor = factor if scale is None else factor * scale.double()
    offset = -mean.double() * factor if shift is None else shift.double() - mean.double() * factor
    block.weight = (block.weight.double() * factor[:, None, None]).float()
    block.bias = (block.bias.double() * factor + offset).float()


def _is_vector(value: object) -> bool:
    """Whether a value has a number for each of several channels, or one for all, as a bias that is added apart has."""
    return isinstance(value, Tensor) and value.numel() == max(value.shape, default=1)


def _add(block: _Block, step: Step) -> None:
    """Puts a bias that is added behind a convolution, as Keras does, into it."""
    bias = step.given[1].detach().flatten()
    if len(bias) not in (1, len(block.bias)):
        raise NotRecognised("add stands between the embedding and it")
    block.bias = block.bias + bias


def _stack(blocks: list[_Block], activation: str) -> Recognised:
    """Returns the blocks as one stack of stride 1, whose last layer is looked at where the module has locations.

    A stride below is a dilation of the layers above, whose kernels get zeros between their taps.
    """
    kinds = {block.kind for block in blocks if block.kernel > 1 or block.padding != (0, 0)}
    if len(blocks) > 1 and (len(kinds) > 1 or "other" in kinds):
        raise NotRecognised("its convolutions pad their inputs in different ways")
    weights, before, width, step = [], 0, 1, 1
    for block in blocks:
        if step > 1 and block.kind == "same" and block.kernel % 2 == 0:
            raise NotRecognised("a convolution of even width stands above a stride")
        weights.append(_dilated(block.weight, block.dilation * step))
        before += block.padding[0] * step
        width += weights[-1].shape[2] - 1
        step *= block.stride
    biases = [block.bias.contiguous() for block in blocks]
    stack = ConvolutionStack(tuple(weights), tuple(biases), activation)
    return Recognised(stack, ReceptiveField(before, width, step), tuple(block.own for block in blocks))


def _dilated(weight: Tensor, dilation: int) -> Tensor:
    """Returns the kernel with zeros between its taps."""
    if dilation == 1:
        return weight.contiguous()
    outputs, inputs, kernel = weight.shape
    whole = weight.new_zeros(outputs, inputs, (kernel - 1) * dilation + 1)
    whole[:, :, ::dilation] = weight
    return whole

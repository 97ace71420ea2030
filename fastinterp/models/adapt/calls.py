"""Calling a user's module: with other word vectors, reading a layer on the way, and leaving no trace on it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fastinterp.messages import one_line
from fastinterp.models.adapt.find import parts_of
from fastinterp.models.adapt.lookup import Forward, Lookup, evaluating
from fastinterp.models.adapt.watch import LayerCall, Passed, Reached, Watch


class Caller:
    """A module together with how it is called.

    Args:
        module: float32.
        embedding: a part of it.
        forward: how it is called; None for `module(ids)`.
        padding: the embedding's row of padding.
    """

    def __init__(self, module: nn.Module, embedding: Lookup, forward: Forward | None, padding: int) -> None:
        self.module, self.embedding, self._forward, self.padding = module, embedding, forward, padding
        self.parts = parts_of(module)
        self.batch_first: bool | None = None  # whether the embedding gets ids (B, L); the first pass finds out
        self._lock = threading.RLock()

    def with_shuffled_weights(self, seed: int) -> Caller:
        """Returns a caller of a copy of the module; the numbers of each weight but the embedding are in drawn order."""
        module = copy.deepcopy(self.module)
        twin = Caller(module, self.embedding.in_copy(self.module, module), self._forward, self.padding)
        twin.batch_first = self.batch_first
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in module.parameters():
                if weight is not twin.embedding.weight:
                    order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                    weight.copy_(weight.flatten()[order].view_as(weight))
        return twin

    @property
    def device(self) -> torch.device:
        """Where the word vectors are."""
        return self.embedding.weight.device

    def run(
        self,
        ids: Tensor,
        lengths: Tensor,
        layer: LayerCall | None = None,
        embedded: Tensor | None = None,
        stop: bool = False,
        record: Callable[[nn.Module], bool] | None = None,
    ) -> Passed:
        """Returns what a pass in evaluation mode gives; the first one of all needs B and L to differ.

        The module's mode, gradients, hooks and the random numbers that follow are as they were.

        Args:
            ids: (B, L) int64 rows of the embedding.
            lengths: (B,) int64, tokens of each text.
            layer: whose output is read.
            embedded: (B, L, D), word vectors to be used in place of the embedding's.
            stop: whether the pass ends at the layer.
            record: says of a module whether its calls are listed.

        Raises:
            ValueError: the embedding is not called, or not with the ids as they are.
        """
        passed, device = Passed(), self.device
        watch = Watch(passed, layer, stop, record is not None)
        with self._lock, ExitStack() as stack:
            hooks: list[RemovableHandle] = [
                self.embedding.module.register_forward_hook(self._embedding_hook(ids, passed, embedded))
            ]
            if layer is not None:
                hooks.append(self.parts[layer.module].register_forward_hook(watch.layer_hook()))
            for name, part in self.parts.items():
                if record is not None and record(part):
                    hooks.append(part.register_forward_hook(watch.recording_hook(name)))
            for hook in hooks:
                stack.callback(hook.remove)
            stack.enter_context(evaluating(self.module))
            stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
            # A GPU's recurrent layers take no gradient in evaluation mode but without cuDNN.
            stack.enter_context(torch.backends.cudnn.flags(enabled=device.type != "cuda", allow_tf32=False))
            stack.enter_context(watch)
            placed, counts = _usable(ids).to(device), _usable(lengths).to(device)
            try:
                found = self._called(placed, counts)
            except Reached:
                found = None
        if passed.embedded is None:
            raise ValueError("embedding: expected one that the module calls, got one that had no part in the pass")
        if found is not None:
            if not isinstance(found, Tensor):
                raise ValueError(
                    f"module: expected class scores in a tensor, got {type(found).__name__}; forward= says how to call "
                    "it, such as forward=lambda module, ids, lengths: module(ids)[0]"
                )
            passed.outputs, passed.last = watch.before_softmax(found)
        return passed

    def _called(self, ids: Tensor, lengths: Tensor) -> object:
        if self._forward is not None:
            return self._forward(self.module, ids, lengths)
        try:
            return self.module(ids)
        except TypeError as error:  # most of all where it needs more arguments
            raise ValueError(
                f"module: expected one that is called with ids alone, got {one_line(error)}; forward= says how it is "
                "called, such as forward=lambda module, ids, lengths: module(ids, lengths)"
            ) from error

    def _embedding_hook(self, ids: Tensor, passed: Passed, embedded: Tensor | None) -> Callable[..., Tensor]:
        def replace(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            shape = tuple(given[self.embedding.argument].shape)
            if self.batch_first is None:
                self.batch_first = shape != tuple(ids.shape[::-1])
            expected = tuple(ids.shape) if self.batch_first else tuple(ids.shape[::-1])
            if passed.embedded is not None or shape != expected:
                how = "a second time" if passed.embedded is not None else f"ids of shape {shape}"
                raise ValueError(
                    f"embedding: expected one that is called once in a pass, with all ids {tuple(ids.shape)} of the "
                    f"texts, got {how}; forward= says how the module is called"
                )
            vectors = output.detach() if embedded is None else embedded
            if embedded is None and not self.batch_first:
                vectors = vectors.transpose(0, 1)
            if torch.is_grad_enabled() and not vectors.requires_grad:
                vectors = vectors.detach().requires_grad_()
            passed.embedded = vectors
            return vectors if self.batch_first else vectors.transpose(0, 1)

        return replace


def _usable(given: Tensor) -> Tensor:
    """Returns a tensor that autograd may keep, also where the caller is in inference mode."""
    return given.clone() if given.is_inference() and not torch.is_inference_mode_enabled() else given

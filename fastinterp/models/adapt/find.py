"""Finding in a user's module what explaining needs: the module itself, its embedding, its layers by name."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from fastinterp.messages import clip
from fastinterp.validation import got

_NAMES_SHOWN = 20
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def unwrap(module: object) -> tuple[nn.Module, str | None]:
    """Returns the module that does the work in float32, and what was done to it, None where nothing was.

    Wrappers of `torch.compile` and of data parallelism are taken off. A module of another float dtype is copied, and
    one whose weights were made in inference mode, through which no gradient can go.

    Raises:
        TypeError: no module.
        ValueError: one made by `torch.jit`, whose calls cannot be seen, or one without weights.
    """
    while isinstance(module, nn.Module):
        # Neither import may be asked of somebody who compiles nothing: torch._dynamo takes seconds.
        if "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        else:
            break
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "module: expected one whose calls can be followed, got a torch.jit module; pass the module it was made from"
        )
    kinds = {weight.dtype for weight in module.parameters() if weight.is_floating_point()}
    if not kinds:
        raise ValueError(f"module: expected one with weights, got {type(module).__name__} without any")
    other = sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32})
    if other:
        what = f"in a float32 copy of the {' and '.join(other)} module"
    elif any(weight.is_inference() for weight in module.parameters()):
        what = "in a copy of the module, whose weights were made in inference mode"
    else:
        return module, None
    with torch.inference_mode(False):
        return copy.deepcopy(module).float(), what


def parts_of(module: nn.Module) -> dict[str, nn.Module]:
    """Returns a module and all its parts by name.

    Keras models do not register the layers that they list in `layers`; these have names of their own.
    """
    parts: dict[str, nn.Module] = dict(module.named_modules())
    known = {id(part) for part in parts.values()}
    waiting = list(parts.items())
    while waiting:
        prefix, part = waiting.pop(0)
        layers = getattr(part, "layers", ())
        for layer in layers if isinstance(layers, (list, tuple)) else ():
            name = getattr(layer, "name", None)
            if isinstance(layer, nn.Module) and isinstance(name, str) and id(layer) not in known:
                name = f"{prefix}.{name}" if prefix else name
                known.add(id(layer))
                parts[name] = layer
                waiting.append((name, layer))
    return parts


def is_convolution(part: nn.Module) -> bool:
    """Whether a part is a convolution over one or two dimensions, torch's or Keras' (which need not be installed)."""
    return isinstance(part, CONVOLUTIONS) or type(part).__name__ in ("Conv1D", "Conv2D")


def name_of(argument: str, parts: Mapping[str, nn.Module], wanted: object, valid: Iterable[str]) -> str:
    """Returns the dotted name of a module that was given by name or as itself.

    Raises:
        TypeError: neither a module nor a name.
        ValueError: it is none of `parts`; the message lists `valid`.
    """
    if isinstance(wanted, nn.Module):
        found = next((name for name, each in parts.items() if each is wanted), None)
        if found is None:
            raise ValueError(
                f"{argument}: expected a part of the module, such as {listed(valid)}, got a {type(wanted).__name__} "
                "that is not in it"
            )
        return found
    if not isinstance(wanted, str):
        raise TypeError(f"{argument}: expected a module or its name, got {type(wanted).__name__}")
    if wanted not in parts or not wanted:
        raise ValueError(f"{argument}: expected one of {listed(valid)}, got {got(wanted)}")
    return wanted


def split_call(argument: str, wanted: str) -> tuple[str, int]:
    """Returns the name and the number, from 1, of a layer such as "conv:2", the second call of `conv` in a pass."""
    name, colon, number = wanted.partition(":")
    if not colon:
        return name, 1
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{argument}: expected a number from 1 behind the colon, such as conv:2, got {got(wanted)}")
    return name, int(number)


def listed(names: Iterable[str]) -> str:
    """Returns names for a message, the first of very many."""
    every: Sequence[str] = [clip(name) for name in names]
    if not every:
        return "none"
    rest = len(every) - _NAMES_SHOWN
    return ", ".join(every[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")

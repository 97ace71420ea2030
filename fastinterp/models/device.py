"""Where a model can be."""

from __future__ import annotations

import reprlib

import torch

from fastinterp import _C


def check_device(device: str | torch.device) -> torch.device:
    """Returns the device.

    Raises:
        TypeError: neither a string nor a torch.device.
        ValueError: torch does not have it, or fastinterp has no kernels for it.
    """
    wrong = f"device: expected cpu, cuda or cuda:0, got {reprlib.repr(device)}"
    if not isinstance(device, (str, torch.device)):
        raise TypeError(wrong)
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(wrong) from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(wrong)
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

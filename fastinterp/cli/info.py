"""fastinterp info: versions, how the extension was built, where data is looked up."""

from __future__ import annotations

import platform

import click
import torch

import fastinterp
from fastinterp import _C
from fastinterp.data.corpora import NAMED_CORPORA
from fastinterp.data.downloads import cache_folder, data_folder
from fastinterp.display.console import print_facts
from fastinterp.display.screen import Screen


@click.command("info")
def command() -> None:
    """Show versions, how the extension was built, and where data is looked up."""
    facts = {
        "fastinterp": fastinterp.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instruction set": _C.simd(),
        "threads": torch.get_num_threads(),
        "CUDA kernels": ", ".join(_C.cuda_archs) if _C.cuda else "not built",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use",
        "data folder": f"{data_folder() or 'not set'} (FASTINTERP_DATA_DIR)",
        "cache folder": f"{cache_folder()} (FASTINTERP_CACHE_DIR)",
        "corpora": ", ".join(NAMED_CORPORA),
    }
    print_facts(Screen(), facts)

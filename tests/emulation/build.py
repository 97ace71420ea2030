"""Compiles the CUDA half as plain C++ and loads it as `torch.ops.fastinterp_emulated`, on CPU tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.cpp_extension import load

from fastinterp import _C  # noqa: F401  (importing it defines the operators' schemas)

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "csrc"
OPERATORS = ("saliency", "optimize_adam", "optimize_ccp", "contrast", "exchange_words", "cosine_topk")


def load_emulated_operators(build: Path) -> None:
    """Builds into `build`, or takes what is there if no source is newer."""
    define_schemas()
    build.mkdir(parents=True, exist_ok=True)
    wrappers = []
    for source in [*SOURCES.glob("*/*.cu"), *SOURCES.glob("*/cuda.cpp")]:
        wrapper = build / f"emulated_{source.parent.name}_{source.name.replace('.', '_')}.cpp"
        text = f'#include "{source}"\n'
        if not wrapper.is_file() or wrapper.read_text() != text:
            wrapper.write_text(text)
        wrappers.append(str(wrapper))
    flags = ["-O2", "-std=c++20", "-DFASTINTERP_EMULATED", "-Wno-unknown-pragmas"]
    load("fastinterp_emulated", wrappers, flags, extra_include_paths=[str(HERE)], build_directory=str(build),
         is_python_module=False)  # fmt: skip


def define_schemas() -> None:
    """Gives the emulated operators the schemas of csrc/ops.cpp."""
    for operator in OPERATORS:
        schema = str(getattr(torch.ops.fastinterp, operator).default._schema)
        torch.library.define(f"fastinterp_emulated::{operator}", schema.removeprefix(f"fastinterp::{operator}"))

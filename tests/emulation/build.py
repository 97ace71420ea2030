"""Compiles the CUDA half as plain C++ and loads it as `torch.ops.fastinterp_emulated`, on CPU tensors."""

from __future__ import annotations

from pathlib import Path

from torch.utils.cpp_extension import load

HERE = Path(__file__).parent
CUDA_SOURCES = HERE.parents[1] / "csrc" / "cuda"


def load_emulated_operators(build: Path) -> None:
    """Builds into `build`, or takes what is there if no source is newer."""
    build.mkdir(parents=True, exist_ok=True)
    sources = []
    for source in [*CUDA_SOURCES.glob("*.cu"), CUDA_SOURCES / "dispatch.cpp"]:
        wrapper = build / f"emulated_{source.stem}.cpp"
        text = f'#include "{source}"\n'
        if not wrapper.is_file() or wrapper.read_text() != text:
            wrapper.write_text(text)
        sources.append(str(wrapper))
    flags = ["-O2", "-std=c++20", "-DFASTINTERP_EMULATED", "-Wno-unknown-pragmas"]
    load("fastinterp_emulated", sources, flags, extra_include_paths=[str(HERE)], build_directory=str(build),
         is_python_module=False)  # fmt: skip

"""Builds fastinterp._C, the C++ half, against the torch that is installed."""

import os
import shutil

from setuptools import setup

OLDEST_TORCH = (2, 9)


def import_torch():
    try:
        import torch
    except ImportError:
        raise SystemExit(
            "fastinterp: PyTorch is missing. Install it first (pip install torch==2.13.0), "
            "then run: pip install --no-build-isolation ."
        ) from None
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise SystemExit(f"fastinterp: torch {torch.__version__} is too old. Install torch 2.9 or newer.")
    return torch


def require_tool(name, why, advice):
    if shutil.which(name) is None:
        raise SystemExit(f"fastinterp: {name} is missing; {why}. {advice}")


import_torch()
require_tool(
    os.environ.get("CXX", "c++").split()[0],
    "the extension is written in C++",
    "Install a C++20 compiler (Debian, Ubuntu: apt-get install g++) or name one in CXX.",
)
require_tool("ninja", "it builds the extension", "Install it: pip install ninja")

from torch.utils.cpp_extension import BuildExtension, CppExtension  # noqa: E402  (needs the checks above)

# -fopenmp stands at the compile step only: linked with it, the extension would load a second OpenMP runtime beside
# torch's own and torch.set_num_threads would not reach the kernels.
COMPILE_FLAGS = [
    "-O3",
    "-std=c++20",
    "-fopenmp",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-Wno-psabi",
    "-Wno-unused-function",
    "-Wno-maybe-uninitialized",
]

setup(
    ext_modules=[
        CppExtension(
            "fastinterp._C",
            [
                "csrc/ops.cpp",
                "csrc/cpu/packed_stack.cpp",
                "csrc/cpu/saliency.cpp",
                "csrc/cpu/optimize.cpp",
                "csrc/cpu/ccp.cpp",
                "csrc/cpu/topk.cpp",
            ],
            extra_compile_args=COMPILE_FLAGS,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)

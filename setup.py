"""Builds fastinterp._C, the C++ half and where nvcc is found the CUDA half, against the torch that is installed."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import setup

OLDEST_TORCH = (2, 9)
# PTX is for GPUs newer than the last real architecture.
DEFAULT_ARCHITECTURES = "8.0 9.0a 9.0+PTX-only"
OPERATORS = ["saliency", "optimize_adam", "optimize_ccp", "contrast", "exchange_words", "cosine_topk"]
# Not every operator needs a kernel of its own: on a GPU contrast and exchange_words are torch's matrix products.
CUDA_KERNELS = [str(path) for path in sorted(Path("csrc").glob("*/*.cu"))]


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


def find_cuda():
    """Returns the folder of the CUDA toolkit, or None where the CUDA half is not wanted or cannot be built."""
    wanted = os.environ.get("FASTINTERP_CUDA", "auto")
    if wanted not in ("auto", "on", "off"):
        raise SystemExit(f"fastinterp: FASTINTERP_CUDA: expected auto, on or off, got {wanted}")
    if wanted == "off":
        return None
    nvcc = shutil.which("nvcc")
    for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda", nvcc and Path(nvcc).resolve().parents[1]):
        if home and all((Path(home) / part).is_file() for part in ("bin/nvcc", "lib64/libcudart_static.a")):
            return Path(home)
    if wanted == "on":
        raise SystemExit("fastinterp: the CUDA toolkit is missing. Install it, or set CUDA_HOME to its folder.")
    return None


def architectures():
    """Returns (compute, code) pairs for nvcc from TORCH_CUDA_ARCH_LIST, which torch's own extensions read."""
    pairs = []
    for entry in re.split(r"[;\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES).strip()):
        found = re.fullmatch(r"(\d+)\.(\d)([a-z]?)(\+PTX(-only)?)?", entry)
        if found is None:
            raise SystemExit(f"fastinterp: TORCH_CUDA_ARCH_LIST: expected entries like 9.0a or 8.0+PTX, got {entry!r}")
        number = "".join(found.group(1, 2, 3))
        if found.group(5) is None:
            pairs.append((f"compute_{number}", f"sm_{number}"))
        if found.group(4) is not None:
            pairs.append((f"compute_{number}", f"compute_{number}"))
    return pairs


import_torch()
require_tool(
    os.environ.get("CXX", "c++").split()[0],
    "the extension is written in C++",
    "Install a C++20 compiler (Debian, Ubuntu: apt-get install g++) or name one in CXX.",
)
require_tool("ninja", "it builds the extension", "Install it: pip install ninja")

from torch.utils.cpp_extension import BuildExtension, CppExtension  # noqa: E402  (needs the checks above)

CUDA = find_cuda()


class BuildWithCuda(BuildExtension):
    """Compiles the .cu files with nvcc, which need no torch, and links their objects in."""

    def build_extension(self, extension):
        if CUDA is not None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                extension.extra_objects += list(pool.map(self.compile_kernel, CUDA_KERNELS))
        super().build_extension(extension)

    def compile_kernel(self, source):
        """Returns the object file of a .cu file, compiled anew where a file that it was made of is newer."""
        target = (Path(self.build_temp) / source).with_suffix(".cu.o").absolute()
        made_of = target.with_suffix(".d")
        if is_newer(target, made_of):
            return str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        codes = [f"-gencode=arch={compute},code={code}" for compute, code in architectures()]
        flags = ["-std=c++17", "-O3", "-Xcompiler=-fPIC", *codes, "-MD", "-MF", str(made_of)]
        command = [str(CUDA / "bin" / "nvcc"), *flags, "-c", source, "-o", str(target)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise SystemExit(
                f"fastinterp: nvcc failed on {source} (FASTINTERP_CUDA=off builds without it):\n"
                + finished.stdout
                + finished.stderr
            )
        return str(target)


def is_newer(target, made_of):
    """Whether `target` is newer than every file that the compiler's dependency file `made_of` lists, and than this."""
    if not target.is_file() or not made_of.is_file():
        return False
    files = made_of.read_text().replace("\\\n", " ").partition(":")[2].split()
    stamps = [Path(file).stat().st_mtime if Path(file).is_file() else float("inf") for file in [*files, __file__]]
    return target.stat().st_mtime > max(stamps)


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
SOURCES = ["csrc/ops.cpp", "csrc/shared/isa.cpp", *(f"csrc/{operator}/cpu.cpp" for operator in OPERATORS)]
cuda_settings = {}
if CUDA is not None:
    SOURCES += [f"csrc/{operator}/cuda.cpp" for operator in OPERATORS]
    names = " ".join(code for _, code in architectures())
    cuda_settings = {
        "define_macros": [("FASTINTERP_CUDA_ARCHS", f'"{names}"')],
        "libraries": ["cudart_static", "rt", "dl", "pthread"],
        "library_dirs": [str(CUDA / "lib64")],
        "extra_objects": [],
    }

setup(
    ext_modules=[
        CppExtension(
            "fastinterp._C",
            SOURCES,
            extra_compile_args=COMPILE_FLAGS,
            **cuda_settings,
        )
    ],
    cmdclass={"build_ext": BuildWithCuda},
)

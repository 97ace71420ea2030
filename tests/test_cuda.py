"""The CUDA half: what a machine without a GPU can prove of it, and what only one with a GPU can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import EMULATED, require_gpus, small_model

from fastinterp import _C, OptimizationConfig, interpret
from fastinterp.kernels import ops
from fastinterp.kernels.problems import Problems

ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
needs_nvcc = pytest.mark.skipif(not Path(NVCC).is_file(), reason="nvcc is not installed")


@needs_nvcc
def test_the_cuda_half_is_built_where_nvcc_is():
    assert _C.cuda
    assert {"sm_80", "sm_90a", "compute_90"} <= set(_C.cuda_archs)


@needs_nvcc
@pytest.mark.parametrize("operator", ["saliency", "optimize_adam", "optimize_ccp", "cosine_topk"])
def test_no_kernel_spills_registers(operator: str, tmp_path: Path):
    """A spill, or an array that is indexed at run time, would send what should stay in registers to memory."""
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ("80", "90a")]
    command = [
        NVCC,
        "-std=c++17",
        "-O3",
        *codes,
        "-Xptxas=-v",
        "-c",
        f"csrc/{operator}/cuda.cu",
        "-o",
        tmp_path / "out.o",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
    kernels = re.findall(r"Compiling entry function '(\w+)' for '(\w+)'", said)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert {arch for _, arch in kernels} == {"sm_80", "sm_90a"}
    assert len(frames) >= len(kernels)
    assert set(frames) == {("0", "0", "0")}


@pytest.mark.skipif(EMULATED, reason="this is the emulated run")
def test_kernels_agree_with_the_reference_on_emulated_threads():
    """The tests of the operators, and of what stands on them, with every CUDA kernel run thread by thread."""
    environment = {**os.environ, "FASTINTERP_EMULATED": str(ROOT / "build" / "emulated")}
    environment.setdefault("FASTINTERP_EXAMPLES", "20")
    files = ["tests/kernels", "tests/method", "tests/evaluation"]
    # The search for evidence is the CPU's wherever the model is, and a user's module takes torch's own passes.
    apart = ["tests/method/test_evidence.py", "tests/evaluation/test_adapted_models.py"]
    deselected = ["-k", "not threads and not instruction_set", *(f"--ignore={path}" for path in apart)]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *files, *deselected]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]


def adam_arguments(device: str) -> tuple[Problems, torch.Tensor, OptimizationConfig]:
    generator = torch.Generator().manual_seed(0)
    weights, biases = torch.randn(40, 50, 5, generator=generator) * 0.1, torch.randn(40, generator=generator) * 0.1
    start = torch.rand(30, 5, 50, generator=generator) - 0.5
    edges = torch.zeros(30, dtype=torch.int64), torch.full((30,), 5)
    target = torch.rand(30, 40, generator=generator)
    problems = Problems(target, [weights], [biases], *edges, "relu")
    return problems.to(device), start.to(device), OptimizationConfig(steps=50)


@pytest.mark.cuda
def test_operators_can_be_captured_in_a_graph():
    require_gpus(1)
    arguments = adam_arguments("cuda")
    expected = ops.optimize_adam(*arguments)[0]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.optimize_adam(*arguments)[0]
    captured.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, expected)


@pytest.mark.cuda
def test_operators_run_on_the_current_stream():
    require_gpus(1)
    problems, start, config = adam_arguments("cuda")
    expected = ops.optimize_adam(problems, start, config)[0]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        scaled = start * 2  # ready only after the sleep
        found = ops.optimize_adam(problems, scaled * 0.5, config)[0]
    stream.synchronize()
    assert torch.equal(found, expected)


@pytest.mark.cuda
def test_operators_run_on_the_device_of_their_tensors():
    require_gpus(2)
    expected = ops.optimize_adam(*adam_arguments("cuda:0"))[0]
    found = ops.optimize_adam(*adam_arguments("cuda:1"))[0]
    assert found.device == torch.device("cuda:1")
    assert torch.equal(found.cpu(), expected.cpu())
    assert torch.cuda.current_device() == 0


@pytest.mark.cuda
def test_tensors_on_different_devices_are_refused():
    require_gpus(1)
    problems, start, config = adam_arguments("cuda")
    with pytest.raises(ValueError, match="expected all on cuda:0, got one on cpu"):
        ops.optimize_adam(problems, start.cpu(), config)


@pytest.mark.cuda
@pytest.mark.parametrize("layer", [0, 1])
def test_a_gpu_interprets_as_the_cpu_does(layer: int):
    require_gpus(1)
    model, sentences = small_model(), ["a good film", "", "the bad bad plot , great actor", "odd"]
    config = OptimizationConfig(steps=100)
    on_cpu = interpret(model, sentences, layer, optimization=config)
    on_gpu = interpret(model.to("cuda"), sentences, layer, optimization=config)
    for here, there in zip(on_cpu, on_gpu, strict=True):
        assert here.label == there.label
        assert [location.tokens for location in here.locations] == [location.tokens for location in there.locations]
        for one, other in zip(here.locations, there.locations, strict=True):
            assert [word for word, _ in one.neighbors] == [word for word, _ in other.neighbors]

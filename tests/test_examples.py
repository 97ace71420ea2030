"""The examples run as they stand, in a process and a folder of their own."""

from __future__ import annotations

import importlib.util
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import small_model
from safetensors.torch import save_file
from torch import Tensor, nn

from fastinterp import load_model, save

EXAMPLES = Path(__file__).parents[1] / "examples"
# The libraries that an example needs beside our own, and the line by which it says so where one is missing.
NEEDED = {
    "chinese_by_words.py": (("jieba",), "This example needs jieba, a word segmenter for Chinese: pip install jieba\n"),
    "explain_a_keras_model.py": (("keras",), "This example needs Keras 3: pip install keras\n"),
    "explain_an_onnx_graph.py": (
        ("onnx2torch", "torchvision"),
        "This example needs onnx2torch, and before it the torchvision that was made for your PyTorch\n",
    ),
}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, list[str]]:
    save(small_model(), tmp_path / "model")
    (tmp_path / "sentences.txt").write_text("the good film\n\na dull plot\n")
    return {
        "train_and_explain.py": [str(tmp_path / "trained")],
        "saliency_of_many_sentences.py": [str(tmp_path / "model"), str(tmp_path / "sentences.txt")],
        "operators_without_a_model.py": [],
        "chinese_by_words.py": [str(tmp_path / "trained")],
        "explain_your_own_module.py": [],
        "explain_a_keras_model.py": [],
        "explain_an_onnx_graph.py": [],
        "explain_saved_weights.py": [],
    }


def run_example(name: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs it in a folder of its own; where torchvision is missing, what onnx2torch imports of it is put there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if importlib.util.find_spec("torchvision") is None and name == "explain_an_onnx_graph.py":
        package = folder / "pictures" / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "ops.py").write_text("roi_align = None\n")
        environment["PYTHONPATH"] = os.pathsep.join([str(package.parent), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs(tmp_path: Path, arguments: dict[str, list[str]], name: str):
    finished = run_example(name, arguments[name], tmp_path)
    libraries, line = NEEDED.get(name, ((), ""))
    if any(importlib.util.find_spec(library) is None for library in libraries if library != "torchvision"):
        assert finished.stderr == line
        pytest.skip(line.strip())
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) >= 3
    if name == "train_and_explain.py":
        assert load_model(tmp_path / "trained").config.classes == ("blame", "praise")
        assert "accuracy on held-out texts: 1.00" in finished.stdout
    if name == "chinese_by_words.py":
        assert "accuracy on held-out texts: 1.00" in finished.stdout
        assert "another script: 'Отличный фильм' (1.00)" in finished.stdout
        assert "sees '电影值得一看', characters 5 to 11" in finished.stdout
    if name == "explain_an_onnx_graph.py":
        assert "layers: convs/0/Conv, convs/1/Conv, convs/2/Conv" in finished.stdout
        assert "explained by the kernels: 1 convolution with relu" in finished.stdout
    if name == "explain_a_keras_model.py":
        assert "layers: phrases\nblame with probability" in finished.stdout
        assert "explained by the kernels: 1 convolution with relu" in finished.stdout


def test_an_onnx_graph_with_another_operator_is_refused_in_one_line(tmp_path: Path):
    if importlib.util.find_spec("onnx2torch") is None:
        pytest.skip("onnx2torch is not installed")
    from onnx import TensorProto, helper

    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["texts", 2])
    ids = helper.make_tensor_value_info("ids", TensorProto.FLOAT, ["texts", 2])
    graph = helper.make_graph([helper.make_node("Det", ["ids"], ["scores"])], "graph", [ids], [scores])
    path = tmp_path / "other.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    finished = run_example("explain_an_onnx_graph.py", [str(path)], tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("other.onnx: expected a graph of operators that onnx2torch has, got another: ")
    assert "Det" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


def weights() -> dict[str, Tensor]:
    """Weights of the class in the example, of 13 words."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"embedding.weight": (13, 32), "fc.weight": (2, 32), "fc.bias": (2,)}
    for place, size in enumerate((3, 5)):
        shapes |= {f"convs.{place}.weight": (16, 32, size), f"convs.{place}.bias": (16,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_saved_weights_of_both_kinds_are_explained_alike_and_code_in_a_file_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    save_file(weights(), tmp_path / "weights.safetensors")
    torch.save(weights(), tmp_path / "weights.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pt")
    shown = []
    for name in ("weights.safetensors", "weights.pt"):
        monkeypatch.setattr(sys, "argv", ["explain_saved_weights.py", str(tmp_path / name)])
        runpy.run_path(str(EXAMPLES / "explain_saved_weights.py"))
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "explained by the kernels" in shown[0]
    monkeypatch.setattr(sys, "argv", ["explain_saved_weights.py", str(tmp_path / "pickled.pt")])
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        runpy.run_path(str(EXAMPLES / "explain_saved_weights.py"))

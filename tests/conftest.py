"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from fastinterp import _C, ConvTextModel, ModelConfig, Vocabulary
from fastinterp.kernels import ops

# Several workers of pytest share the cores. Tests of threads set their number themselves.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
    torch.set_num_threads(1)

# Derandomised: a failure in CI must be the same failure on a desk. FASTINTERP_EXAMPLES=1000 digs deeper.
settings.register_profile(
    "fastinterp",
    deadline=None,
    derandomize=True,
    max_examples=int(os.environ.get("FASTINTERP_EXAMPLES", "60")),
    print_blob=True,
)
settings.load_profile("fastinterp")

WORDS = ("good", "bad", "film", "plot", "actor", "dull", "great", "slow", "fine", "odd", "Good", "the")


# With FASTINTERP_EMULATED set, the operators of the whole session are those of csrc/cuda, run on emulated threads.
EMULATED = "FASTINTERP_EMULATED" in os.environ
if EMULATED:
    from emulation.build import load_emulated_operators

    load_emulated_operators(Path(os.environ["FASTINTERP_EMULATED"]))
    ops._operators = torch.ops.fastinterp_emulated


# Where torch's matrix products do an operator's work, as on a GPU, it rounds by the size of the batch.
batch_invariant = pytest.mark.skipif(EMULATED, reason="on a GPU rounding depends on the batch")


class Watched:
    """The operators; each call must leave the tensors that it is given as they were."""

    def __init__(self, operators: object) -> None:
        self._operators = operators

    def __getattr__(self, name: str) -> Callable[..., object]:
        operator = getattr(self._operators, name)

        def call(*arguments: object) -> object:
            given = [each for one in arguments for each in (one if isinstance(one, (list, tuple)) else [one])]
            tensors = [each for each in given if isinstance(each, torch.Tensor)]
            before = [each.clone() for each in tensors]
            returned = operator(*arguments)
            for now, then in zip(tensors, before, strict=True):
                assert torch.equal(now.nan_to_num(), then.nan_to_num()), f"{name} changed one of its arguments"
            return returned

        return call


ops._operators = Watched(ops._operators)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the test that takes longest, beside which other workers run all others."""
    items.sort(key=lambda item: "emulated_threads" not in item.name)


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        require_gpus(1)
    return str(request.param)


# On emulated threads no CPU kernel runs, whatever its instruction set.
CPUS = ("cpu",) if EMULATED else _C.simd_sets


@pytest.fixture(scope="module", params=CPUS)
def cpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """The CPU, once with every instruction set that it has."""
    with instruction_set(request.param):
        yield "cpu"


@pytest.fixture(scope="module", params=[*CPUS, pytest.param("cuda", marks=pytest.mark.cuda)])
def processor(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device to run operators on: the CPU with every instruction set that it has, then the GPU."""
    if request.param == "cuda":
        require_gpus(1)
        yield "cuda"
    else:
        with instruction_set(request.param):
            yield "cpu"


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Lets CPU operators run with one of `_C.simd_sets`; the old one comes back afterwards."""
    before = _C.simd()
    if name in _C.simd_sets:
        _C.set_simd(name)
    yield
    _C.set_simd(before)


def require_gpus(count: int) -> None:
    """Skips the test where there are fewer, or no kernels for them."""
    if not (_C.cuda and torch.cuda.is_available() and torch.cuda.device_count() >= count):
        pytest.skip(f"needs {count} GPU and a build with CUDA")


@pytest.fixture(scope="session")
def checking_device(device: str) -> str:
    """A device whose operators look at the values they get; those of a GPU clamp them instead."""
    if EMULATED or device != "cpu":
        pytest.skip("a GPU's operators do not wait for values")
    return device


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = os.environ.get("FASTINTERP_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FASTINTERP_DATA_DIR does not name the folder of the shared data")
    return Path(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder and no data folder, as on a fresh machine."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTINTERP_CACHE_DIR", str(folder))
    monkeypatch.delenv("FASTINTERP_DATA_DIR", raising=False)
    return folder


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads; the old number comes back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def small_model(
    seed: int = 0,
    channels: tuple[int, ...] = (6, 5),
    kernel_sizes: tuple[int, ...] = (3, 4),
    length: int = 9,
    activation: str = "relu",
    words: tuple[str, ...] = WORDS,
    dimension: int = 7,
) -> ConvTextModel:
    """Returns a randomly initialised model in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ModelConfig(("neg", "pos"), length, channels, kernel_sizes, dimension, activation)
        return ConvTextModel(config, Vocabulary(("<pad>", "<unk>", *words))).eval()


def field_edges(model: ConvTextModel, layer: int, location: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first row of each location's receptive field inside the sentence frame, and one past the last."""
    field = model.field(layer)
    return field.edges(location, model.length, field.width)


def weights_of(model: ConvTextModel, layer: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights and biases of the convolutions up to and including `layer`."""
    stack = model.stack(layer)
    return list(stack.weights), list(stack.biases)


@pytest.fixture
def model() -> ConvTextModel:
    return small_model()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A learnable corpus: `good` and `bad` decide the label."""
    rows = ["text,label"]
    for i in range(40):
        rows.append(f"a good {WORDS[i % 12]} film,pos")
        rows.append(f"a bad {WORDS[(i + 5) % 12]} plot,neg")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path

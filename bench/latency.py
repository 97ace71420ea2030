"""What one sentence costs: imports, loading, the second call of interpret(), and the command line from the shell."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import workloads
from harness import Row, spread, timed

from fastinterp import OptimizationConfig, interpret, load_model, save

SENTENCE = "A film I will remember , although it is far too long ."
PROGRAM = str(Path(sys.executable).with_name("fastinterp"))


def processes(*commands: list[str], repeats: int) -> list[list[float]]:
    """Returns the seconds of each command as a whole process, taken in turn; each was run once before."""
    seconds: list[list[float]] = [[] for _ in commands]
    for turn in range(repeats + 1):
        for command, taken in zip(commands, seconds, strict=True):
            elapsed, _ = timed(lambda command=command: subprocess.run(command, capture_output=True, check=True))
            if turn:
                taken.append(elapsed)
    return seconds


def budget(work: str, times: list[float], seconds: float, name: str = "a budget") -> Row:
    row = Row(work, name, statistics.median(times), seconds, spread(times), 0, len(times))
    row.goal = 1.0
    return row


def in_process(model, config: OptimizationConfig, repeats: int) -> list[float]:
    interpret(model, [SENTENCE], optimization=config, answers=("points_to",))
    return [
        timed(lambda: interpret(model, [SENTENCE], optimization=config, answers=("points_to",)))[0]
        for _ in range(repeats)
    ]


def main(quick: bool = False, repeats: int = 9) -> list[Row]:
    repeats = 2 if quick else repeats
    model = workloads.model("mr", trained=not quick)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        loading = [timed(lambda: load_model(Path(folder) / "model"))[0] for _ in range(repeats + 1)][1:]
        torch_import, ours_import, help_text, one_sentence = processes(
            [sys.executable, "-c", "import torch"],
            [sys.executable, "-c", "import fastinterp; fastinterp.interpret"],
            [PROGRAM, "--help"],
            [PROGRAM, "interpret", str(Path(folder) / "model"), SENTENCE],
            repeats=repeats,
        )
    torch_seconds = statistics.median(torch_import)
    return [
        budget("import fastinterp and interpret", ours_import, 1.25 * torch_seconds, "1.25 x import torch"),
        budget("fastinterp --help", help_text, 0.5),
        budget("load_model, MR's model", loading, 0.25),
        budget("interpret one sentence, Adam", in_process(model, OptimizationConfig(), repeats), 0.010),
        budget("interpret one sentence, ccp", in_process(model, OptimizationConfig(solver="ccp"), repeats), 0.005),
        budget("fastinterp interpret, one sentence", one_sentence, torch_seconds + 1.5, "import torch + 1.5 s"),
    ]

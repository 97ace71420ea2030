"""interpret() on a whole test set, text handling included, against the time that it may take."""

from __future__ import annotations

import workloads
from harness import Row, spread, timed

from fastinterp import OptimizationConfig, interpret
from fastinterp.evaluation.matching import matching_rate

BUDGET = {"mr": 10.0}  # seconds for the test set


def run(name: str, count: int | None, repeats: int, trained: bool = True) -> list[Row]:
    model, sentences = workloads.model(name, trained), workloads.corpus(name).test.texts[:count]
    config = OptimizationConfig.preset(name)
    times = sorted(timed(lambda: interpret(model, sentences, optimization=config))[0] for _ in range(repeats))
    median = times[len(times) // 2]
    rate = matching_rate(model, sentences, optimization=config).rate if trained else None
    row = Row(
        f"interpret {name}, {len(sentences)} sentences", "a budget", median, BUDGET[name], spread(times), 0, repeats
    )
    row.goal = 1.0 if count is None else None
    row.note = "" if rate is None else f"matching rate {rate:.4f}"
    return [row]


def main(quick: bool = False, repeats: int = 3) -> list[Row]:
    return run("mr", 100 if quick else None, 1 if quick else repeats, trained=not quick)

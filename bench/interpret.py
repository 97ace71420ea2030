"""interpret() on a whole test set, everything included but loading."""

from __future__ import annotations

import statistics
import time

import workloads

from fastinterp import interpret
from fastinterp.evaluate import matching_rate


def main(name: str = "mr", repeats: int = 3) -> dict[str, float]:
    model, sentences = workloads.trained_model(name), workloads.corpus(name).test.texts
    config = workloads.OPTIMIZATION[name]
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        interpret(model, sentences, optimization=config)
        times.append(time.perf_counter() - started)
    rate = matching_rate(model, sentences, optimization=config)
    return {
        "sentences": len(sentences),
        "seconds": statistics.median(times),
        "slowest": max(times),
        "matching_rate": rate.rate,
    }


if __name__ == "__main__":
    print(main())

"""Time against the size of the work, one quantity at a time, with the fitted growth."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import workloads
from harness import timed
from workloads import AdamWork

from fastinterp.kernels import ops

REPEATS = 5


@dataclass
class Series:
    """Seconds of one operator at several sizes; they grow as size ** growth (least squares on logarithms)."""

    quantity: str
    work: str
    sizes: list[int]
    seconds: list[float]

    @property
    def growth(self) -> float:
        sizes, seconds = [math.log(size) for size in self.sizes], [math.log(each) for each in self.seconds]
        return statistics.linear_regression(sizes, seconds).slope


def measure(quantity: str, work: str, sizes: list[int], prepare: Callable[[int], Callable[[], Any]]) -> Series:
    seconds = []
    for size in sizes:
        run = prepare(size)
        run()
        seconds.append(statistics.median(timed(run)[0] for _ in range(REPEATS)))
    return Series(quantity, work, sizes, seconds)


def every_series() -> list[Series]:
    whole = workloads.adam_work_of("mr", 3200, 0, 300)
    wide = workloads.adam_work_of("ag_news", 300, 0, 300)
    vocabulary = torch.randn(160_000, 300, generator=torch.Generator().manual_seed(0))
    inverse_norms = 1 / vocabulary.norm(dim=1)
    queries = vocabulary[:1000] + torch.randn(1000, 300, generator=torch.Generator().manual_seed(1))

    def optimize(work: AdamWork) -> Callable[[], Any]:
        return lambda: ops.optimize_adam(*work)

    def with_channels(channels: int) -> AdamWork:
        problems = dataclasses.replace(
            wide.problems,
            target=wide.problems.target[:, :channels].contiguous(),
            weights=[wide.problems.weights[0][:channels]],
            biases=[wide.problems.biases[0][:channels]],
        )
        return wide._replace(problems=problems)

    def with_words(words: int) -> Callable[[], Any]:
        return lambda: ops.cosine_topk(queries, vocabulary[:words], inverse_norms[:words], 5)

    def with_threads(threads: int) -> Callable[[], Any]:
        def run() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            ops.optimize_adam(*whole.take(300))
            torch.set_num_threads(before)

        return run

    cores = torch.get_num_threads()
    threads = sorted({1, *(2**i for i in range(1, cores.bit_length())), cores} - {0})
    threads = [count for count in threads if count <= cores]
    return [
        measure("problems", "Adam, MR layer 1, 300 steps", [100, 200, 400, 800, 1600, 3200],
                lambda size: optimize(whole.take(size))),
        measure("steps", "Adam, MR layer 1, 300 problems", [100, 200, 400, 800, 1600, 3200],
                lambda size: optimize(whole.take(300).steps(size))),
        measure("channels", "Adam, AG layer 1, 300 problems, 300 steps", [32, 64, 128, 256, 512],
                lambda size: optimize(with_channels(size))),
        measure("words", "top 5 of the vocabulary, 1,000 queries", [10_000, 20_000, 40_000, 80_000, 160_000],
                with_words),
        measure("threads", "Adam, MR layer 1, 300 problems, 300 steps", threads, with_threads),
    ]  # fmt: skip

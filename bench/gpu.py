"""Every operator on a GPU against what PyTorch does there. Run by gpu_session.sh; needs neither corpora nor vectors."""

from __future__ import annotations

import sys

import torch
import workloads
from adam_peers import hand_adam, hand_step, plain_autograd_adam
from full_frame import FullFrameModel
from harness import Peer, Row, compare, print_rows, relative_error, timed, write
from saliency import captum_scores
from torch import Tensor

from fastinterp import ConvTextModel, OptimizationConfig, nearest_words, optimize_inputs, saliency
from fastinterp.kernels import ops
from fastinterp.method.interpretation import SENTENCES_AT_ONCE
from fastinterp.method.saliency import explain_locations

SENTENCES, STEPS = 7600, 1000
PEER_STEPS = 100  # a tenth of the work, extrapolated
QUERIES, K = 22_800, 5


def on_gpu(name: str) -> tuple[ConvTextModel, Tensor]:
    model, ids = workloads.drawn(name, SENTENCES)
    return model.to("cuda"), ids


def optimisation(name: str) -> list[Row]:
    model, ids = on_gpu(name)
    work = workloads.adam_work(model, workloads.located_in(model, ids, None, 0), name, STEPS)
    fewer = work.steps(PEER_STEPS)
    expected = ops.optimize_adam(*fewer)[0][:300].double()
    compiled = torch.compile(hand_step, mode="reduce-overhead")

    def error(inputs: Tensor) -> float:
        return relative_error(inputs, expected)

    share = PEER_STEPS / STEPS
    peers = [
        Peer("batched autograd Adam", lambda: plain_autograd_adam(*fewer), share, 100.0, error),
        Peer("torch.compile with CUDA graphs", lambda: hand_adam(*fewer, compiled), share, 20.0, error),
    ]
    problems = len(work.problems)
    rows = compare(f"optimise {name} layer 1, {problems} x {STEPS}", lambda: ops.optimize_adam(*work)[0], peers, 3)
    updates = STEPS * work.start.numel()
    evaluated = ops.optimize_adam(*work)[2].double().mean() / STEPS
    rate = updates / rows[0].our_seconds
    rows[0].note += f"; {rate:.3g} element updates/s, {evaluated:.2f} channel evaluations a step"
    return rows


def explanation(name: str, layer: int) -> list[Row]:
    model, ids = on_gpu(name)
    expected = saliency(model.to("cpu"), ids[:32], layer).scores.double()
    model.to("cuda")
    full, placed = FullFrameModel(model).eval(), ids.to("cuda")

    def error(scores: Tensor) -> float:
        return relative_error(scores, expected)

    peer = Peer("captum, batches of 256", lambda: captum_scores(full, placed, layer, 256), goal=10.0, error=error)
    work = f"saliency {name} layer {layer + 1}, {len(ids)} sentences"
    return compare(work, lambda: saliency(model, ids, layer).scores, [peer], 3, error, void_above=5e-3)


def search() -> list[Row]:
    model, _ = on_gpu("ag_news")
    words = model.embedding.weight.detach()[2:].contiguous()
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(0, len(words), (QUERIES, 5), generator=generator).to("cuda")
    queries = words[chosen].mean(dim=1)
    inverse_norms = 1 / words.norm(dim=1)
    units, unit_queries = words * inverse_norms[:, None], torch.nn.functional.normalize(queries)

    def torch_topk(count: int) -> Tensor:
        return torch.cat([(part @ units.T).topk(K, dim=1).indices for part in unit_queries[:count].split(2048)])

    best = (unit_queries[:500].double() @ units.double().T).topk(K, dim=1).values

    def error(indices: Tensor) -> float:
        part = indices[:500]
        exact = (unit_queries[: len(part), None].double() * units[part].double()).sum(dim=2)
        return float((exact - best[: len(part)]).abs().max())

    rows = []
    for count, goal in ((QUERIES, 2.0), (1, None)):
        few = queries[:count].contiguous()
        peer = Peer("torch mm + topk", lambda count=count: torch_topk(count), goal=goal, error=error)
        work = f"top-{K}: {count} x {len(words)} x 300"
        rows += compare(work, lambda few=few: ops.cosine_topk(few, words, inverse_norms, K)[1], [peer], 5, error)
    square = torch.ones(8192, 8192, dtype=torch.int8, device="cuda")
    torch._int_mm(square, square)
    seconds = min(timed(lambda: torch._int_mm(square, square))[0] for _ in range(5))
    rate, ours = 8192**3 / seconds, QUERIES * len(words) * 300 / rows[0].our_seconds
    rows[0].note = f"{ours / rate:.0%} of torch._int_mm's {rate:.3g} int8 products/s (goal 70%)"
    return rows


def interpretation() -> list[Row]:
    """The three operators over AG's whole test set, without text handling."""
    model, ids = on_gpu("ag_news")
    config = OptimizationConfig.preset("ag_news")

    def run() -> None:
        for part in ids.split(SENTENCES_AT_ONCE):
            _, _, activations = explain_locations(model, part, 0, 3)
            nearest_words(model, optimize_inputs(model, activations, config=config).overall, K)

    run()
    seconds = sorted(timed(run)[0] for _ in range(3))
    row = Row(f"interpret ag_news, {len(ids)} sentences", "a budget", seconds[1], 2.0, 0, 0, 3, goal=1.0)
    return [row]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("bench/gpu.py needs a GPU that torch can use.")
    rows = optimisation("mr") + optimisation("ag_news")
    rows += [row for layer in range(4) for row in explanation("ag_news", layer)]
    rows += search() + interpretation()
    print_rows(f"fastinterp on {torch.cuda.get_device_name()}", rows)
    print(write("gpu", rows, data="untrained Table-2 models, drawn sentences"))


if __name__ == "__main__":
    main()

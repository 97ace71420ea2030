"""The search for evidence: whitened activations, as many as a large index has, against faiss's exact inner product."""

from __future__ import annotations

import faiss
import torch
import workloads
from harness import Peer, Row, compare
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.method.background import fit_background
from fastinterp.method.saliency import explain_locations

K = 18  # what ActivationIndex.search asks for first when it shall find 5
CHECKED = 500  # queries that are compared with float64; the rest would take a minute


def mr_search() -> tuple[Tensor, Tensor]:
    """The 3,198 locations of MR's test sentences, and 200,000 of those of its training sentences; layer 1, whitened."""
    model, corpus = workloads.model("mr"), workloads.corpus("mr")
    whitening = fit_background(model, corpus.train.texts, [0]).layer(model, 0).whitening()
    _, _, searched = explain_locations(model, model.encode(corpus.train.texts), 0, model.length)
    explained = workloads.located(model, "mr", None, layer=0).target
    rows = torch.randperm(len(searched), generator=torch.Generator().manual_seed(0))[:200_000]
    return whitening.whiten(explained).contiguous(), whitening.whiten(searched[rows]).contiguous()


def drawn_search(queries: int, vectors: int) -> tuple[Tensor, Tensor]:
    """Drawn vectors in clusters, as activations are."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(500, 128, generator=generator)
    chosen = torch.randint(0, len(centres), (queries + vectors,), generator=generator)
    points = centres[chosen] + 0.7 * torch.randn(queries + vectors, 128, generator=generator)
    return points[:queries].contiguous(), points[queries:].contiguous()


def run(name: str, queries: Tensor, vectors: Tensor, goal: float | None, repeats: int) -> list[Row]:
    norms = torch.linalg.vector_norm(vectors, dim=1)
    inverse_norms = torch.where(norms > 0, 1 / norms, 0)
    units, unit_queries = vectors * inverse_norms[:, None], queries / queries.norm(dim=1, keepdim=True)
    checked = unit_queries[:CHECKED].double()
    exact = checked / checked.norm(dim=1, keepdim=True) @ torch.nn.functional.normalize(vectors.double(), dim=1).T
    best = exact.topk(K, dim=1).values

    def error(indices: Tensor) -> float:
        """How far the cosines of what was found are from the k highest: 0 up to float32's rounding."""
        return float((exact.gather(1, indices[:CHECKED]) - best).abs().max())

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(units.numpy())
    flat = Peer(
        "faiss-cpu flat",
        lambda: torch.from_numpy(index.search(unit_queries.numpy(), K)[1]),
        goal=goal,
        error=error,
    )
    work = f"top-{K} {name}: {len(queries)} x {len(vectors)} x {vectors.shape[1]}"
    return compare(work, lambda: ops.cosine_topk(queries, vectors, inverse_norms, K)[1], [flat], repeats, error)


def main(quick: bool = False, repeats: int = 5) -> list[Row]:
    if quick:
        return run("drawn activations", *drawn_search(200, 20_000), None, 1)
    return run("MR's activations", *mr_search(), 1.5, repeats)

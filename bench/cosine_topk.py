"""The nearest words of real optimised inputs against faiss, torch, scikit-learn and gensim."""

from __future__ import annotations

import faiss
import gensim
import numpy as np
import torch
import workloads
from harness import Peer, Row, compare
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fastinterp import optimize_inputs
from fastinterp.data.word_vectors import load_vectors
from fastinterp.kernels import ops

K = 5


def mr_search() -> tuple[Tensor, Tensor]:
    """The 3,198 optimised inputs of MR's test sentences and the model's vocabulary."""
    model = workloads.model("mr")
    return optimize_inputs(
        model, workloads.located(model, "mr", None, layer=0).target
    ).overall, model.embedding.weight.detach()[2:].contiguous()


def ag_search() -> tuple[Tensor, Tensor]:
    """Table 1's size: 84,252 words of the shared vectors; as queries 2,000 means of five of their words."""
    vectors = load_vectors()
    rows = torch.tensor(list(vectors.rows.values())[:84_252])
    words = torch.from_numpy(vectors.matrix)[rows]
    chosen = torch.randint(0, len(words), (2000, 5), generator=torch.Generator().manual_seed(0))
    return words[chosen].mean(dim=1), words.contiguous()


def run(
    name: str, queries: Tensor, words: Tensor, goals: dict[str, float], repeats: int, slow: bool = True
) -> list[Row]:
    norms = torch.linalg.vector_norm(words, dim=1, dtype=torch.float64)
    inverse_norms = torch.where(norms > 0, 1 / norms, 0).float()
    units = words * inverse_norms[:, None]
    unit_queries = queries / queries.norm(dim=1, keepdim=True)
    exact = unit_queries.double() @ (words.double() * torch.where(norms > 0, 1 / norms, 0)[:, None]).T
    best = exact.topk(K, dim=1).values

    def error(indices: Tensor) -> float:
        """How far the cosines of what was found are from the k highest: 0 up to float32's rounding."""
        return float((exact.gather(1, indices) - best).abs().max())

    index = faiss.IndexFlatIP(words.shape[1])
    index.add(units.numpy())
    batch = max(1, min(len(queries), 512))

    def torch_topk() -> Tensor:
        return torch.cat([(part @ units.T).topk(K, dim=1).indices for part in unit_queries.split(batch)])

    def ours() -> Tensor:
        return ops.cosine_topk(queries, words, inverse_norms, K)[1]

    peers = [
        Peer("faiss-cpu flat", lambda: torch.from_numpy(index.search(unit_queries.numpy(), K)[1]), error=error),
        Peer("torch mm + topk", torch_topk, error=error),
    ]
    if slow:
        brute = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(words.numpy())
        keyed = gensim.models.KeyedVectors(words.shape[1])
        keyed.add_vectors([str(i) for i in range(len(words))], words.numpy())
        keyed.fill_norms()
        few = queries[:50].numpy()

        def gensim_words() -> Tensor:
            return torch.tensor([[int(word) for word, _ in keyed.most_similar([query], topn=K)] for query in few])

        peers += [
            Peer(
                "scikit-learn brute",
                lambda: torch.from_numpy(brute.kneighbors(queries.numpy())[1].astype(np.int64)),
                error=error,
            ),
            Peer("gensim most_similar", gensim_words, len(few) / len(queries)),
        ]
    for peer in peers:
        peer.goal = goals.get(peer.name)
    return compare(f"top-{K} {name}: {len(queries)} x {len(words)} x {words.shape[1]}", ours, peers, repeats, error)


def main(quick: bool = False, repeats: int = 5) -> list[Row]:
    queries, words = ag_search()
    if quick:
        return run("quick", queries[:200], words[:20_000].contiguous(), {}, 1, slow=False)
    single = run("single", queries[:1], words, {"faiss-cpu flat": 1.0}, 15, slow=False)
    return (
        run("mr", *mr_search(), {"faiss-cpu flat": 1.5}, repeats)
        + run("ag", queries, words, {"faiss-cpu flat": 1.5}, repeats)
        + single
    )

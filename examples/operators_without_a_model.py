"""The operators on plain tensors: optimise receptive fields and search for their nearest rows, without text.

python examples/operators_without_a_model.py
"""

import torch

from fastinterp import OptimizationConfig, Problems, ops

torch.manual_seed(0)
PROBLEMS, CHANNELS, KERNEL, WIDTH, WORDS = 8, 16, 5, 50, 1000

problems = Problems(
    target=torch.rand(PROBLEMS, CHANNELS),
    weights=[torch.randn(CHANNELS, WIDTH, KERNEL) * 0.1],
    biases=[torch.zeros(CHANNELS)],
    begin=torch.zeros(PROBLEMS, dtype=torch.int64),
    end=torch.full((PROBLEMS,), KERNEL),
    activation="relu",
)
start = (torch.rand(PROBLEMS, KERNEL, WIDTH) - 0.5) * 0.2
inputs, gates, evaluations = ops.optimize_adam(problems, start, OptimizationConfig(steps=500))
dense = 500 * int((problems.target > 0).sum())
print(f"{int(evaluations.sum()):,} pre-activations computed where a dense method computes {dense:,}")

vocabulary = torch.randn(WORDS, WIDTH)
cosines, rows = ops.cosine_topk(inputs.mean(dim=1), vocabulary, 1 / vocabulary.norm(dim=1), 3)
for problem, (cosine, row) in enumerate(zip(cosines.tolist(), rows.tolist(), strict=True)):
    print(f"problem {problem}: rows {row}, cosines {[round(value, 3) for value in cosine]}")

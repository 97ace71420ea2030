// What exchange_words asks of its arguments, on both processors.
#pragma once

#include "../shared/check.h"

namespace fastinterp {

inline ConvStack check_exchange(const Problems& problems, const at::Tensor& vectors, const at::Tensor& candidates,
                                const at::Tensor& mean, const at::Tensor& factor, int64_t rounds, double tie) {
  check_floats(problems.target, "target", 2);
  check_floats(vectors, "vectors", 2);
  const ConvStack stack = check_stack(problems.weights, problems.biases, problems.activation, vectors.size(1));
  check_problem_shapes(stack, problems);
  const int64_t count = problems.target.size(0), channels = problems.target.size(1), rows = stack.receptive_field();
  TORCH_CHECK_VALUE(candidates.scalar_type() == at::kLong && candidates.is_contiguous() && candidates.dim() == 3 &&
                        candidates.size(0) == count && candidates.size(1) == rows && candidates.size(2) >= 1,
                    "candidates: expected contiguous int64 of shape (", count, ", ", rows, ", M), M at least 1, got ",
                    candidates.scalar_type(), " of shape ", candidates.sizes());
  check_mean(mean, channels);
  check_square(factor, "factor", channels);
  TORCH_CHECK_VALUE(rounds >= 0, "rounds: expected at least 0, got ", rounds);
  TORCH_CHECK_VALUE(tie >= 0, "tie: expected at least 0, got ", tie);
  return stack;
}

}  // namespace fastinterp

// What optimize_adam asks of its arguments, on both processors.
#pragma once

#include "../shared/adam.h"
#include "../shared/check.h"

namespace fastinterp {

inline ConvStack check_adam(const Problems& problems, const at::Tensor& start, const AdamSettings& settings) {
  check_floats(problems.target, "target", 2);
  check_floats(start, "start", 3);
  const ConvStack stack = check_stack(problems.weights, problems.biases, problems.activation, start.size(2));
  check_problem_shapes(stack, problems);
  const int64_t count = problems.target.size(0), rows = stack.receptive_field();
  TORCH_CHECK_VALUE(start.size(0) == count && start.size(1) == rows, "start: expected shape (", count, ", ", rows,
                    ", D), got ", start.sizes());
  TORCH_CHECK_VALUE(settings.steps >= 0, "steps: expected at least 0, got ", settings.steps);
  TORCH_CHECK_VALUE(settings.epsilon > 0, "epsilon: expected more than 0, got ", settings.epsilon);
  return stack;
}

}  // namespace fastinterp

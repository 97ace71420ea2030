// What optimize_ccp asks of its arguments, on both processors.
#pragma once

#include "../shared/check.h"
#include "settings.h"

namespace fastinterp {

inline ConvStack check_ccp(const Problems& problems, const CcpSettings& settings) {
  check_floats(problems.target, "target", 2);
  TORCH_CHECK_VALUE(!problems.weights.empty() && problems.weights[0].dim() == 3,
                    "weights: expected layers of 3 dimensions");
  const ConvStack stack =
      check_stack(problems.weights, problems.biases, problems.activation, problems.weights[0].size(1));
  TORCH_CHECK_VALUE(!stack.activation.is_tanh, "activation: expected relu, leaky_relu or identity, got ",
                    problems.activation);
  TORCH_CHECK_VALUE(settings.l2_weight > 0, "l2_weight: expected more than 0, got ", settings.l2_weight);
  TORCH_CHECK_VALUE(settings.max_iterations >= 1, "max_iterations: expected at least 1, got ", settings.max_iterations);
  check_problem_shapes(stack, problems);
  return stack;
}

}  // namespace fastinterp

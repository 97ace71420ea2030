// What optimize_ccp asks of its arguments, on both processors.
#pragma once

#include "../shared/check.h"
#include "settings.h"

namespace fastinterp {

// The stack is the first layer alone.
inline ConvStack check_ccp(const Problems& problems, const CcpSettings& settings) {
  check_floats(problems.target, "target", 2);
  TORCH_CHECK_VALUE(!problems.weights.empty() && problems.weights[0].dim() == 3,
                    "weights: expected one layer of 3 dimensions");
  const ConvStack stack =
      check_stack(problems.weights, problems.biases, problems.activation, problems.weights[0].size(1));
  TORCH_CHECK_VALUE(stack.size() == 1, "weights: expected the first layer alone, got ", stack.size(), " layers");
  TORCH_CHECK_VALUE(problems.activation == "relu" || problems.activation == "identity",
                    "activation: expected relu or identity, got ", problems.activation);
  TORCH_CHECK_VALUE(settings.l2_weight > 0, "l2_weight: expected more than 0, got ", settings.l2_weight);
  TORCH_CHECK_VALUE(settings.max_iterations >= 1, "max_iterations: expected at least 1, got ", settings.max_iterations);
  check_problem_shapes(stack, problems);
  return stack;
}

}  // namespace fastinterp

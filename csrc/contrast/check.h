// What contrast asks of its arguments, on both processors.
#pragma once

#include "../shared/check.h"
#include "settings.h"

namespace fastinterp {

// What is usual in the layers: how activations of the last are judged, and how open the gates below it are.
struct ContrastBackground {
  at::TensorList slopes;        // of each layer below the last (C_l)
  const at::Tensor& mean;       // (C)
  const at::Tensor& precision;  // (C, C)
  const at::Tensor& factor;     // (C, C), precision = factor factor^T
};

inline ConvStack check_contrast(const Problems& problems, const ContrastBackground& background,
                                const ContrastSettings& settings) {
  check_floats(problems.target, "target", 2);
  TORCH_CHECK_VALUE(!problems.weights.empty() && problems.weights[0].dim() == 3,
                    "weights: expected at least one layer of 3 dimensions");
  const ConvStack stack =
      check_stack(problems.weights, problems.biases, problems.activation, problems.weights[0].size(1));
  check_problem_shapes(stack, problems);
  const int64_t channels = problems.target.size(1);
  TORCH_CHECK_VALUE(static_cast<int64_t>(background.slopes.size()) == stack.size() - 1, "slopes: expected ",
                    stack.size() - 1, " tensors, got ", background.slopes.size());
  for (int64_t l = 0; l + 1 < stack.size(); ++l) {
    check_floats(background.slopes[l], "slopes", 1);
    TORCH_CHECK_VALUE(background.slopes[l].size(0) == stack.layers[l].out_channels, "slopes: layer ", l, " has ",
                      background.slopes[l].size(0), " values for ", stack.layers[l].out_channels, " channels");
  }
  check_mean(background.mean, channels);
  check_square(background.precision, "precision, factor", channels);
  check_square(background.factor, "precision, factor", channels);
  TORCH_CHECK_VALUE(settings.steps >= 0, "steps: expected at least 0, got ", settings.steps);
  TORCH_CHECK_VALUE(settings.damping > 0, "damping: expected more than 0, got ", settings.damping);
  return stack;
}

}  // namespace fastinterp

// Checks that every optimiser makes of its problems.
#pragma once

#include "stack.h"

namespace fastinterp {

// Shapes and dtypes; looks at no value, so it needs no synchronisation with a GPU.
inline void check_problem_shapes(const ConvStack& stack, const at::Tensor& target, const at::Tensor& begin,
                                 const at::Tensor& end) {
  const int64_t problems = target.size(0), channels = stack.layers.back().out_channels;
  TORCH_CHECK_VALUE(target.size(1) == channels, "target: expected ", channels, " channels, got ", target.size(1));
  for (const at::Tensor* edge : {&begin, &end})
    TORCH_CHECK_VALUE(
        edge->scalar_type() == at::kLong && edge->dim() == 1 && edge->size(0) == problems && edge->is_contiguous(),
        "begin, end: expected contiguous int64 of shape (", problems, ")");
}

inline void check_problem_rows(const ConvStack& stack, const at::Tensor& begin, const at::Tensor& end) {
  const int64_t field = stack.field(stack.size() - 1), center = stack.center(stack.size() - 1);
  const int64_t* begins = begin.const_data_ptr<int64_t>();
  const int64_t* ends = end.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < begin.size(0); ++b)
    TORCH_CHECK_VALUE(0 <= begins[b] && begins[b] <= center && center < ends[b] && ends[b] <= field,
                      "begin, end: problem ", b, " has rows [", begins[b], ", ", ends[b], "), expected rows of [0, ",
                      field, ") that hold the location itself, row ", center);
}

inline ConvStack check_adam(const at::Tensor& target, at::TensorList weights, at::TensorList biases,
                            const at::Tensor& start, const at::Tensor& begin, const at::Tensor& end,
                            const std::string& activation, int64_t steps, double epsilon) {
  check_floats(target, "target", 2);
  check_floats(start, "start", 3);
  const ConvStack stack = check_stack(weights, biases, activation, start.size(2));
  check_problem_shapes(stack, target, begin, end);
  TORCH_CHECK_VALUE(start.size(0) == target.size(0) && start.size(1) == stack.field(stack.size() - 1),
                    "start: expected shape (", target.size(0), ", ", stack.field(stack.size() - 1), ", D), got ",
                    start.sizes());
  TORCH_CHECK_VALUE(steps >= 0, "steps: expected at least 0, got ", steps);
  TORCH_CHECK_VALUE(epsilon > 0, "epsilon: expected more than 0, got ", epsilon);
  return stack;
}

// The stack of a concave-convex problem is the first layer alone.
inline ConvStack check_ccp(const at::Tensor& target, at::TensorList weights, at::TensorList biases,
                           const at::Tensor& begin, const at::Tensor& end, const std::string& activation,
                           int64_t max_iterations, double l2_weight) {
  check_floats(target, "target", 2);
  TORCH_CHECK_VALUE(!weights.empty() && weights[0].dim() == 3, "weights: expected one layer of 3 dimensions");
  const ConvStack stack = check_stack(weights, biases, activation, weights[0].size(1));
  TORCH_CHECK_VALUE(stack.size() == 1, "weights: expected the first layer alone, got ", stack.size(), " layers");
  TORCH_CHECK_VALUE(activation == "relu" || activation == "identity", "activation: expected relu or identity, got ",
                    activation);
  TORCH_CHECK_VALUE(l2_weight > 0, "l2_weight: expected more than 0, got ", l2_weight);
  TORCH_CHECK_VALUE(max_iterations >= 1, "max_iterations: expected at least 1, got ", max_iterations);
  check_problem_shapes(stack, target, begin, end);
  return stack;
}

}  // namespace fastinterp

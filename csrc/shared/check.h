// Checks that several operators make of their tensors, the same on both processors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdio>
#include <locale>
#include <sstream>
#include <string>

#include "stack.h"

namespace fastinterp {

inline void check_floats(const at::Tensor& tensor, const char* name, int64_t dimensions) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat, name, ": expected float32, got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.dim() == dimensions, name, ": expected ", dimensions, " dimensions, got shape ",
                    tensor.sizes());
  TORCH_CHECK_VALUE(tensor.is_contiguous(), name, ": expected a contiguous tensor");
}

// "leaky_relu:0.2" is a leaky ReLU of that slope, without a number of 0.01.
inline Activation parse_activation(c10::string_view name) {
  if (name == "relu") return {false, 0.0f};
  if (name == "leaky_relu") return {false, 0.01f};
  if (name == "identity") return {false, 1.0f};
  if (name == "tanh") return {true, 0.0f};
  const std::string text(name), leaky = "leaky_relu:";
  std::istringstream number(text.starts_with(leaky) ? text.substr(leaky.size()) : "");
  number.imbue(std::locale::classic());  // whatever the process writes between units and tenths
  float slope = -1;
  TORCH_CHECK_VALUE(number >> slope && number.peek() == EOF && slope >= 0 && slope <= 1,
                    "activation: expected relu, leaky_relu, leaky_relu:SLOPE with a slope of 0 to 1, identity or tanh, "
                    "got ",
                    text);
  return {false, slope};
}

inline ConvStack check_stack(at::TensorList weights, at::TensorList biases, c10::string_view activation,
                             int64_t in_channels) {
  TORCH_CHECK_VALUE(!weights.empty(), "weights: expected at least one layer");
  TORCH_CHECK_VALUE(weights.size() == biases.size(), "biases: expected ", weights.size(), " tensors, got ",
                    biases.size());
  ConvStack stack{{}, parse_activation(activation)};
  for (size_t l = 0; l < weights.size(); ++l) {
    check_floats(weights[l], "weights", 3);
    check_floats(biases[l], "biases", 1);
    TORCH_CHECK_VALUE(weights[l].numel() > 0, "weights: layer ", l, " is empty, shape ", weights[l].sizes());
    TORCH_CHECK_VALUE(weights[l].size(1) == in_channels, "weights: layer ", l, " takes ", weights[l].size(1),
                      " channels but receives ", in_channels);
    TORCH_CHECK_VALUE(biases[l].size(0) == weights[l].size(0), "biases: layer ", l, " has ", biases[l].size(0),
                      " values for ", weights[l].size(0), " channels");
    stack.layers.push_back({weights[l].const_data_ptr<float>(), biases[l].const_data_ptr<float>(), weights[l].size(0),
                            weights[l].size(1), weights[l].size(2)});
    in_channels = weights[l].size(0);
  }
  return stack;
}

// What the optimisers and exchange_words are given of their B problems: what the locations detect, and which rows of
// their receptive fields lie inside the sentence frame.
struct Problems {
  const at::Tensor& target;  // (B, C)
  at::TensorList weights;
  at::TensorList biases;
  const at::Tensor& begin;  // (B)
  const at::Tensor& end;    // (B)
  c10::string_view activation;
};

// Shapes and dtypes; looks at no value, so it needs no synchronisation with a GPU.
inline void check_problem_shapes(const ConvStack& stack, const Problems& problems) {
  const int64_t count = problems.target.size(0), channels = stack.layers.back().out_channels;
  TORCH_CHECK_VALUE(problems.target.size(1) == channels, "target: expected ", channels, " channels, got ",
                    problems.target.size(1));
  for (const at::Tensor* edge : {&problems.begin, &problems.end})
    TORCH_CHECK_VALUE(
        edge->scalar_type() == at::kLong && edge->dim() == 1 && edge->size(0) == count && edge->is_contiguous(),
        "begin, end: expected contiguous int64 of shape (", count, ")");
}

// The usual activations of a layer.
inline void check_mean(const at::Tensor& mean, int64_t channels) {
  check_floats(mean, "mean", 1);
  TORCH_CHECK_VALUE(mean.size(0) == channels, "mean: expected ", channels, " values, got ", mean.size(0));
}

inline void check_square(const at::Tensor& matrix, const char* name, int64_t channels) {
  check_floats(matrix, name, 2);
  TORCH_CHECK_VALUE(matrix.size(0) == channels && matrix.size(1) == channels, name, ": expected shape (", channels,
                    ", ", channels, "), got ", matrix.sizes());
}

// The values of `begin` and `end`, which stand in the CPU's memory.
inline void check_problem_rows(const ConvStack& stack, const Problems& problems) {
  const int64_t rows = stack.receptive_field(), center = stack.center();
  const int64_t* begin = problems.begin.const_data_ptr<int64_t>();
  const int64_t* end = problems.end.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < problems.begin.size(0); ++b)
    TORCH_CHECK_VALUE(0 <= begin[b] && begin[b] <= center && center < end[b] && end[b] <= rows, "begin, end: problem ",
                      b, " has rows [", begin[b], ", ", end[b], "), expected rows of [0, ", rows,
                      ") that hold the location itself, row ", center);
}

}  // namespace fastinterp

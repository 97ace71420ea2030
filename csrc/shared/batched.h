// A stack of convolutions over many receptive fields in torch's matrix products, for operators that need no kernel of
// their own on a GPU.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "stack.h"

namespace fastinterp::cuda {

// (B, P, C_in) to (B, P - K + 1, C_out), without bias.
inline at::Tensor convolve(const at::Tensor& values, const at::Tensor& weight) {
  return at::matmul(values.unfold(1, weight.size(2), 1).flatten(2), weight.flatten(1).t());
}

// Gradients (B, P, C_out) sent back to the input (B, P + K - 1, C_in).
inline at::Tensor convolve_back(const at::Tensor& gradients, const at::Tensor& weight) {
  const int64_t count = gradients.size(0), rows = gradients.size(1), width = weight.size(1), kernel = weight.size(2);
  const at::Tensor parts = at::matmul(gradients, weight.transpose(1, 2).flatten(1)).view({count, rows, kernel, width});
  at::Tensor back = at::zeros({count, rows + kernel - 1, width}, gradients.options());
  for (int64_t row = 0; row < kernel; ++row) back.narrow(1, row, rows).add_(parts.select(2, row));
  return back;
}

inline at::Tensor activate(Activation activation, const at::Tensor& z) {
  if (activation.is_tanh) return at::tanh(z);
  return activation.slope == 0 ? at::relu(z) : at::leaky_relu(z, activation.slope);
}

inline at::Tensor slope_at(Activation activation, const at::Tensor& values) {
  if (activation.is_tanh) return 1 - values * values;
  return at::where(values > 0, at::ones_like(values), at::full_like(values, activation.slope));
}

// (B, P, 1) float, 1 or 0: which of the field's rows, then of each layer's outputs, lie inside the sentence frame.
inline std::vector<at::Tensor> existing(const ConvStack& stack, const at::Tensor& begin, const at::Tensor& end) {
  std::vector<at::Tensor> exists;
  int64_t rows = stack.receptive_field(), offset = 0;
  for (int64_t l = 0; l <= stack.size(); ++l) {
    const at::Tensor place = at::arange(rows, begin.options()) + offset;
    const at::Tensor inside = (place >= begin.unsqueeze(1)).logical_and(place < end.unsqueeze(1));
    exists.push_back(inside.unsqueeze(2).to(at::kFloat));
    if (l == stack.size()) break;
    rows -= stack.layers[l].kernel - 1;
    offset += (stack.layers[l].kernel - 1) / 2;
  }
  return exists;
}

// Pre-activations (B, P, C) of each layer for those of the first.
inline std::vector<at::Tensor> see_above(const at::Tensor& first, at::TensorList weights, at::TensorList biases,
                                         Activation activation, const std::vector<at::Tensor>& exists) {
  std::vector<at::Tensor> z{first};
  for (size_t l = 1; l < weights.size(); ++l)
    z.push_back(convolve(activate(activation, z.back()) * exists[l], weights[l]) + biases[l]);
  return z;
}

}  // namespace fastinterp::cuda

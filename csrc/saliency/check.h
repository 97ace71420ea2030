// What saliency asks of its arguments, on both processors.
#pragma once

#include <algorithm>

#include "../shared/check.h"

namespace fastinterp {

// The arguments of the operator.
struct SaliencyArguments {
  const at::Tensor& embedded;  // (B, T, D)
  const at::Tensor& lengths;   // (B)
  int64_t frame;               // L
  at::TensorList weights;
  at::TensorList biases;
  const at::Tensor& class_weight;  // (classes, C of the last layer)
  const at::Tensor& class_bias;    // (classes)
  c10::string_view activation;
  int64_t layer;
};

// Everything but the values of `lengths`.
inline ConvStack check_saliency(const SaliencyArguments& given) {
  check_floats(given.embedded, "embedded", 3);
  check_floats(given.class_weight, "class_weight", 2);
  check_floats(given.class_bias, "class_bias", 1);
  const ConvStack stack = check_stack(given.weights, given.biases, given.activation, given.embedded.size(2));
  const int64_t sentences = given.embedded.size(0), positions = given.embedded.size(1);
  const int64_t classes = given.class_weight.size(0), last = stack.size() - 1;
  TORCH_CHECK_VALUE(given.frame > 0 && given.frame >= positions, "frame: expected at least ",
                    std::max<int64_t>(positions, 1), ", got ", given.frame);
  TORCH_CHECK_VALUE(given.lengths.scalar_type() == at::kLong && given.lengths.dim() == 1 &&
                        given.lengths.size(0) == sentences && given.lengths.is_contiguous(),
                    "lengths: expected contiguous int64 of shape (", sentences, ")");
  TORCH_CHECK_VALUE(given.layer >= 0 && given.layer <= last, "layer: expected 0 to ", last, ", got ", given.layer);
  TORCH_CHECK_VALUE(classes > 0 && given.class_weight.size(1) == stack.layers[last].out_channels,
                    "class_weight: expected shape (classes, ", stack.layers[last].out_channels, "), got ",
                    given.class_weight.sizes());
  TORCH_CHECK_VALUE(given.class_bias.size(0) == classes, "class_bias: expected ", classes, " values, got ",
                    given.class_bias.size(0));
  return stack;
}

}  // namespace fastinterp

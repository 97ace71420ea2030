// A stack of 1-D convolutions as every operator receives it: checked once, then plain pointers.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "cpu/layers.h"

namespace fastinterp {

struct ConvWeights {
  const float* weight;  // (out_channels, in_channels, kernel), contiguous
  const float* bias;    // (out_channels)
  int64_t out_channels;
  int64_t in_channels;
  int64_t kernel;
};

struct ConvStack {
  std::vector<ConvWeights> layers;
  Activation activation;

  int64_t size() const { return static_cast<int64_t>(layers.size()); }

  // Where the location itself stands in the receptive field of layer `depth`.
  int64_t center(int64_t depth) const {
    int64_t left = 0;
    for (int64_t l = 0; l <= depth; ++l) left += (layers[l].kernel - 1) / 2;
    return left;
  }

  // Receptive-field width of layer `depth` (stride and dilation 1).
  int64_t field(int64_t depth) const {
    int64_t width = 1;
    for (int64_t l = 0; l <= depth; ++l) width += layers[l].kernel - 1;
    return width;
  }
};

inline void check_floats(const at::Tensor& tensor, const char* name, int64_t dimensions) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat, name, ": expected float32, got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.dim() == dimensions, name, ": expected ", dimensions, " dimensions, got shape ",
                    tensor.sizes());
  TORCH_CHECK_VALUE(tensor.is_contiguous(), name, ": expected a contiguous tensor");
}

inline Activation parse_activation(const std::string& name) {
  if (name == "relu") return {false, 0.0f};
  if (name == "leaky_relu") return {false, 0.01f};
  if (name == "identity") return {false, 1.0f};
  TORCH_CHECK_VALUE(name == "tanh", "activation: expected relu, leaky_relu, identity or tanh, got ", name);
  return {true, 0.0f};
}

inline ConvStack check_stack(at::TensorList weights, at::TensorList biases, const std::string& activation,
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

// Everything about a saliency problem but the values of `lengths`.
inline ConvStack check_saliency(const at::Tensor& embedded, const at::Tensor& lengths, int64_t frame,
                                at::TensorList weights, at::TensorList biases, const at::Tensor& class_weight,
                                const at::Tensor& class_bias, const std::string& activation, int64_t layer) {
  check_floats(embedded, "embedded", 3);
  check_floats(class_weight, "class_weight", 2);
  check_floats(class_bias, "class_bias", 1);
  const ConvStack stack = check_stack(weights, biases, activation, embedded.size(2));
  const int64_t positions = embedded.size(1), classes = class_weight.size(0), last = stack.size() - 1;
  TORCH_CHECK_VALUE(frame > 0 && frame >= positions, "frame: expected at least ", std::max<int64_t>(positions, 1),
                    ", got ", frame);
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.dim() == 1 && lengths.size(0) == embedded.size(0) &&
                        lengths.is_contiguous(),
                    "lengths: expected contiguous int64 of shape (", embedded.size(0), ")");
  TORCH_CHECK_VALUE(layer >= 0 && layer <= last, "layer: expected 0 to ", last, ", got ", layer);
  TORCH_CHECK_VALUE(classes > 0 && class_weight.size(1) == stack.layers[last].out_channels,
                    "class_weight: expected shape (classes, ", stack.layers[last].out_channels, "), got ",
                    class_weight.sizes());
  TORCH_CHECK_VALUE(class_bias.size(0) == classes, "class_bias: expected ", classes, " values, got ",
                    class_bias.size(0));
  return stack;
}

// Shapes and dtypes of a cosine search.
inline void check_search(const at::Tensor& queries, const at::Tensor& vocabulary, const at::Tensor& inverse_norms) {
  check_floats(queries, "queries", 2);
  check_floats(vocabulary, "vocabulary", 2);
  check_floats(inverse_norms, "inverse_norms", 1);
  TORCH_CHECK_VALUE(vocabulary.size(1) == queries.size(1), "vocabulary: expected ", queries.size(1), " columns, got ",
                    vocabulary.size(1));
  TORCH_CHECK_VALUE(inverse_norms.size(0) == vocabulary.size(0), "inverse_norms: expected ", vocabulary.size(0),
                    " values, got ", inverse_norms.size(0));
}

}  // namespace fastinterp

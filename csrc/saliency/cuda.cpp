// fastinterp::saliency on a GPU: checks its arguments, lays the weights out, makes its results, launches cuda.cu.
#include "cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> saliency(const at::Tensor& embedded, const at::Tensor& lengths,
                                                        int64_t frame, at::TensorList weights, at::TensorList biases,
                                                        const at::Tensor& class_weight, const at::Tensor& class_bias,
                                                        c10::string_view activation, int64_t layer,
                                                        bool keep_activations) {
  const ConvStack stack =
      check_saliency({embedded, lengths, frame, weights, biases, class_weight, class_bias, activation, layer});
  check_same_device(embedded.device(), {lengths, class_weight, class_bias}, "lengths, class_weight, class_bias");
  check_same_device(embedded.device(), weights, "weights");
  check_same_device(embedded.device(), biases, "biases");
  TORCH_CHECK_VALUE(stack.size() <= kMostLayers, "weights: expected at most ", kMostLayers, " layers on a GPU, got ",
                    stack.size());
  const OnDevice on(embedded.device());
  const int64_t count = embedded.size(0), classes = class_weight.size(0), last = stack.size() - 1;
  const at::TensorOptions floats = embedded.options();
  at::Tensor scores = at::empty({count, frame}, floats), class_scores = at::empty({count, classes}, floats);
  at::Tensor activations = at::empty({keep_activations ? count : 0, frame, stack.layers[layer].out_channels}, floats);

  Sentences sentences{};
  std::vector<at::Tensor> kept;
  int64_t widest = embedded.size(2);
  for (int64_t l = 0; l <= last; ++l) {
    const ConvWeights& weight = stack.layers[l];
    kept.push_back(weights[l].permute({2, 1, 0}).contiguous());  // (K, C_in, C)
    const at::Tensor& forward = kept.back();
    sentences.layers[l].forward = forward.const_data_ptr<float>();
    kept.push_back(weights[l].permute({2, 0, 1}).contiguous());  // (K, C, C_in)
    sentences.layers[l].backward = kept.back().const_data_ptr<float>();
    kept.push_back(at::empty({frame, weight.out_channels}, floats));
    sentences.layers[l].padding = kept.back().data_ptr<float>();
    sentences.layers[l].bias = weight.bias;
    sentences.layers[l].values = sentences.scratch_floats;
    sentences.layers[l].in_channels = static_cast<int>(weight.in_channels);
    sentences.layers[l].out_channels = static_cast<int>(weight.out_channels);
    sentences.layers[l].kernel = static_cast<int>(weight.kernel);
    sentences.scratch_floats += frame * weight.out_channels;
    widest = std::max(widest, weight.out_channels);
  }
  sentences.gradient = sentences.scratch_floats;
  sentences.gradient_floats = frame * widest;
  sentences.scratch_floats += 2 * sentences.gradient_floats;
  const int64_t blocks = saliency_blocks(count);
  const at::Tensor scratch = at::empty({blocks, sentences.scratch_floats}, floats);
  const at::Tensor padding_maximum = at::empty({frame, stack.layers[last].out_channels}, floats.dtype(at::kInt));
  sentences.embedded = embedded.const_data_ptr<float>();
  sentences.lengths = lengths.const_data_ptr<int64_t>();
  sentences.count = count;
  sentences.positions = static_cast<int>(embedded.size(1));
  sentences.frame = static_cast<int>(frame);
  sentences.layer_count = static_cast<int>(stack.size());
  sentences.explained = static_cast<int>(layer);
  sentences.is_tanh = stack.activation.is_tanh;
  sentences.slope = stack.activation.slope;
  sentences.class_weight = class_weight.const_data_ptr<float>();
  sentences.class_bias = class_bias.const_data_ptr<float>();
  sentences.classes = static_cast<int>(classes);
  sentences.padding_maximum = padding_maximum.data_ptr<int>();
  sentences.scratch = scratch.data_ptr<float>();
  sentences.scores = scores.data_ptr<float>();
  sentences.class_scores = class_scores.data_ptr<float>();
  sentences.activations = keep_activations ? activations.data_ptr<float>() : nullptr;
  explain_sentences(sentences, blocks, on.stream());
  return {scores, class_scores, activations};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("saliency", &saliency); }

}  // namespace fastinterp::cuda

// fastinterp::saliency on the CPU: checks and repacks tensors, then explains one sentence per thread at a time.
#include "saliency.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "packed_stack.h"

#define FASTINTERP_KERNEL "saliency_kernel.inl"
#include "for_each_isa.h"

namespace fastinterp {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> saliency(const at::Tensor& embedded, at::TensorList weights,
                                                        at::TensorList biases, const at::Tensor& class_weight,
                                                        const at::Tensor& class_bias, c10::string_view activation,
                                                        int64_t layer) {
  check_floats(embedded, "embedded", 3);
  check_floats(class_weight, "class_weight", 2);
  check_floats(class_bias, "class_bias", 1);
  const ConvStack stack = check_stack(weights, biases, std::string(activation), embedded.size(2));
  const int64_t sentences = embedded.size(0), length = embedded.size(1), width = embedded.size(2);
  const int64_t classes = class_weight.size(0), last = stack.size() - 1;
  TORCH_CHECK_VALUE(length > 0, "embedded: expected at least one position, got shape ", embedded.sizes());
  TORCH_CHECK_VALUE(layer >= 0 && layer <= last, "layer: expected 0 to ", last, ", got ", layer);
  TORCH_CHECK_VALUE(classes > 0 && class_weight.size(1) == stack.layers[last].out_channels,
                    "class_weight: expected shape (classes, ", stack.layers[last].out_channels, "), got ",
                    class_weight.sizes());
  TORCH_CHECK_VALUE(class_bias.size(0) == classes, "class_bias: expected ", classes, " values, got ",
                    class_bias.size(0));

  const int64_t channels = stack.layers[layer].out_channels;
  at::Tensor scores = at::empty({sentences, length}, embedded.options());
  at::Tensor class_scores = at::empty({sentences, classes}, embedded.options());
  at::Tensor activations = at::empty({sentences, length, channels}, embedded.options());

  PackedStack packed;
  for (int64_t l = 0; l <= last; ++l) packed.add(stack.layers[l], {l == last, true, l > layer && l < last});
  const Classifier model{packed.layers(),
                         stack.size(),
                         stack.activation,
                         length,
                         class_weight.const_data_ptr<float>(),
                         class_bias.const_data_ptr<float>(),
                         classes};
  const int64_t scratch_floats = FASTINTERP_DISPATCH(saliency_scratch_floats)(model);
  const float* inputs = embedded.const_data_ptr<float>();
  const Explanation out{scores.data_ptr<float>(), class_scores.data_ptr<float>(), activations.data_ptr<float>()};

  at::parallel_for(0, sentences, 1, [&](int64_t first, int64_t end) {
    FloatBuffer scratch(scratch_floats);
    std::vector<int64_t> position(stack.layers[last].out_channels);
    for (int64_t b = first; b < end; ++b) FASTINTERP_DISPATCH(explain_sentence)
    (model, layer, inputs + b * length * width, scratch.data(), position.data(),
     {out.scores + b * length, out.class_scores + b * classes, out.activations + b * length * channels});
  });
  return {scores, class_scores, activations};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("saliency", &saliency); }

}  // namespace fastinterp

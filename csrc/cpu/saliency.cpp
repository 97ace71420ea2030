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

std::tuple<at::Tensor, at::Tensor, at::Tensor> saliency(const at::Tensor& embedded, const at::Tensor& lengths,
                                                        int64_t frame, at::TensorList weights, at::TensorList biases,
                                                        const at::Tensor& class_weight, const at::Tensor& class_bias,
                                                        c10::string_view activation, int64_t layer,
                                                        bool keep_activations) {
  const ConvStack stack = check_saliency(embedded, lengths, frame, weights, biases, class_weight, class_bias,
                                         std::string(activation), layer);
  const int64_t sentences = embedded.size(0), positions = embedded.size(1), width = embedded.size(2);
  const int64_t classes = class_weight.size(0), last = stack.size() - 1;
  const int64_t* tokens = lengths.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < sentences; ++b)
    TORCH_CHECK_VALUE(tokens[b] >= 0 && tokens[b] <= positions, "lengths: expected 0 to ", positions, ", got ",
                      tokens[b]);

  const int64_t channels = stack.layers[layer].out_channels;
  at::Tensor scores = at::empty({sentences, frame}, embedded.options());
  at::Tensor class_scores = at::empty({sentences, classes}, embedded.options());
  at::Tensor activations = at::empty({keep_activations ? sentences : 0, frame, channels}, embedded.options());

  PackedStack packed;
  for (int64_t l = 0; l <= last; ++l) packed.add(stack.layers[l], {l == last, true, l > layer && l < last});
  const Classifier model{packed.layers(),
                         stack.size(),
                         stack.activation,
                         frame,
                         class_weight.const_data_ptr<float>(),
                         class_bias.const_data_ptr<float>(),
                         classes};
  const int64_t scratch_floats = FASTINTERP_DISPATCH(saliency_scratch_floats)(model);
  const float* inputs = embedded.const_data_ptr<float>();
  float* score = scores.data_ptr<float>();
  float* class_score = class_scores.data_ptr<float>();
  float* kept = activations.data_ptr<float>();

  const auto explain_all = [&](auto explain_padding, auto explain_sentence) {
    FloatBuffer padding_memory(scratch_floats);
    const auto padding = explain_padding(model, padding_memory.data());
    at::parallel_for(0, sentences, 1, [&](int64_t first, int64_t end) {
      FloatBuffer scratch(scratch_floats);
      std::vector<int64_t> position(stack.layers[last].out_channels);
      std::vector<char> reached(frame), reached_below(frame);
      for (int64_t b = first; b < end; ++b)
        explain_sentence(
            model, padding, layer, inputs + b * positions * width, tokens[b], scratch.data(), position.data(), reached,
            reached_below,
            {score + b * frame, class_score + b * classes, keep_activations ? kept + b * frame * channels : nullptr});
    });
  };
  switch (isa()) {
#if defined(__x86_64__)
    case Isa::avx512vnni:
    case Isa::avx512:
      explain_all(avx512::explain_padding, avx512::explain_sentence);
      break;
    case Isa::avx2:
      explain_all(avx2::explain_padding, avx2::explain_sentence);
      break;
#endif
    default:
      explain_all(generic::explain_padding, generic::explain_sentence);
  }
  return {scores, class_scores, activations};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("saliency", &saliency); }

}  // namespace fastinterp

// fastinterp::saliency on the CPU (Eq. 1-3): checks its arguments, makes its results, and goes on in cpu-inl.h with
// this processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "check.h"

#define FASTINTERP_INL "../saliency/cpu-inl.h"
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> saliency(const at::Tensor& embedded, const at::Tensor& lengths,
                                                        int64_t frame, at::TensorList weights, at::TensorList biases,
                                                        const at::Tensor& class_weight, const at::Tensor& class_bias,
                                                        c10::string_view activation, int64_t layer,
                                                        bool keep_activations) {
  const ConvStack stack =
      check_saliency({embedded, lengths, frame, weights, biases, class_weight, class_bias, activation, layer});
  const int64_t sentences = embedded.size(0), positions = embedded.size(1), classes = class_weight.size(0);
  const int64_t* tokens = lengths.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < sentences; ++b)
    TORCH_CHECK_VALUE(tokens[b] >= 0 && tokens[b] <= positions, "lengths: expected 0 to ", positions, ", got ",
                      tokens[b]);

  const int64_t channels = stack.layers[layer].out_channels;
  at::Tensor scores = at::empty({sentences, frame}, embedded.options());
  at::Tensor class_scores = at::empty({sentences, classes}, embedded.options());
  at::Tensor activations = at::empty({keep_activations ? sentences : 0, frame, channels}, embedded.options());
  const TextNetwork model{nullptr,
                          stack.size(),
                          layer,
                          stack.activation,
                          frame,
                          class_weight.const_data_ptr<float>(),
                          class_bias.const_data_ptr<float>(),
                          classes};
  const SaliencyBatch batch{sentences,
                            positions,
                            embedded.const_data_ptr<float>(),
                            tokens,
                            scores.data_ptr<float>(),
                            class_scores.data_ptr<float>(),
                            keep_activations ? activations.data_ptr<float>() : nullptr};
  FASTINTERP_DISPATCH(explain_sentences)(stack, model, batch);
  return {scores, class_scores, activations};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("saliency", &saliency); }

}  // namespace fastinterp

// optimize_adam's problems, one per thread at a time, by the loop that their stack allows: one_layer-inl.h and
// stack-inl.h hold the gradient while gates are proven, dense-inl.h takes it anew at every step.
#if defined(FASTINTERP_OPTIMIZE_ADAM_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_OPTIMIZE_ADAM_INL_H
#undef FASTINTERP_OPTIMIZE_ADAM_INL_H
#else
#define FASTINTERP_OPTIMIZE_ADAM_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../shared/float_buffer.h"
#include "../shared/isa_region.h"
#include "../shared/packed_stack-inl.h"
#include "../shared/stack.h"
#include "bounds.h"
#include "cpu.h"
#include "dense-inl.h"
#include "one_layer-inl.h"
#include "stack-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

enum class Loop { one_layer, stack, dense };

static void optimize_problems(const ConvStack& stack, const std::vector<double>& spectral_norms,
                              const AdamSettings& settings, const AdamBatch& batch) {
  const Loop loop = stack.activation.is_tanh ? Loop::dense : stack.size() == 1 ? Loop::one_layer : Loop::stack;
  const Packing packing{loop != Loop::dense, loop != Loop::one_layer, loop != Loop::one_layer};
  PackedStack packed;
  for (const ConvWeights& layer : stack.layers) packed.add(layer, packing);
  const PackedLayer* layers = packed.layers();
  const std::vector<LayerBounds> bounds = bound_layers(layers, spectral_norms);
  const int64_t scratch_floats = loop == Loop::one_layer ? one_layer_scratch_floats(layers[0])
                                 : loop == Loop::stack   ? CertifiedStack::scratch_floats(layers, stack.size())
                                                         : dense_scratch_floats(layers, stack.size());
  const int64_t field_rows = stack.receptive_field(), channels = stack.layers.back().out_channels;
  const int64_t width = layers[0].in_channels, stride = layers[0].in_stride;

  at::parallel_for(0, batch.count, 1, [&](int64_t first, int64_t last) {
    FloatBuffer scratch(scratch_floats), x(field_rows * stride);
    std::vector<int64_t> active(channels);
    for (int64_t b = first; b < last; ++b) {
      const int64_t begin = batch.begin[b], end = batch.end[b];
      std::fill_n(x.data(), field_rows * stride, 0.0f);
      for (int64_t row = begin; row < end; ++row)
        std::copy_n(batch.start + (b * field_rows + row) * width, width, x.data() + row * stride);
      AdamProblem problem{batch.target + b * channels, begin, end, x.data(), batch.gates + b * channels, 0};
      if (loop == Loop::one_layer) {
        optimize_one_layer(layers[0], settings, stack.activation.slope, problem, scratch.data(), active.data());
      } else if (loop == Loop::stack) {
        optimize_stack(layers, bounds.data(), stack.size(), settings, stack.activation.slope, problem, scratch.data());
      } else {
        optimize_dense(layers, stack.size(), settings, stack.activation, problem, scratch.data());
      }
      batch.evaluations[b] = problem.evaluations;
      for (int64_t row = begin; row < end; ++row)
        std::copy_n(x.data() + row * stride, width, batch.optimum + (b * field_rows + row) * width);
    }
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

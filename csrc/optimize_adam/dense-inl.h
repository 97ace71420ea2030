// Input optimisation of one problem (Eq. 5-7) with any activation: the whole gradient at every step.
#if defined(FASTINTERP_DENSE_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_DENSE_INL_H
#undef FASTINTERP_DENSE_INL_H
#else
#define FASTINTERP_DENSE_INL_H
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../shared/activation-inl.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "adam_step-inl.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

static int64_t dense_scratch_floats(const PackedLayer* layers, int64_t count) {
  int64_t field_rows = receptive_field(layers, count);
  int64_t total = adam_state_floats(field_rows, layers[0].in_stride);
  int64_t widest = 0;
  for (int64_t l = 0; l < count; ++l) {
    const int64_t outputs = field_rows - layers[l].kernel + 1;
    total += 2 * outputs * layers[l].out_stride;  // activations and their gradients
    widest = std::max(widest, outputs * layers[l].kernel * layers[l].in_stride);
    field_rows = outputs;
  }
  return total + widest + layers[count - 1].out_stride;
}

// One pass through the stack: a'(X) forward, then the gradient of a . a'(X) into `pull` (whole receptive field).
static void dense_gradient(const PackedLayer* layers, int64_t count, Activation activation, const AdamProblem& problem,
                           int64_t field_rows, bool forward_only, float* buffers, float* pull, float* last_values) {
  // forward
  float* cursor = buffers;
  const float* input = problem.x;
  int64_t rows = field_rows, offset = 0;
  for (int64_t l = 0; l < count; ++l) {
    const PackedLayer& layer = layers[l];
    const int64_t outputs = rows - layer.kernel + 1;
    offset += layer.left_padding();
    multiply(outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, layer.bias, cursor,
             layer.out_stride);
    if (l == count - 1) std::memcpy(last_values, cursor, sizeof(float) * layer.out_stride);
    for (int64_t p = 0; p < outputs; ++p) {
      float* row = cursor + p * layer.out_stride;
      // Outside the sentence frame a convolution sees zeros, not the activation of a bias.
      const bool exists = p + offset >= problem.begin && p + offset < problem.end;
      for (int64_t c = 0; c < layer.out_stride; ++c) row[c] = exists ? activate(activation, row[c]) : 0.0f;
    }
    input = cursor;
    cursor += 2 * outputs * layer.out_stride;
    rows = outputs;
  }
  if (forward_only) return;

  // backward
  float* columns = cursor;
  int64_t outputs = 1;
  for (int64_t l = count - 1; l >= 0; --l) {
    const PackedLayer& layer = layers[l];
    float* values = cursor - 2 * outputs * layer.out_stride;
    float* slopes = values + outputs * layer.out_stride;
    cursor = values;
    for (int64_t p = 0; p < outputs; ++p) {
      const bool exists = p + offset >= problem.begin && p + offset < problem.end;
      for (int64_t c = 0; c < layer.out_channels; ++c) {
        const int64_t i = p * layer.out_stride + c;
        const float arriving = l == count - 1 ? problem.target[c] : slopes[i];
        slopes[i] = exists ? arriving * derivative(activation, values[i]) : 0.0f;
      }
    }
    const int64_t span = layer.span();
    multiply(outputs, span, layer.out_channels, slopes, layer.out_stride, layer.backward, nullptr, columns, span);
    const int64_t inputs = outputs + layer.kernel - 1;
    float* gradient = l == 0 ? pull : cursor - inputs * layer.in_stride;
    std::memset(gradient, 0, sizeof(float) * inputs * layer.in_stride);
    for (int64_t p = 0; p < outputs; ++p) add_scaled(gradient + p * layer.in_stride, 1.0f, columns + p * span, span);
    offset -= layer.left_padding();
    outputs = inputs;
  }
}

// Any activation: the whole gradient at every step.
static void optimize_dense(const PackedLayer* layers, int64_t count, const AdamSettings& settings,
                           Activation activation, AdamProblem& problem, float* scratch) {
  const int64_t field_rows = receptive_field(layers, count);
  const PackedLayer& last = layers[count - 1];
  AdamState state = make_state(problem, layers[0], field_rows, scratch);
  float* pre_activations = scratch + adam_state_floats(field_rows, layers[0].in_stride);
  float* buffers = pre_activations + last.out_stride;
  float* pull = scratch;  // row 0 of the receptive field; state.pull starts at row `begin`
  measure_norms(state);
  for (int64_t step = 1; step <= settings.steps; ++step) {
    dense_gradient(layers, count, activation, problem, field_rows, false, buffers, pull, pre_activations);
    adam_step<Heading::none>(state, settings, step);
  }
  dense_gradient(layers, count, activation, problem, field_rows, true, buffers, pull, pre_activations);
  for (int64_t k = 0; k < last.out_channels; ++k) problem.gates[k] = problem.target[k] != 0 && pre_activations[k] > 0;
  problem.evaluations = (settings.steps + 1) * last.out_channels;
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

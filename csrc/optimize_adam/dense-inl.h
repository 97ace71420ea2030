// Input optimisation of one problem (Eq. 5-7) with any activation: the whole gradient at every step.
#if defined(FASTINTERP_DENSE_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_DENSE_INL_H
#undef FASTINTERP_DENSE_INL_H
#else
#define FASTINTERP_DENSE_INL_H
#endif

#include <cstdint>

#include "../shared/activation.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/stack_pass-inl.h"
#include "adam_step-inl.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

static int64_t dense_scratch_floats(const PackedLayer* layers, int64_t count) {
  return adam_state_floats(receptive_field(layers, count), layers[0].in_stride) +
         StackPass::scratch_floats(layers, count);
}

static void optimize_dense(const PackedLayer* layers, int64_t count, const AdamSettings& settings,
                           Activation activation, AdamProblem& problem, float* scratch) {
  const int64_t field_rows = receptive_field(layers, count), channels = layers[count - 1].out_channels;
  AdamState state = make_state(problem, layers[0], field_rows, scratch);
  StackPass pass(layers, count, problem.begin, problem.end,
                 scratch + adam_state_floats(field_rows, layers[0].in_stride));
  float* pull = scratch;  // row 0 of the receptive field; state.pull starts at row `begin`
  measure_norms(state);
  for (int64_t step = 1; step <= settings.steps; ++step) {
    pass.forward(problem.x, activation);
    pass.backward(problem.target, pull);
    adam_step<Heading::none>(state, settings, step);
  }
  pass.forward(problem.x, activation);
  for (int64_t k = 0; k < channels; ++k) problem.gates[k] = problem.target[k] != 0 && pass.last_z()[k] > 0;
  problem.evaluations = (settings.steps + 1) * channels;
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

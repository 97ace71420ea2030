// Input optimisation of one problem of the first layer (Eq. 5-7), its gradient held while no gate can have changed.
#if defined(FASTINTERP_ONE_LAYER_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_ONE_LAYER_INL_H
#undef FASTINTERP_ONE_LAYER_INL_H
#else
#define FASTINTERP_ONE_LAYER_INL_H
#endif

#include <cmath>
#include <cstdint>

#include "../shared/certificate.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "adam_step-inl.h"
#include "cpu.h"
#include "due-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// What certified gating keeps of the channels whose gate matters; arrays of out_channels rounded up to whole vectors.
struct CertifiedChannels {
  int64_t count = 0;
  int64_t* channel;
  float* along;  // Proof of each, and the norm of its filter over the existing rows
  float* aside;
  float* toward;
  float* norm;
  float next_along = 0;  // the lowest of each
  float next_aside = 0;

  CertifiedChannels(int64_t out_channels, float* scratch, int64_t* channels)
      : channel(channels),
        along(scratch),
        aside(along + round_up(out_channels, kLanes)),
        toward(aside + round_up(out_channels, kLanes)),
        norm(toward + round_up(out_channels, kLanes)) {}

  Proof proof(int64_t i) const { return {along[i], aside[i], toward[i]}; }

  void set(int64_t i, Proof proof) {
    along[i] = proof.along;
    aside[i] = proof.aside;
    toward[i] = proof.toward;
  }

  void find_next() {
    next_along = lowest(along, count);
    next_aside = lowest(aside, count);
  }
};

static inline int64_t one_layer_scratch_floats(const PackedLayer& layer) {
  return adam_state_floats(layer.kernel, layer.in_stride) + 4 * round_up(layer.out_channels, kLanes);
}

// Certified gating, first layer with a piecewise-linear activation: only channels whose proof has run out are
// evaluated, each for its pre-activation and for how that changes along the heading. `channels` holds out_channels
// entries.
static void optimize_one_layer(const PackedLayer& layer, const AdamSettings& settings, float slope,
                               AdamProblem& problem, float* scratch, int64_t* channels) {
  AdamState state = make_state(problem, layer, layer.kernel, scratch);
  const int64_t length = state.rows * state.width;
  const float* rows = layer.rows + problem.begin * layer.in_stride;
  measure_norms(state);

  CertifiedChannels active(layer.out_channels, scratch + adam_state_floats(layer.kernel, layer.in_stride), channels);
  for (int64_t k = 0; k < layer.out_channels; ++k) {
    problem.gates[k] = false;
    if (problem.target[k] == 0) continue;
    // A closed gate passes slope * a_k w_k; opening it adds the rest.
    add_scaled(state.pull, slope * problem.target[k], rows + k * layer.span(), length);
    double squared_norm = 0;
    for (int64_t p = problem.begin; p < problem.end; ++p) squared_norm += layer.squared_norms[k * layer.kernel + p];
    active.channel[active.count] = k;
    active.norm[active.count] = static_cast<float>(std::sqrt(squared_norm) * (1 + 1e-6));
    active.set(active.count++, Proof::due());
  }
  for (int64_t i = active.count; i < round_up(active.count, kLanes); ++i) active.set(i, Proof::forever());

  const double error = product_error(length / (2 * kLanes));
  Course<double> course;
  problem.evaluations = 0;
  for (int64_t step = 1;; ++step) {
    if (course.now.along >= active.next_along || course.now.aside >= active.next_aside) {
      const double norm_x = std::sqrt(state.squared_norm);
      const float norm_heading = course.norm_heading();
      for_each_due(course.now, active.along, active.aside, active.count, [&](int64_t i) {
        const int64_t k = active.channel[i];
        const float* row = rows + k * layer.span();
        float z, z_slope;
        dot_pair(row, state.x, state.heading, length, &z, &z_slope);
        z += layer.bias[k];
        const bool open = z > 0;
        if (open != problem.gates[k]) {
          const float rest = (1 - slope) * problem.target[k];
          add_scaled(state.pull, open ? rest : -rest, row, length);
          problem.gates[k] = open;
        }
        active.set(i, prove_measured(course, z, z_slope, layer.bias[k], active.norm[i], norm_x, norm_heading, error));
        ++problem.evaluations;
      });
      active.find_next();
    }
    if (step > settings.steps) break;  // the last pass leaves `gates` at the returned X
    adam_step_on_course(state, settings, step, course, [&] {
      for (int64_t i = 0; i < active.count; ++i)
        active.set(i, prove_again(course, active.proof(i), active.norm[i], course.norm_heading()));
      active.find_next();
    });
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

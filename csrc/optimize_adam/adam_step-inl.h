// Adam on one problem on one thread: maximise (Eq. 7)
//   a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X),   Sim(X) = ||s||^2 / N,   s = sum_i x_i / ||x_i||.
// The state of a problem stays in the first-level cache from the first step to the last.
#if defined(FASTINTERP_ADAM_STEP_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_ADAM_STEP_INL_H
#undef FASTINTERP_ADAM_STEP_INL_H
#else
#define FASTINTERP_ADAM_STEP_INL_H
#endif

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../shared/adam.h"
#include "../shared/certificate.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// Steps between two looks at which vectors have moments large enough for the short Adam formula.
constexpr int64_t kReviewSteps = 16;

// Adam's view of one problem: `rows` existing positions of `width` floats each, `used` of them real. The moments are
// kept as plain decaying sums (without the factors 1 - beta), which saves two products an element.
struct AdamState {
  int64_t rows;
  int64_t width;
  int64_t used;
  float* x;
  float* pull;  // gradient of a . a'(X)
  float* first_sum;
  float* second_sum;
  float* unit_sum;      // s, (width)
  float* inverse_norm;  // 1 / ||x_i||, or 0 for a zero row
  float* alignment;     // u_i . s
  float* needs_root;    // per vector of x: 1 where the short formula would not be exact
  float* heading;       // V of the certificate, a direction that Adam took before
  double squared_norm;  // ||X||^2
};

static inline int64_t adam_state_floats(int64_t field_rows, int64_t width) {
  return (4 * field_rows + 1) * width + 2 * round_up(field_rows, kLanes) +
         round_up(field_rows * width / kLanes, kLanes);
}

// Lays the state out in `scratch`, zeroed. The arrays cover the whole receptive field, `field_rows` rows, so that
// the gradient of a clipped problem can be written at its own row; x, pull, the moments and the heading then point at
// row `begin`.
static AdamState make_state(const AdamProblem& problem, const PackedLayer& layer, int64_t field_rows, float* scratch) {
  const int64_t width = layer.in_stride;
  std::memset(scratch, 0, sizeof(float) * adam_state_floats(field_rows, width));
  AdamState state;
  state.rows = problem.end - problem.begin;
  state.width = width;
  state.used = layer.in_channels;
  state.x = problem.x + problem.begin * width;
  state.pull = scratch + problem.begin * width;
  state.first_sum = scratch + (field_rows + problem.begin) * width;
  state.second_sum = scratch + (2 * field_rows + problem.begin) * width;
  state.unit_sum = scratch + 3 * field_rows * width;
  state.inverse_norm = state.unit_sum + width;
  state.alignment = state.inverse_norm + round_up(field_rows, kLanes);
  state.needs_root = state.alignment + round_up(field_rows, kLanes);
  state.heading = state.needs_root + round_up(field_rows * width / kLanes, kLanes) + problem.begin * width;
  state.squared_norm = 0;
  return state;
}

static void set_norm(AdamState& state, int64_t row, float squared) {
  state.inverse_norm[row] = squared > 0 ? 1.0f / std::sqrt(squared) : 0.0f;
  state.squared_norm += squared;
}

static void measure_norms(AdamState& state) {
  state.squared_norm = 0;
  for (int64_t row = 0; row < state.rows; ++row) {
    const float* x = state.x + row * state.width;
    set_norm(state, row, dot(x, x, state.width));
  }
}

// s and u_i . s, from which both Sim and its gradient follow in O(N D).
static void measure_similarity(AdamState& state) {
  for (int64_t d = 0; d < state.width; d += kLanes) {
    Vec total{};
    for (int64_t row = 0; row < state.rows; ++row)
      total += state.inverse_norm[row] * load(state.x + row * state.width + d);
    store(state.unit_sum + d, total);
  }
  for (int64_t row = 0; row < state.rows; ++row)
    state.alignment[row] = state.inverse_norm[row] * dot(state.x + row * state.width, state.unit_sum, state.width);
}

// Marks the vectors in which some v may come so close to the floor, before the next review, that
//   1 / (sqrt(v) + floor) = y - floor y^2 + O(floor^2 y^3),   y = 1 / sqrt(v),
// is not exact in float32 without its last term. v loses at most a factor beta2 a step.
static void review_moments(AdamState& state, const AdamSettings& settings, int64_t step) {
  const double floor = adam_numbers(settings, static_cast<double>(step + kReviewSteps - 1)).floor / 2.5e-4;
  const double smallest = floor * floor / std::pow(settings.beta2, kReviewSteps);
  for (int64_t row = 0; row < state.rows; ++row) {
    float* v = state.second_sum + row * state.width;
    for (int64_t d = state.used; d < state.width; ++d) v[d] = 1;  // columns of padding: anything but 0
    for (int64_t d = 0; d < state.width; d += kLanes) {
      float low = v[d];
      for (int64_t lane = 1; lane < kLanes; ++lane) low = std::min(low, v[d + lane]);
      state.needs_root[(row * state.width + d) / kLanes] = low > smallest && low > FLT_MIN ? 0.0f : 1.0f;
    }
  }
}

enum class Heading {
  none,    // nobody asks how far X has gone
  follow,  // measure against the heading
  renew,   // make this step's direction the heading
};

// One Adam step. Returns what says how far it went.
template <Heading HEADING>
static StepSums adam_step(AdamState& state, const AdamSettings& settings, int64_t step) {
  // With one row Sim is the constant 1; computing its gradient would only feed rounding noise to Adam.
  const float similarity_weight = state.rows > 1 ? settings.similarity_weight : 0.0f;
  if (similarity_weight != 0) measure_similarity(state);
  if ((step - 1) % kReviewSteps == 0) review_moments(state, settings, step);

  const AdamNumbers now = adam_numbers(settings, static_cast<double>(step));
  const Vec beta1 = broadcast(static_cast<float>(settings.beta1));
  const Vec beta2 = broadcast(static_cast<float>(settings.beta2));
  const Vec rate = broadcast(now.rate), floor = broadcast(now.floor);
  float squared_step = 0, product = 0;
  state.squared_norm = 0;
  for (int64_t row = 0; row < state.rows; ++row) {
    const float inverse_norm = state.inverse_norm[row];
    const float toward = 2 * similarity_weight / static_cast<float>(state.rows) * inverse_norm;
    const Vec toward_sum = broadcast(toward);
    const Vec shrink = broadcast(2 * settings.l2_weight + toward * state.alignment[row] * inverse_norm);
    float* x = state.x + row * state.width;
    float* m = state.first_sum + row * state.width;
    float* v = state.second_sum + row * state.width;
    const float* pull = state.pull + row * state.width;
    const float* needs_root = state.needs_root + row * state.width / kLanes;
    float* heading = state.heading + row * state.width;
    Vec moved{}, headed{}, norm{};
    for (int64_t d = 0; d < state.width; d += kLanes) {
      const Vec old_x = load(x + d);
      const Vec gradient = (load(pull + d) - shrink * old_x) + toward_sum * load(state.unit_sum + d);
      const Vec new_m = beta1 * load(m + d) + gradient;
      const Vec new_v = beta2 * load(v + d) + gradient * gradient;
      store(m + d, new_m);
      store(v + d, new_v);
      Vec direction;
      if (__builtin_expect(needs_root[d / kLanes] != 0, 0)) {
        direction = new_m * reciprocal(square_root(new_v) + floor);
      } else {
        // One Newton step on the estimate y and the floor's first order, in one factor.
        const Vec y = rsqrt_estimate(new_v);
        const Vec residual = 1.0f - new_v * y * y;
        direction = new_m * y * ((1.0f - floor * y) + 0.5f * residual);
      }
      const Vec new_x = old_x + rate * direction;
      store(x + d, new_x);
      if constexpr (HEADING != Heading::none) moved += direction * direction;
      if constexpr (HEADING == Heading::follow) headed += direction * load(heading + d);
      if constexpr (HEADING == Heading::renew) store(heading + d, direction);
      norm += new_x * new_x;
    }
    if constexpr (HEADING != Heading::none) squared_step += sum(moved);
    if constexpr (HEADING == Heading::follow) product += sum(headed);
    set_norm(state, row, sum(norm));
  }
  return {now.rate, squared_step, product};
}

// One Adam step on the course of a certificate; see Course::advance.
template <class Ratio, class CarryProofs>
static Travelled adam_step_on_course(AdamState& state, const AdamSettings& settings, int64_t step,
                                     Course<Ratio>& course, CarryProofs carry_proofs) {
  const StepSums sums = course.renews_heading ? adam_step<Heading::renew>(state, settings, step)
                                              : adam_step<Heading::follow>(state, settings, step);
  return course.advance(step, sums, static_cast<float>(state.squared_norm),
                        static_cast<int>(state.width / kLanes + kLanes), carry_proofs);
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

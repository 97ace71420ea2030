// The concave-convex procedure (Eq. 5-7) for one problem on one thread: maximise
//   f(X) = a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X),   a' = relu(W X + b),   a >= 0.
// a . a' is convex, so its linearisation at the current gates, g . X with g = W^T (a * gate), lies below it; what is
// left is maximised block by block (docs/method.md). No step lowers f, and gates are finite in number.
#if defined(FASTINTERP_CONVEX_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_CONVEX_INL_H
#undef FASTINTERP_CONVEX_INL_H
#else
#define FASTINTERP_CONVEX_INL_H
#endif

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "cpu.h"
#include "filter_products-inl.h"
#include "settings.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

static inline int64_t ccp_scratch_floats(const PackedLayer& layer) {
  return 2 * layer.span() + layer.in_stride + 2 * layer.out_stride + round_up(layer.kernel, kLanes);
}

// Working memory of one problem; rows outside [begin, end) are left out.
struct CcpState {
  int64_t rows;
  int64_t width;
  float* pull;      // g, (rows, width)
  float* unit;      // u_i, (rows, width); a zero row has no direction and takes no part in Sim
  float* unit_sum;  // s, (width)
  float* gated;     // h = a * gate, (out_stride)
  float* z;         // (out_stride): W g / (2 lambda1) + b, what z is but for the similarity term's tilt
  float* radius;    // r_i
};

static CcpState make_ccp_state(const PackedLayer& layer, const CcpProblem& problem, float* scratch) {
  std::memset(scratch, 0, sizeof(float) * ccp_scratch_floats(layer));
  CcpState state;
  state.rows = problem.end - problem.begin;
  state.width = layer.in_stride;
  state.pull = scratch;
  state.unit = state.pull + layer.span();
  state.unit_sum = state.unit + layer.span();
  state.gated = state.unit_sum + layer.in_stride;
  state.z = state.gated + layer.out_stride;
  state.radius = state.z + layer.out_stride;
  return state;
}

// g = W^T h, a block of it in registers while every open filter passes by.
static void gather_pull(const PackedLayer& layer, int64_t begin, CcpState& state, int64_t* open) {
  constexpr int64_t kBlock = 8 * kLanes;
  const int64_t length = state.rows * state.width;
  int64_t count = 0;
  for (int64_t k = 0; k < layer.out_channels; ++k)
    if (state.gated[k] != 0) open[count++] = k;
  const float* rows = layer.rows + begin * layer.in_stride;
  for (int64_t d = 0; d < length; d += kBlock) {
    const int64_t vectors = std::min<int64_t>(8, (length - d) / kLanes);
    if (vectors == 8) {
      Vec sums[8] = {};
      for (int64_t i = 0; i < count; ++i) {
        const float* row = rows + open[i] * layer.span() + d;
        const Vec scale = broadcast(state.gated[open[i]]);
#pragma GCC unroll 8
        for (int64_t j = 0; j < 8; ++j) sums[j] += scale * load(row + j * kLanes);
      }
      for (int64_t j = 0; j < 8; ++j) store(state.pull + d + j * kLanes, sums[j]);
    } else {
      for (int64_t j = 0; j < vectors; ++j) {
        Vec total{};
        for (int64_t i = 0; i < count; ++i)
          total += state.gated[open[i]] * load(rows + open[i] * layer.span() + d + j * kLanes);
        store(state.pull + d + j * kLanes, total);
      }
    }
  }
}

// z = W g / (2 lambda1) + b, from the products of the filters.
static void measure_z(const PackedLayer& layer, const CcpSettings& settings, const FilterProducts& products,
                      CcpState& state) {
  const float half = static_cast<float>(1 / (2 * settings.l2_weight));
  std::memcpy(state.z, layer.bias, sizeof(float) * layer.out_stride);
  for (int64_t k = 0; k < layer.out_channels; ++k)
    if (state.gated[k] != 0)
      add_scaled(state.z, half * state.gated[k], products.gram + k * layer.out_stride, layer.out_stride);
}

// Sets channel k's gate; returns whether it changed.
static bool set_gate(CcpProblem& problem, CcpState& state, int64_t k, bool open) {
  if (problem.gates[k] == open) return false;
  problem.gates[k] = open;
  state.gated[k] = open ? problem.target[k] : 0.0f;
  return true;
}

// Without the similarity term the optimum for given gates is X = g / (2 lambda1), worth ||g||^2 / (4 lambda1) + b . h.
// Flipping one gate changes that by +-a_k z_k + a_k^2 ||w_k||^2 / (4 lambda1), so a gate may be worth flipping that
// already agrees with the sign of z_k: single flips leave stationary points that the procedure alone cannot.
static bool flip_best_gate(const PackedLayer& layer, const CcpSettings& settings, const FilterProducts& products,
                           CcpProblem& problem, CcpState& state) {
  double worth = 0, best_gain = 0;
  int64_t best = -1;
  for (int64_t k = 0; k < layer.out_channels; ++k) {
    if (problem.target[k] == 0) continue;
    worth += 0.5 * state.gated[k] * (state.z[k] - layer.bias[k]);
    const double gain =
        flip_gain(problem.target[k], state.z[k], problem.gates[k], products.norms[k], settings.l2_weight);
    if (gain > best_gain) {
      best_gain = gain;
      best = k;
    }
  }
  if (best < 0 || best_gain <= 1e-6 * worth) return false;  // within rounding
  return set_gate(problem, state, best, !problem.gates[best]);
}

// One pass over the blocks: u_i, then r_i. Each is the maximiser given the others, so f never falls; an update that
// would shrink a row to nothing is left out, because Sim of a zero row jumps.
static void sweep_blocks(const CcpSettings& settings, CcpState& state) {
  const float pair = state.rows > 1 ? static_cast<float>(2 * settings.similarity_weight / state.rows) : 0.0f;
  const float half = static_cast<float>(1 / (2 * settings.l2_weight));
  for (int64_t row = 0; row < state.rows; ++row) {
    const float* g = state.pull + row * state.width;
    float* u = state.unit + row * state.width;
    const float radius = state.radius[row];
    Vec squares{}, products{};
    for (int64_t d = 0; d < state.width; d += kLanes) {
      const Vec direction = radius * load(g + d) + pair * (load(state.unit_sum + d) - load(u + d));
      squares += direction * direction;
      products += direction * load(g + d);
    }
    const float norm = std::sqrt(sum(squares));
    const float along = norm > 0 ? sum(products) / norm : 0.0f;  // g_i . u_i
    if (!(along > 0)) continue;
    const float scale = 1 / norm;
    for (int64_t d = 0; d < state.width; d += kLanes) {
      const Vec old_u = load(u + d), s = load(state.unit_sum + d);
      const Vec new_u = scale * (radius * load(g + d) + pair * (s - old_u));
      store(u + d, new_u);
      store(state.unit_sum + d, s + (new_u - old_u));
    }
    state.radius[row] = along * half;
  }
}

// Gives a direction to each row that has none yet but is pulled: u_i = g_i / ||g_i||, unless Sim would lose more
// than the row gains.
static void wake_rows(const CcpSettings& settings, CcpState& state) {
  for (int64_t row = 0; row < state.rows; ++row) {
    if (state.radius[row] > 0) continue;
    const float* g = state.pull + row * state.width;
    const float squared = dot(g, g, state.width);
    if (!(squared > 0)) continue;
    const float norm = std::sqrt(squared);
    const double toward = dot(g, state.unit_sum, state.width) / norm;
    const double gain = squared / (4 * settings.l2_weight) + settings.similarity_weight / state.rows * (1 + 2 * toward);
    if (gain < 0) continue;
    add_scaled(state.unit + row * state.width, 1 / norm, g, state.width);
    add_scaled(state.unit_sum, 1 / norm, g, state.width);
    state.radius[row] = static_cast<float>(norm / (2 * settings.l2_weight));
  }
}

// ||gradient of f|| / ||g||, and ||X - g / (2 lambda1)||, the tilt that the similarity term gives.
static void measure_residual(const CcpSettings& settings, const CcpState& state, float* residual, double* tilt) {
  const float pair = state.rows > 1 ? static_cast<float>(2 * settings.similarity_weight / state.rows) : 0.0f;
  const float twice = static_cast<float>(2 * settings.l2_weight);
  double squared = 0, pull = 0, tilted = 0;
  for (int64_t row = 0; row < state.rows; ++row) {
    const float* g = state.pull + row * state.width;
    const float* u = state.unit + row * state.width;
    const float radius = state.radius[row];
    const float tilt_weight = radius > 0 ? pair / radius : 0.0f;  // of the similarity term's gradient
    const Vec along = broadcast(twice * radius), back = broadcast(tilt_weight * dot(u, state.unit_sum, state.width));
    Vec errors{}, pulls{}, tilts{};
    for (int64_t d = 0; d < state.width; d += kLanes) {
      const Vec off = load(g + d) - along * load(u + d);
      const Vec error = off + (tilt_weight * load(state.unit_sum + d) - back * load(u + d));
      errors += error * error;
      pulls += load(g + d) * load(g + d);
      tilts += off * off;
    }
    squared += sum(errors);
    pull += sum(pulls);
    tilted += sum(tilts);
  }
  *residual = pull > 0 ? static_cast<float>(std::sqrt(squared / pull)) : 0.0f;
  *tilt = std::sqrt(tilted) / twice * (1 + 1e-4);
}

static void write_input(const CcpState& state, float* x) {
  for (int64_t row = 0; row < state.rows; ++row)
    for (int64_t d = 0; d < state.width; d += kLanes)
      store(x + row * state.width + d, state.radius[row] * load(state.unit + row * state.width + d));
}

// `open` holds out_channels entries.
static void optimize_convex(const PackedLayer& layer, const FilterProducts& products, const CcpSettings& settings,
                            bool gated, CcpProblem& problem, float* scratch, int64_t* open) {
  constexpr int64_t kMostSweeps = 50;
  CcpState state = make_ccp_state(layer, problem, scratch);
  const int64_t C = layer.out_channels, length = state.rows * state.width;
  for (int64_t k = 0; k < C; ++k) {
    problem.gates[k] = false;
    set_gate(problem, state, k, problem.target[k] != 0);  // the sentence's own gates
  }
  problem.iterations = 0;

  // The gates of the best optimum without the similarity term are where the full problem starts.
  for (bool changed = gated; changed && problem.iterations < settings.max_iterations; ++problem.iterations) {
    measure_z(layer, settings, products, state);
    changed = false;
    for (int64_t k = 0; k < C; ++k)
      if (problem.target[k] != 0) changed |= set_gate(problem, state, k, state.z[k] > 0);
    if (!changed) changed = flip_best_gate(layer, settings, products, problem, state);
  }

  float* x = problem.x + problem.begin * state.width;
  for (;;) {
    gather_pull(layer, problem.begin, state, open);
    wake_rows(settings, state);
    double tilt = 0;
    for (int64_t sweep = 0; sweep < kMostSweeps; ++sweep) {
      sweep_blocks(settings, state);
      measure_residual(settings, state, &problem.residual, &tilt);
      if (problem.residual <= settings.tolerance) break;
    }
    write_input(state, x);
    // Are these the gates of X? W g / (2 lambda1) + b says so for every channel further from 0 than the tilt and
    // the rounding of the products can move it; the others are evaluated.
    if (gated) measure_z(layer, settings, products, state);
    double reach = 0;
    for (int64_t k = 0; k < C; ++k) reach += std::abs(state.gated[k]) * products.norms[k];
    const double slack = tilt + reach / (2 * settings.l2_weight) * static_cast<double>(length + C) * FLT_EPSILON;
    bool changed = false;
    for (int64_t k = 0; k < C; ++k) {
      if (problem.target[k] == 0) continue;
      float z = gated ? state.z[k] : 0.0f;
      if (std::abs(z) <= products.norms[k] * slack)
        z = dot(layer.rows + k * layer.span() + problem.begin * layer.in_stride, x, length) + layer.bias[k];
      if (gated) {
        changed |= set_gate(problem, state, k, z > 0);
      } else {
        problem.gates[k] = z > 0;
      }
    }
    ++problem.iterations;
    if (!changed || problem.iterations >= settings.max_iterations) break;
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

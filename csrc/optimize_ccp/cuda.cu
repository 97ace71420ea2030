// The concave-convex procedure on a GPU, step for step that of convex-inl.h. A block per problem: threads
// own columns of X where rows are summed, channels where gates are set, and warps evaluate single channels.
#include "../shared/block.h"
#include "cuda.h"

namespace fastinterp::cuda {
namespace {

constexpr int kThreads = 256, kMostSweeps = 50;

struct CcpKernel {
  using Arguments = CcpProblems;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 2;

  // One problem as every thread of its block sees it.
  struct State {
    const Block& block;
    const Arguments& problems;
    const float* target;
    const float* gram;
    const double* norms;
    const float* rows;  // of filter 0, from row `begin` on
    int count;          // rows that exist
    // Shared.
    float* pull;      // g, (count, width)
    float* unit;      // u_i, (count, width)
    float* unit_sum;  // s, (width)
    float* radius;    // r_i, (count)
    float* gated;     // h = a * gate, (channels)
    float* z;         // (channels)
    float* sums;
    double* gains;    // (threads)
    int* candidates;  // (threads)
    int* open;        // (channels): those with h > 0
    int* counters;    // how many, and what block_any needs
    int sums_half;    // of block_sums

    FASTINTERP_DEVICE int thread() const { return block.thread(); }
    FASTINTERP_DEVICE int64_t filter(int k) const { return static_cast<int64_t>(k) * problems.kernel * problems.width; }
    FASTINTERP_DEVICE float pair_weight() const {
      return count > 1 ? static_cast<float>(2 * problems.settings.similarity_weight / count) : 0.0f;
    }
    FASTINTERP_DEVICE void list_open() {
      list_where(block, problems.channels, [&](int k) { return gated[k] != 0; }, open, &counters[0]);
    }
  };

  static FASTINTERP_DEVICE void gather_pull(State& state) {
    state.list_open();
    const int open = state.counters[0];
    for (int e = state.thread(); e < state.count * state.problems.width; e += kThreads) {
      float total = 0;
      for (int i = 0; i < open; ++i) total += state.gated[state.open[i]] * state.rows[state.filter(state.open[i]) + e];
      state.pull[e] = total;
    }
    state.block.sync();
  }

  // z = W g / (2 lambda1) + b, from the products of the filters.
  static FASTINTERP_DEVICE void measure_z(State& state) {
    state.list_open();
    const float half = static_cast<float>(1 / (2 * state.problems.settings.l2_weight));
    const int channels = state.problems.channels, open = state.counters[0];
    for (int k = state.thread(); k < channels; k += kThreads) {
      float total = state.problems.bias[k];
      for (int i = 0; i < open; ++i) {
        const int other = state.open[i];
        total += half * state.gated[other] * state.gram[static_cast<int64_t>(other) * channels + k];
      }
      state.z[k] = total;
    }
    state.block.sync();
  }

  // Opens or closes channel k; returns whether that changed anything.
  static FASTINTERP_DEVICE bool set_gate(State& state, int k, bool open) {
    const float h = open ? state.target[k] : 0.0f;
    const bool changed = state.gated[k] != h;
    state.gated[k] = h;
    return changed;
  }

  static FASTINTERP_DEVICE bool flip_best_gate(State& state) {
    double best_gain = 0;
    int best = -1;
    float worth[2] = {};
    for (int k = state.thread(); k < state.problems.channels; k += kThreads) {
      if (state.target[k] == 0) continue;
      worth[0] += 0.5f * state.gated[k] * (state.z[k] - state.problems.bias[k]);
      const double gain = flip_gain(state.target[k], state.z[k], state.gated[k] != 0, state.norms[k],
                                    state.problems.settings.l2_weight);
      if (gain > best_gain) {
        best_gain = gain;
        best = k;
      }
    }
    state.gains[state.thread()] = best_gain;
    state.candidates[state.thread()] = best;
    block_sums<2>(state.block, worth, state.sums, state.sums_half);
    find_first_ranked<kThreads>(state.block, state.gains, state.candidates);
    const int chosen = state.candidates[0];
    const bool flips = chosen >= 0 && state.gains[0] > 1e-6 * worth[0];  // more than rounding
    state.block.sync();
    if (flips && state.thread() == 0) set_gate(state, chosen, state.gated[chosen] == 0);
    state.block.sync();
    return flips;
  }

  // One pass over the blocks: u_i, then r_i, each the maximiser given the others.
  static FASTINTERP_DEVICE void sweep_blocks(State& state) {
    const int width = state.problems.width;
    const float pair = state.pair_weight(), half = static_cast<float>(1 / (2 * state.problems.settings.l2_weight));
    for (int row = 0; row < state.count; ++row) {
      const float* g = state.pull + row * width;
      float* u = state.unit + row * width;
      const float radius = state.radius[row];
      float sums[2] = {};  // ||direction||^2 and direction . g
      for (int d = state.thread(); d < width; d += kThreads) {
        const float direction = radius * g[d] + pair * (state.unit_sum[d] - u[d]);
        sums[0] += direction * direction;
        sums[1] += direction * g[d];
      }
      block_sums<2>(state.block, sums, state.sums, state.sums_half);
      const float norm = sqrtf(sums[0]), along = norm > 0 ? sums[1] / norm : 0.0f;
      if (!(along > 0)) continue;
      for (int d = state.thread(); d < width; d += kThreads) {
        const float s = state.unit_sum[d];
        const float new_u = (radius * g[d] + pair * (s - u[d])) / norm;
        state.unit_sum[d] = s + (new_u - u[d]);
        u[d] = new_u;
      }
      if (state.thread() == 0) state.radius[row] = along * half;
      state.block.sync();
    }
  }

  // Gives a direction to each row that has none yet but is pulled, unless Sim would lose more than the row gains.
  static FASTINTERP_DEVICE void wake_rows(State& state) {
    const int width = state.problems.width;
    for (int row = 0; row < state.count; ++row) {
      if (state.radius[row] > 0) continue;
      const float* g = state.pull + row * width;
      float sums[2] = {};
      for (int d = state.thread(); d < width; d += kThreads) {
        sums[0] += g[d] * g[d];
        sums[1] += g[d] * state.unit_sum[d];
      }
      block_sums<2>(state.block, sums, state.sums, state.sums_half);
      if (!(sums[0] > 0)) continue;
      const float norm = sqrtf(sums[0]);
      const double gain =
          sums[0] / (4 * state.problems.settings.l2_weight) +
          state.problems.settings.similarity_weight / state.count * (1 + 2 * static_cast<double>(sums[1]) / norm);
      if (gain < 0) continue;
      for (int d = state.thread(); d < width; d += kThreads) {
        state.unit[row * width + d] += g[d] / norm;
        state.unit_sum[d] += g[d] / norm;
      }
      if (state.thread() == 0) state.radius[row] = static_cast<float>(norm / (2 * state.problems.settings.l2_weight));
      state.block.sync();
    }
  }

  // Returns ||gradient of f|| / ||g||; `tilt` is ||X - g / (2 lambda1)||, what the similarity term moves.
  static FASTINTERP_DEVICE float measure_residual(State& state, double& tilt) {
    const int width = state.problems.width;
    const float pair = state.pair_weight(), twice = static_cast<float>(2 * state.problems.settings.l2_weight);
    float squares[4] = {};  // of the gradient, of g, of the tilt
    for (int row = 0; row < state.count; ++row) {
      const float* g = state.pull + row * width;
      const float* u = state.unit + row * width;
      const float radius = state.radius[row];
      const float tilt_weight = radius > 0 ? pair / radius : 0.0f;  // of the similarity term's gradient
      float aligned[2] = {};
      for (int d = state.thread(); d < width; d += kThreads) aligned[0] += u[d] * state.unit_sum[d];
      block_sums<2>(state.block, aligned, state.sums, state.sums_half);
      for (int d = state.thread(); d < width; d += kThreads) {
        const float off = g[d] - twice * radius * u[d];
        const float error = off + (tilt_weight * state.unit_sum[d] - tilt_weight * aligned[0] * u[d]);
        squares[0] += error * error;
        squares[1] += g[d] * g[d];
        squares[2] += off * off;
      }
    }
    block_sums<4>(state.block, squares, state.sums, state.sums_half);
    tilt = sqrt(static_cast<double>(squares[2])) / twice * (1 + 1e-4);
    return squares[1] > 0 ? sqrtf(squares[0] / squares[1]) : 0.0f;
  }

  // Sets the gates to those of X. W g / (2 lambda1) + b decides every channel further from 0 than the tilt and the
  // rounding of the products can move it; the others are evaluated. Returns whether a gate changed.
  static FASTINTERP_DEVICE bool take_gates(State& state, double tilt, bool* gates) {
    const int channels = state.problems.channels, width = state.problems.width, length = state.count * width;
    if (state.problems.gated) measure_z(state);
    float reach[2] = {};
    for (int k = state.thread(); k < channels; k += kThreads)
      reach[0] += fabsf(state.gated[k]) * static_cast<float>(state.norms[k]);
    block_sums<2>(state.block, reach, state.sums, state.sums_half);
    const double slack = tilt + reach[0] * (1 + 1e-4) / (2 * state.problems.settings.l2_weight) * (length + channels) *
                                    static_cast<double>(FLT_EPSILON);
    bool changed = false;
    for (int k = state.block.warp(); k < channels; k += state.block.warps()) {
      const bool active = state.target[k] != 0;
      float z = state.problems.gated ? state.z[k] : 0.0f;
      if (active && fabsf(z) <= state.norms[k] * slack) {
        float product = 0;
        for (int e = state.block.lane(); e < length; e += 32)
          product += state.rows[state.filter(k) + e] * (state.radius[e / width] * state.unit[e]);
        z = warp_sum(state.block, product) + state.problems.bias[k];
      }
      if (state.block.lane() != 0) continue;
      gates[k] = active && z > 0;
      if (active && state.problems.gated) changed |= set_gate(state, k, z > 0);
    }
    return block_any(state.block, changed, &state.counters[1]);
  }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& problems) {
    const int64_t problem = block.x();
    const int channels = problems.channels, kernel = problems.kernel, width = problems.width;
    const int center = (kernel - 1) / 2;
    const int begin = clamp(problems.begin[problem], 0, center), end = clamp(problems.end[problem], center + 1, kernel);
    const int64_t edge = begin * (kernel - center) + end - center - 1;
    double* gains = reinterpret_cast<double*>(block.memory());
    float* pull = reinterpret_cast<float*>(gains + kThreads);
    float* unit = pull + kernel * width;
    float* unit_sum = unit + kernel * width;
    float* radius = unit_sum + width;
    float* gated = radius + kernel;
    float* z = gated + channels;
    float* sums = z + channels;
    int* candidates = reinterpret_cast<int*>(sums + block_sums_floats<4>(kThreads / 32));
    int* open = candidates + kThreads;
    State state{block,
                problems,
                problems.target + problem * channels,
                problems.gram + edge * channels * channels,
                problems.norms + edge * channels,
                problems.rows + begin * width,
                end - begin,
                pull,
                unit,
                unit_sum,
                radius,
                gated,
                z,
                sums,
                gains,
                candidates,
                open,
                open + channels,
                0};
    for (int e = block.thread(); e < kernel * width; e += kThreads) unit[e] = 0;
    for (int d = block.thread(); d < width; d += kThreads) unit_sum[d] = 0;
    for (int r = block.thread(); r < kernel; r += kThreads) radius[r] = 0;
    for (int k = block.thread(); k < channels; k += kThreads) gated[k] = state.target[k];  // the sentence's own gates
    block.sync();

    int64_t iterations = 0;
    // The gates of the best optimum without the similarity term are where the full problem starts.
    for (bool changed = problems.gated; changed && iterations < problems.settings.max_iterations; ++iterations) {
      measure_z(state);
      changed = false;
      for (int k = block.thread(); k < channels; k += kThreads)
        if (state.target[k] != 0) changed |= set_gate(state, k, z[k] > 0);
      changed = block_any(block, changed, &state.counters[1]);
      if (!changed) changed = flip_best_gate(state);
    }

    bool* gates = problems.gates + problem * channels;
    float residual = 0;
    for (;;) {
      gather_pull(state);
      wake_rows(state);
      double tilt = 0;
      for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
        sweep_blocks(state);
        residual = measure_residual(state, tilt);
        if (residual <= problems.settings.tolerance) break;
      }
      const bool changed = take_gates(state, tilt, gates);
      ++iterations;
      if (!changed || iterations >= problems.settings.max_iterations) break;
    }
    float* optimum = problems.optimum + (problem * kernel + begin) * width;
    for (int e = block.thread(); e < state.count * width; e += kThreads) optimum[e] = radius[e / width] * unit[e];
    if (block.thread() == 0) {
      problems.iterations[problem] = iterations;
      problems.residual[problem] = residual;
    }
  }
};

// Coordinate by coordinate, z following: threads own channels of z, and every thread knows the step.
struct BoxKernel {
  using Arguments = Boxes;
  static constexpr int kMostThreads = 128, kBlocksPerProcessor = 8;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& boxes) {
    constexpr int kMostBoxSweeps = 2000;
    constexpr double kFine = 1e-8;  // of what X can make of z
    const int channels = boxes.channels;
    const int64_t problem = block.x();
    const float* most = boxes.most + problem * channels;
    const float* gram = boxes.gram + boxes.edge[problem] * channels * channels;
    const double* norms = boxes.norms + boxes.edge[problem] * channels;
    const double reach = boxes.reach[problem];
    double* y = reinterpret_cast<double*>(block.memory());
    double* z = y + channels;
    for (int k = block.thread(); k < channels; k += block.threads()) {
      y[k] = boxes.y[problem * channels + k];
      z[k] = boxes.z[problem * channels + k];
    }
    block.sync();
    bool moved = true;
    for (int sweep = 0; sweep < kMostBoxSweeps && moved; ++sweep) {
      moved = false;
      for (int u = 0; u < channels; ++u) {
        const double limit = most[u];
        if (limit == 0) continue;
        const float* products = gram + static_cast<int64_t>(u) * channels;
        const double curvature = boxes.half * products[u];
        // A unit that X cannot move says itself which end of the box it is at.
        const double wanted = curvature > 0 ? y[u] + z[u] / curvature : z[u] > 0 ? limit : 0.0;
        const double step = fmin(fmax(wanted, 0.0), limit) - y[u];
        if (step == 0) continue;
        moved |= fabs(step) * curvature > kFine * norms[u] * reach;
        block.sync();  // everyone has read y and z
        if (block.thread() == 0) y[u] += step;
        for (int k = block.thread(); k < channels; k += block.threads()) z[k] -= boxes.half * step * products[k];
        block.sync();
      }
    }
    for (int k = block.thread(); k < channels; k += block.threads()) boxes.y[problem * channels + k] = y[k];
  }
};

}  // namespace

void solve_boxes(const Boxes& boxes, int64_t count, void* stream) {
  launch<BoxKernel>(count, 1, BoxKernel::kMostThreads, 2 * boxes.channels * static_cast<int64_t>(sizeof(double)),
                    stream, boxes);
}

int64_t ccp_bytes(int64_t channels, int64_t kernel, int64_t width) {
  const int64_t words =
      2 * kernel * width + width + kernel + 3 * channels + block_sums_floats<4>(kThreads / 32) + kThreads + 2;
  return words * static_cast<int64_t>(sizeof(float)) + kThreads * static_cast<int64_t>(sizeof(double));
}

void optimize_problems(const CcpProblems& problems, int64_t count, void* stream) {
  launch<CcpKernel>(count, 1, kThreads, ccp_bytes(problems.channels, problems.kernel, problems.width), stream,
                    problems);
}

}  // namespace fastinterp::cuda

// Input optimisation (Eq. 5-7) on a GPU, the same method as one_layer-inl.h.
//
// Certified gating: a block per problem runs every step of it in one launch. Thread t owns columns t, t + threads and
// t + 2 threads of every row of X: X and both moments of those stay in its registers, the held gradient and the heading
// in shared memory where no other thread writes them, and the sum of the rows' directions in a column needs nobody
// else. One reduction a step gives the rows' products, from which norms and cosines follow, and how far the step went.
// A warp looks after 32 channels: two compares and a ballot say which are due, and the warp evaluates those together,
// the filter coming from the L2 cache, X and the heading from shared memory.
#include "../shared/block.h"
#include "../shared/certificate.h"
#include "cuda.h"

namespace fastinterp::cuda {
namespace {

constexpr int kColumns = 3;  // of each row a thread owns

struct TableKernel {
  using Arguments = AdamTable;
  static constexpr int kMostThreads = 256, kBlocksPerProcessor = 1;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& table) {
    const int64_t step = static_cast<int64_t>(block.x()) * block.threads() + block.thread();
    if (step < table.settings.steps) table.numbers[step] = adam_numbers(table.settings, static_cast<double>(step + 1));
  }
};

// m / (sqrt(v) + floor), each part within a few units in the last place; a v below the floor of float32 counts as 0.
FASTINTERP_DEVICE float direction_of(float m, float v, float floor) {
  const float floored = fmaxf(v, FLT_MIN);
  return fast_divide(m, floored * fast_rsqrt(floored) + floor);
}

// Shared memory of a problem.
int64_t one_layer_bytes(int64_t channels, int64_t kernel, int64_t width, int64_t sum_floats) {
  const int64_t groups = (channels + 31) / 32;
  return static_cast<int64_t>(sizeof(float)) * (3 * kernel * width + sum_floats + groups * (6 * 32 + 4) + 2);
}

// How its threads lay it out. A group is 32 channels, which one warp looks after.
struct OneLayerMemory {
  float* x;               // (kernel, width)
  float* heading;         // (kernel, width): V, a direction that Adam took before
  float* pull;            // (kernel, width): the gradient of a . a'(X)
  float* sums;            // of block_sums
  float* along;           // (groups * 32): Proof of each channel with a target
  float* aside;           // (groups * 32)
  float* toward;          // (groups * 32)
  float* norm;            // (groups * 32): of its filter over the existing rows
  float* target;          // (groups * 32): its activation
  float* earliest_along;  // (groups): the lowest of each
  float* earliest_aside;  // (groups)
  int* active;            // (groups * 32): which channel
  uint32_t* open;         // (groups): gates
  uint32_t* flipped;      // (groups): gates that changed at this step
  int* counters;          // how many are active, how many evaluations

  FASTINTERP_DEVICE OneLayerMemory(char* memory, int channels, int kernel, int width, int sum_floats) {
    const int groups = (channels + 31) / 32;
    x = reinterpret_cast<float*>(memory);
    heading = x + kernel * width;
    pull = heading + kernel * width;
    sums = pull + kernel * width;
    along = sums + sum_floats;
    aside = along + groups * 32;
    toward = aside + groups * 32;
    norm = toward + groups * 32;
    target = norm + groups * 32;
    earliest_along = target + groups * 32;
    earliest_aside = earliest_along + groups;
    active = reinterpret_cast<int*>(earliest_aside + groups);
    open = reinterpret_cast<uint32_t*>(active + groups * 32);
    flipped = open + groups;
    counters = reinterpret_cast<int*>(flipped + groups);
  }

  FASTINTERP_DEVICE void set(int i, Proof proof) const {
    along[i] = proof.along;
    aside[i] = proof.aside;
    toward[i] = proof.toward;
  }

  FASTINTERP_DEVICE void find_earliest(const Block& block, int group) const {
    const float low_along = warp_min(block, along[group * 32 + block.lane()]);
    const float low_aside = warp_min(block, aside[group * 32 + block.lane()]);
    if (block.lane() == 0) {
      earliest_along[group] = low_along;
      earliest_aside[group] = low_aside;
    }
  }
};

// The lowest of all proofs; every thread of the block has the same.
struct Earliest {
  float along = 0;
  float aside = 0;

  FASTINTERP_DEVICE void find(const OneLayerMemory& shared, int groups) {
    along = aside = INFINITY;
#pragma unroll 1
    for (int g = 0; g < groups; ++g) {
      along = fminf(along, shared.earliest_along[g]);
      aside = fminf(aside, shared.earliest_aside[g]);
    }
  }
};

// ROWS is at least the kernel width; rows that do not exist are zero and take no part.
template <int ROWS, int THREADS>
struct OneLayerKernel {
  using Arguments = OneLayerProblems;
  static constexpr int kMostThreads = THREADS;
  static constexpr int kBlocksPerProcessor = THREADS > 128 ? 1 : ROWS <= 5 ? 3 : 2;  // as many as spill nothing
  static constexpr int kProducts = ROWS * (ROWS + 1) / 2;                            // of two rows each
  static constexpr int kSums = kProducts + 2;                                        // |d|^2 and d . V of the step

  // Evaluates the channels of every group of this warp that are due, each for its pre-activation and for how that
  // changes along the heading. Their gates are left in `open`, what changed in `flipped`.
  static FASTINTERP_DEVICE void check_gates(const Block& block, const Arguments& problems, int begin, int end,
                                            int active, const Course<float>& course, float norm_x,
                                            const OneLayerMemory& shared) {
    const int lane = block.lane(), length = (end - begin) * problems.width;
    const float* x = shared.x + begin * problems.width;
    const float* heading = shared.heading + begin * problems.width;
    const double error = product_error(length / 32);
    for (int group = block.warp(); group * 32 < active; group += block.warps()) {
      const int mine = group * 32 + lane;
      const uint32_t due = block.ballot(
          mine < active && (course.now.along >= shared.along[mine] || course.now.aside >= shared.aside[mine]));
      uint32_t flipped = 0, open = shared.open[group];
#pragma unroll 1
      for (uint32_t left = due; left != 0; left &= left - 1) {
        const int bit = first_bit(left), i = group * 32 + bit, k = shared.active[i];
        const float* row = problems.rows + (static_cast<int64_t>(k) * problems.kernel + begin) * problems.width;
        float z = 0, z_slope = 0;
#pragma unroll 4
        for (int e = lane; e < length; e += 32) {
          z += row[e] * x[e];
          z_slope += row[e] * heading[e];
        }
        z = warp_sum(block, z) + problems.bias[k];
        z_slope = warp_sum(block, z_slope);
        if ((z > 0) != ((open >> bit & 1) != 0)) flipped |= 1u << bit;
        if (lane == bit)
          shared.set(i, prove_measured(course, z, z_slope, problems.bias[k], shared.norm[i], norm_x,
                                       course.norm_heading(), error));
      }
      block.sync_warp();
      if (due != 0) shared.find_earliest(block, group);
      if (lane == 0) {
        shared.open[group] = open ^ flipped;
        shared.flipped[group] = flipped;
        if (due != 0) block.add(&shared.counters[1], count_bits(due));
      }
    }
  }

  // Carries every proof over to a heading of which only the length is known. Has a block.sync().
  static FASTINTERP_DEVICE void carry_proofs(const Block& block, int active, const Course<float>& course,
                                             const OneLayerMemory& shared) {
    for (int group = block.warp(); group * 32 < active; group += block.warps()) {
      const int i = group * 32 + block.lane();
      if (i < active)
        shared.set(i, prove_again(course, {shared.along[i], shared.aside[i], shared.toward[i]}, shared.norm[i],
                                  course.norm_heading()));
      block.sync_warp();
      shared.find_earliest(block, group);
    }
    block.sync();
  }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& problems) {
    const int thread = block.thread(), threads = block.threads(), width = problems.width, kernel = problems.kernel;
    const int64_t problem = block.x();
    const int center = (kernel - 1) / 2;
    const int begin = clamp(problems.begin[problem], 0, center), end = clamp(problems.end[problem], center + 1, kernel);
    const float* target = problems.target + problem * problems.channels;
    const float* start = problems.start + problem * kernel * width;
    const OneLayerMemory shared(block.memory(), problems.channels, kernel, width,
                                block_sums_floats<kSums>(block.warps()));
    if (thread == 0) shared.counters[1] = 0;
    list_where(block, problems.channels, [&](int k) { return target[k] != 0; }, shared.active, &shared.counters[0]);
    const int active = shared.counters[0], groups = (active + 31) / 32;

    float x[ROWS][kColumns], first_sum[ROWS][kColumns], second_sum[ROWS][kColumns];
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = thread + c * threads;
        const bool exists = r >= begin && r < end && column < width;
        x[r][c] = exists ? start[r * width + column] : 0.0f;
        first_sum[r][c] = second_sum[r][c] = 0;
        if (r < kernel && column < width) shared.pull[r * width + column] = shared.heading[r * width + column] = 0;
      }
    // Adds scale * filter k to the held gradient.
    const auto add_filter = [&](float scale, int k) {
      const float* row = problems.rows + static_cast<int64_t>(k) * kernel * width;
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const int column = thread + c * threads;
          if (r >= begin && r < end && column < width)
            shared.pull[r * width + column] += scale * row[r * width + column];
        }
    };
    if (problems.slope != 0)  // a closed gate passes slope * a_k w_k; opening it adds the rest
#pragma unroll 1
      for (int i = 0; i < active; ++i) add_filter(problems.slope * target[shared.active[i]], shared.active[i]);
    for (int i = thread; i < groups * 32; i += threads) {
      shared.set(i, i < active ? Proof::due() : Proof::forever());
      shared.target[i] = i < active ? target[shared.active[i]] : 0.0f;
      double squared_norm = 0;
#pragma unroll 1
      for (int p = begin; p < end && i < active; ++p)
        squared_norm += problems.squared_norms[static_cast<int64_t>(shared.active[i]) * kernel + p];
      shared.norm[i] = static_cast<float>(sqrt(squared_norm) * (1 + 1e-6));
    }
    for (int g = thread; g < groups; g += threads) {
      shared.open[g] = shared.flipped[g] = 0;
      shared.earliest_along[g] = shared.earliest_aside[g] = 0;
    }

    float totals[kSums];
    int sums_half = 0;
    const auto measure = [&](float squared_step, float product) {
      int i = 0;
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int q = r; q < ROWS; ++q) {
          float rows = 0;
#pragma unroll
          for (int c = 0; c < kColumns; ++c) rows += x[r][c] * x[q][c];
          totals[i++] = rows;
        }
      totals[kProducts] = squared_step;
      totals[kProducts + 1] = product;
      block_sums<kSums>(block, totals, shared.sums, sums_half);
    };
    measure(0, 0);

    const float similarity_weight = end - begin > 1 ? problems.weights.similarity_weight : 0.0f;
    const float beta1 = problems.weights.beta1, beta2 = problems.weights.beta2;
    Course<float> course;
    Earliest earliest;
    for (int step = 0;; ++step) {
      float inverse[ROWS];
      float squared_norm = 0;
      {
        int i = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          squared_norm += totals[i];
          inverse[r] = totals[i] > 0 ? 1.0f / sqrtf(totals[i]) : 0.0f;
          i += ROWS - r;
        }
      }
      if (step > 0) {
        course.advance(step, {problems.numbers[step - 1].rate, totals[kProducts], totals[kProducts + 1]}, squared_norm,
                       ROWS * kColumns + 8 + block.warps(), [&] {
                         carry_proofs(block, active, course, shared);
                         earliest.find(shared, groups);
                       });
      }

      if ((course.now.along >= earliest.along || course.now.aside >= earliest.aside) && active > 0) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            const int column = thread + c * threads;
            if (r < kernel && column < width) shared.x[r * width + column] = x[r][c];
          }
        block.sync();
        check_gates(block, problems, begin, end, active, course, sqrtf(squared_norm), shared);
        block.sync();
        earliest.find(shared, groups);
#pragma unroll 1
        for (int g = 0; g < groups; ++g)
#pragma unroll 1
          for (uint32_t left = shared.flipped[g]; left != 0; left &= left - 1) {
            const int bit = first_bit(left), i = g * 32 + bit;
            const float rest = (1 - problems.slope) * shared.target[i];
            add_filter(shared.open[g] >> bit & 1 ? rest : -rest, shared.active[i]);
          }
      }
      if (step == problems.steps) break;  // the last check leaves the gates at the returned X

      // Sim's gradient (Eq. 7): (2 / N) (s - (u_i . s) u_i) / ||x_i||.
      float shrink[ROWS];
      const float pair = 2 * similarity_weight / static_cast<float>(end - begin);
      {
        float alignment[ROWS] = {};
        int i = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
          for (int q = r; q < ROWS; ++q) {
            const float cosine = inverse[r] * inverse[q] * totals[i++];
            alignment[r] += cosine;
            if (q != r) alignment[q] += cosine;
          }
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
          shrink[r] = 2 * problems.weights.l2_weight + pair * inverse[r] * alignment[r] * inverse[r];
      }
      const AdamNumbers now = problems.numbers[step];
      float squared_step = 0, product = 0;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = thread + c * threads;
        float unit_sum = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) unit_sum += inverse[r] * x[r][c];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          if (r >= kernel || column >= width) continue;
          const int place = r * width + column;
          const float gradient = (shared.pull[place] - shrink[r] * x[r][c]) + inverse[r] * (pair * unit_sum);
          first_sum[r][c] = beta1 * first_sum[r][c] + gradient;
          second_sum[r][c] = beta2 * second_sum[r][c] + gradient * gradient;
          const float direction = direction_of(first_sum[r][c], second_sum[r][c], now.floor);
          x[r][c] += now.rate * direction;
          squared_step += direction * direction;
          if (course.renews_heading)
            shared.heading[place] = direction;
          else
            product += direction * shared.heading[place];
        }
      }
      measure(squared_step, product);
    }

    float* optimum = problems.optimum + problem * kernel * width;
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = thread + c * threads;
        if (r >= begin && r < end && column < width) optimum[r * width + column] = x[r][c];
      }
    for (int i = thread; i < active; i += threads)
      if (shared.open[i / 32] >> (i % 32) & 1) problems.gates[problem * problems.channels + shared.active[i]] = true;
    if (thread == 0) problems.evaluations[problem] = shared.counters[1];
  }
};

// A block per problem; a warp per row where rows are summed, a thread per column where columns are.
struct DenseKernel {
  using Arguments = DenseStep;
  static constexpr int kMostThreads = 256, kBlocksPerProcessor = 2;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& step) {
    const int width = step.width, thread = block.thread(), threads = block.threads();
    const int64_t problem = block.x(), first = problem * step.field_rows * width;
    const int begin = clamp(step.begin[problem], 0, step.field_rows),
              end = clamp(step.end[problem], begin, step.field_rows);
    float* unit_sum = reinterpret_cast<float*>(block.memory());
    float* inverse = unit_sum + width;
    float* alignment = inverse + step.field_rows;
    float* x = step.x + first;
    for (int r = begin + block.warp(); r < end; r += block.warps()) {
      float squared = 0;
      for (int d = block.lane(); d < width; d += 32) squared += x[r * width + d] * x[r * width + d];
      squared = warp_sum(block, squared);
      if (block.lane() == 0) inverse[r] = squared > 0 ? 1.0f / sqrtf(squared) : 0.0f;
    }
    block.sync();
    for (int d = thread; d < width; d += threads) {
      float total = 0;
      for (int r = begin; r < end; ++r) total += inverse[r] * x[r * width + d];
      unit_sum[d] = total;
    }
    block.sync();
    for (int r = begin + block.warp(); r < end; r += block.warps()) {
      float product = 0;
      for (int d = block.lane(); d < width; d += 32) product += x[r * width + d] * unit_sum[d];
      product = warp_sum(block, product);
      if (block.lane() == 0) alignment[r] = inverse[r] * product;
    }
    block.sync();
    const float similarity_weight = end - begin > 1 ? step.weights.similarity_weight : 0.0f;
    const AdamNumbers now = *step.numbers;
    for (int e = begin * width + thread; e < end * width; e += threads) {
      const int r = e / width, d = e % width;
      const float toward = 2 * similarity_weight / static_cast<float>(end - begin) * inverse[r];
      const float shrink = 2 * step.weights.l2_weight + toward * alignment[r] * inverse[r];
      const float gradient = (step.pull[first + e] - shrink * x[e]) + toward * unit_sum[d];
      const float m = step.weights.beta1 * step.first_sum[first + e] + gradient;
      const float v = step.weights.beta2 * step.second_sum[first + e] + gradient * gradient;
      step.first_sum[first + e] = m;
      step.second_sum[first + e] = v;
      x[e] += now.rate * direction_of(m, v, now.floor);
    }
  }
};

int64_t one_layer_threads(int64_t width) { return ((width + kColumns - 1) / kColumns + 31) / 32 * 32; }

template <int ROWS, int THREADS>
void launch_one_layer(const OneLayerProblems& problems, int64_t count, void* stream) {
  using Kernel = OneLayerKernel<ROWS, THREADS>;
  const int64_t threads = one_layer_threads(problems.width);
  const int sums = block_sums_floats<Kernel::kSums>(static_cast<int>(threads / 32));
  const int64_t bytes = one_layer_bytes(problems.channels, problems.kernel, problems.width, sums);
  launch<Kernel>(count, 1, threads, bytes, stream, problems);
}

template <int THREADS>
void launch_one_layer_rows(const OneLayerProblems& problems, int64_t count, void* stream) {
  if (problems.kernel <= 1) return launch_one_layer<1, THREADS>(problems, count, stream);
  if (problems.kernel <= 3) return launch_one_layer<3, THREADS>(problems, count, stream);
  if (problems.kernel <= 5) return launch_one_layer<5, THREADS>(problems, count, stream);
  launch_one_layer<7, THREADS>(problems, count, stream);
}

}  // namespace

bool fits_one_layer(int64_t channels, int64_t kernel, int64_t width) {
  constexpr int64_t kMostBytes = 96 * 1024;  // what every GPU from sm_80 on has for a block
  return kernel <= 7 && one_layer_threads(width) <= 256 &&
         one_layer_bytes(channels, kernel, width, block_sums_floats<32>(256 / 32)) <= kMostBytes;
}

void fill_adam_table(const AdamTable& table, void* stream) {
  launch<TableKernel>((table.settings.steps + 255) / 256, 1, 256, 0, stream, table);
}

void take_all_steps(const OneLayerProblems& problems, int64_t count, void* stream) {
  if (one_layer_threads(problems.width) <= 128) return launch_one_layer_rows<128>(problems, count, stream);
  launch_one_layer_rows<256>(problems, count, stream);
}

void take_dense_step(const DenseStep& step, int64_t count, void* stream) {
  const int64_t floats = step.width + 2 * static_cast<int64_t>(step.field_rows);
  launch<DenseKernel>(count, 1, 256, floats * static_cast<int64_t>(sizeof(float)), stream, step);
}

}  // namespace fastinterp::cuda

// Input optimisation (Eq. 5-7) on a GPU, the same method as csrc/cpu/optimize_kernel.inl.
//
// Certified gating: a block per problem runs every step of it in one launch. Thread t owns columns t, t + threads,
// t + 2 threads of every row of X: X, both moments and the held gradient of those stay in its registers, and the sum
// of the rows' directions in a column needs nobody else. One reduction a step gives the rows' products, from which
// norms and cosines follow, and the length of the step. A warp looks after 32 channels: one compare and a ballot say
// which are due, and the warp evaluates those together, the filter coming from the L2 cache and X from shared memory.
#include "block.h"
#include "optimize.h"

namespace fastinterp::cuda {
namespace {

constexpr int kColumns = 3;  // of each row a thread owns

struct TableKernel {
  using Arguments = AdamTable;
  static constexpr int kMostThreads = 256, kBlocksPerProcessor = 1;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& table) {
    const int64_t step = static_cast<int64_t>(block.x()) * block.threads() + block.thread();
    if (step < table.steps)
      table.numbers[step] =
          adam_numbers(table.learning_rate, table.beta1, table.beta2, table.epsilon, static_cast<double>(step + 1));
  }
};

// m / (sqrt(v) + floor), each part within a few units in the last place; a v below the floor of float32 counts as 0.
FASTINTERP_DEVICE float direction_of(float m, float v, float floor) {
  const float floored = fmaxf(v, FLT_MIN);
  return fast_divide(m, floored * fast_rsqrt(floored) + floor);
}

// Shared memory of a certified problem.
int64_t certified_bytes(int64_t channels, int64_t kernel, int64_t width, int64_t sum_floats) {
  const int64_t groups = (channels + 31) / 32;
  return static_cast<int64_t>(sizeof(float)) * (kernel * width + sum_floats + groups * (32 + 32 + 3) + 2);
}

// How its threads lay it out.
struct CertifiedMemory {
  float* x;           // (kernel, width)
  float* sums;        // of block_sums
  float* due;         // (groups * 32): path length up to which the gate is proven
  int* active;        // (groups * 32): channels with a target
  uint32_t* open;     // (groups): gates
  uint32_t* flipped;  // (groups): gates that changed at this step
  float* earliest;    // (groups): the lowest `due`
  int* counters;      // how many are active, how many evaluations

  FASTINTERP_DEVICE CertifiedMemory(char* memory, int channels, int kernel, int width, int sum_floats) {
    const int groups = (channels + 31) / 32;
    x = reinterpret_cast<float*>(memory);
    sums = x + kernel * width;
    due = sums + sum_floats;
    earliest = due + groups * 32;
    active = reinterpret_cast<int*>(earliest + groups);
    open = reinterpret_cast<uint32_t*>(active + groups * 32);
    flipped = open + groups;
    counters = reinterpret_cast<int*>(flipped + groups);
  }
};

constexpr int power_of_two_from(int value) {
  int power = 1;
  while (power < value) power *= 2;
  return power;
}

// ROWS is at least the kernel width; rows that do not exist are zero and take no part.
template <int ROWS, int THREADS>
struct CertifiedKernel {
  using Arguments = CertifiedProblems;
  static constexpr int kMostThreads = THREADS;
  static constexpr int kBlocksPerProcessor = (ROWS == 1 ? 512 : ROWS <= 5 ? 384 : 256) / THREADS;  // no spills
  static constexpr int kProducts = ROWS * (ROWS + 1) / 2;                                          // of two rows each
  static constexpr int kSums = power_of_two_from(kProducts + 1);  // and the squared length of the step

  // Evaluates the channels of every group of this warp that are due. Their gates are left in `open`, what changed in
  // `flipped`.
  static FASTINTERP_DEVICE void check_gates(const Block& block, const Arguments& problems, const float* rows, int begin,
                                            int end, int active, double path, double norm_x,
                                            const CertifiedMemory& shared) {
    const int lane = block.lane(), length = (end - begin) * problems.width;
    const float* x = shared.x + begin * problems.width;
    const double dot_error = (length / 32 + 8) * static_cast<double>(FLT_EPSILON);
    for (int group = block.warp(); group * 32 < active; group += block.warps()) {
      const int mine = group * 32 + lane;
      const uint32_t due = block.ballot(mine < active && path >= shared.due[mine]);
      uint32_t flipped = 0, open = shared.open[group];
#pragma unroll 1
      for (uint32_t left = due; left != 0; left &= left - 1) {
        const int bit = first_bit(left), i = group * 32 + bit, k = shared.active[i];
        const float* row = rows + static_cast<int64_t>(k) * problems.kernel * problems.width;
        float z = 0;
#pragma unroll 4
        for (int e = lane; e < length; e += 32) z += row[e] * x[e];
        z = warp_sum(block, z) + problems.bias[k];
        if ((z > 0) != ((open >> bit & 1) != 0)) flipped |= 1u << bit;
        if (lane == bit) {
          double squared_norm = 0;
#pragma unroll 1
          for (int p = begin; p < end; ++p)
            squared_norm += problems.squared_norms[static_cast<int64_t>(k) * problems.kernel + p];
          shared.due[i] = proven_until(path, z, problems.bias[k], sqrt(squared_norm), norm_x, dot_error);
        }
      }
      block.sync_warp();
      if (due != 0) {
        const float earliest = warp_min(block, mine < active ? shared.due[mine] : INFINITY);
        if (lane == 0) shared.earliest[group] = earliest;
      }
      if (lane == 0) {
        shared.open[group] = open ^ flipped;
        shared.flipped[group] = flipped;
        if (due != 0) block.add(&shared.counters[1], count_bits(due));
      }
    }
  }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& problems) {
    const int thread = block.thread(), threads = block.threads(), width = problems.width, kernel = problems.kernel;
    const int64_t problem = block.x();
    const int center = (kernel - 1) / 2;
    const int begin = clamp(problems.begin[problem], 0, center), end = clamp(problems.end[problem], center + 1, kernel);
    const float* target = problems.target + problem * problems.channels;
    const float* start = problems.start + problem * kernel * width;
    const float* first_row = problems.rows + begin * width;  // of filter 0 that exists
    const CertifiedMemory shared(block.memory(), problems.channels, kernel, width,
                                 block_sums_floats<kSums>(block.warps()));
    if (thread == 0) shared.counters[1] = 0;
    list_where(block, problems.channels, [&](int k) { return target[k] != 0; }, shared.active, &shared.counters[0]);
    const int active = shared.counters[0], groups = (active + 31) / 32;

    float x[ROWS][kColumns], first_sum[ROWS][kColumns], second_sum[ROWS][kColumns], pull[ROWS][kColumns];
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = thread + c * threads;
        const bool exists = r >= begin && r < end && column < width;
        x[r][c] = exists ? start[r * width + column] : 0.0f;
        first_sum[r][c] = second_sum[r][c] = pull[r][c] = 0;
      }
    // Adds scale * filter k to the held gradient.
    const auto add_filter = [&](float scale, int k) {
      const float* row = problems.rows + static_cast<int64_t>(k) * kernel * width;
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const int column = thread + c * threads;
          if (r >= begin && r < end && column < width) pull[r][c] += scale * row[r * width + column];
        }
    };
    if (problems.slope != 0)  // a closed gate passes slope * a_k w_k; opening it adds the rest
#pragma unroll 1
      for (int i = 0; i < active; ++i) add_filter(problems.slope * target[shared.active[i]], shared.active[i]);
    for (int i = thread; i < groups * 32; i += threads) shared.due[i] = i < active ? 0.0f : INFINITY;
    for (int g = thread; g < groups; g += threads) {
      shared.open[g] = shared.flipped[g] = 0;
      shared.earliest[g] = 0;
    }

    float totals[kSums];
    int turn = 0;
    const auto measure = [&](float squared_step) {
      int i = 0;
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int q = r; q < ROWS; ++q) {
          float product = 0;
#pragma unroll
          for (int c = 0; c < kColumns; ++c) product += x[r][c] * x[q][c];
          totals[i++] = product;
        }
      totals[kProducts] = squared_step;
#pragma unroll
      for (int rest = kProducts + 1; rest < kSums; ++rest) totals[rest] = 0;
      block_sums<kSums>(block, totals, shared.sums, turn);
    };
    measure(0);

    const float similarity_weight = end - begin > 1 ? problems.weights.similarity_weight : 0.0f;
    const float beta1 = problems.weights.beta1, beta2 = problems.weights.beta2;
    double path = 0;
    float next_due = 0;
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
      if (step > 0)
        path += step_bound(problems.numbers[step - 1].rate, totals[kProducts], squared_norm,
                           ROWS * kColumns + 8 + block.warps());

      if (path >= next_due && active > 0) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            const int column = thread + c * threads;
            if (r < kernel && column < width) shared.x[r * width + column] = x[r][c];
          }
        block.sync();
        check_gates(block, problems, first_row, begin, end, active, path, sqrtf(squared_norm), shared);
        block.sync();
        next_due = INFINITY;
#pragma unroll 1
        for (int g = 0; g < groups; ++g) {
          next_due = fminf(next_due, shared.earliest[g]);
#pragma unroll 1
          for (uint32_t left = shared.flipped[g]; left != 0; left &= left - 1) {
            const int bit = first_bit(left), k = shared.active[g * 32 + bit];
            const float rest = (1 - problems.slope) * target[k];
            add_filter(shared.open[g] >> bit & 1 ? rest : -rest, k);
          }
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
      float squared_step = 0;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float unit_sum = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) unit_sum += inverse[r] * x[r][c];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
          const float gradient = (pull[r][c] - shrink[r] * x[r][c]) + inverse[r] * (pair * unit_sum);
          first_sum[r][c] = beta1 * first_sum[r][c] + gradient;
          second_sum[r][c] = beta2 * second_sum[r][c] + gradient * gradient;
          const float direction = direction_of(first_sum[r][c], second_sum[r][c], now.floor);
          x[r][c] += now.rate * direction;
          squared_step += direction * direction;
        }
      }
      measure(squared_step);
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
    const int64_t problem = block.x(), first = problem * step.field * width;
    const int begin = clamp(step.begin[problem], 0, step.field), end = clamp(step.end[problem], begin, step.field);
    float* unit_sum = reinterpret_cast<float*>(block.memory());
    float* inverse = unit_sum + width;
    float* alignment = inverse + step.field;
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

int64_t certified_threads(int64_t width) { return ((width + kColumns - 1) / kColumns + 31) / 32 * 32; }

template <int ROWS, int THREADS>
void launch_certified(const CertifiedProblems& problems, int64_t count, void* stream) {
  using Kernel = CertifiedKernel<ROWS, THREADS>;
  const int64_t threads = certified_threads(problems.width);
  const int sums = block_sums_floats<Kernel::kSums>(static_cast<int>(threads / 32));
  const int64_t bytes = certified_bytes(problems.channels, problems.kernel, problems.width, sums);
  launch<Kernel>(count, 1, threads, bytes, stream, problems);
}

template <int THREADS>
void launch_certified_rows(const CertifiedProblems& problems, int64_t count, void* stream) {
  if (problems.kernel <= 1) return launch_certified<1, THREADS>(problems, count, stream);
  if (problems.kernel <= 3) return launch_certified<3, THREADS>(problems, count, stream);
  if (problems.kernel <= 5) return launch_certified<5, THREADS>(problems, count, stream);
  launch_certified<7, THREADS>(problems, count, stream);
}

}  // namespace

bool fits_certified(int64_t channels, int64_t kernel, int64_t width) {
  constexpr int64_t kMostBytes = 96 * 1024;  // what every GPU from sm_80 on has for a block
  return kernel <= 7 && certified_threads(width) <= 256 &&
         certified_bytes(channels, kernel, width, block_sums_floats<32>(256 / 32)) <= kMostBytes;
}

void adam_table(const AdamTable& table, void* stream) {
  launch<TableKernel>((table.steps + 255) / 256, 1, 256, 0, stream, table);
}

void certified_adam(const CertifiedProblems& problems, int64_t count, void* stream) {
  if (certified_threads(problems.width) <= 128) return launch_certified_rows<128>(problems, count, stream);
  launch_certified_rows<256>(problems, count, stream);
}

void dense_adam_step(const DenseStep& step, int64_t count, void* stream) {
  const int64_t floats = step.width + 2 * static_cast<int64_t>(step.field);
  launch<DenseKernel>(count, 1, 256, floats * static_cast<int64_t>(sizeof(float)), stream, step);
}

}  // namespace fastinterp::cuda

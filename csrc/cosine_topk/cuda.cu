// Words (Eq. 8) on a GPU, the method of cpu-inl.h: products of 8-bit codes, which the tensor cores make
// exactly, bound every cosine, and only words whose bound beats a query's k-th best are multiplied in float32. The
// scores are never written.
//
// A block takes 128 queries and one share of the vocabulary. A warp owns 16 of the queries: it multiplies them with the
// 128 words that stand in shared memory, compares, and keeps their k best, so that nobody else needs to be asked. Up
// to four queries go another way: a warp per word, in float32.
#include <algorithm>

#include "../shared/block.h"
#include "cuda.h"

#ifdef __CUDACC__
#include <mma.h>
#endif

namespace fastinterp::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kQueries = 16;  // of a warp
constexpr int kPart = 16;                                             // words of one tensor-core product
constexpr int kParts = kTile / kPart;
constexpr int kMostSteps = 20;  // of 16 components that shared memory holds at once
constexpr int kStepBytes = kTile * 16;

FASTINTERP_HOST_DEVICE int steps_of(int width) { return (width + 15) / 16; }

// Rounding that Cauchy-Schwarz does not see: of a float32 cosine of two vectors of length 1, and of the bound itself.
FASTINTERP_DEVICE float rounding(int width) { return static_cast<float>(width / 32 + 24) * FLT_EPSILON; }

// Exact products of 16 queries with 128 words, as one warp holds them.
#ifdef __CUDACC__
class Products {
 public:
  __device__ void clear() {
    for (auto& part : parts_) nvcuda::wmma::fill_fragment(part, 0);
  }
  __device__ void add(const int8_t* queries, const int8_t* words, int steps) {
    using namespace nvcuda::wmma;
    for (int step = 0; step < steps; ++step) {
      fragment<matrix_a, 16, 16, 16, signed char, row_major> left;
      load_matrix_sync(left, reinterpret_cast<const signed char*>(queries + step * kStepBytes), 16);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        fragment<matrix_b, 16, 16, 16, signed char, col_major> right;
        load_matrix_sync(right, reinterpret_cast<const signed char*>(words + step * kStepBytes + part * kPart * 16),
                         16);
        mma_sync(parts_[part], left, right, parts_[part]);
      }
    }
  }
  // out(query, word) of one part, 16 by 16.
  __device__ void store(int part, int* out) const {
    nvcuda::wmma::store_matrix_sync(out, parts_[part], 16, nvcuda::wmma::mem_row_major);
  }
  __device__ explicit Products(const Block&) {}

 private:
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, int> parts_[kParts];
};
#else
class Products {
 public:
  explicit Products(const Block& block) : lane_(block.lane()) {}
  void clear() { std::memset(sums_, 0, sizeof(sums_)); }
  void add(const int8_t* queries, const int8_t* words, int steps) {
    for (int step = 0; step < steps; ++step)
      for (int part = 0; part < kParts; ++part)
        for (int i = 0; i < 8; ++i)
          for (int d = 0; d < 16; ++d) {
            const int query = (lane_ * 8 + i) / 16, word = part * kPart + (lane_ * 8 + i) % 16;
            sums_[part][i] += queries[step * kStepBytes + query * 16 + d] * words[step * kStepBytes + word * 16 + d];
          }
  }
  void store(int part, int* out) const { std::memcpy(out + lane_ * 8, sums_[part], sizeof(sums_[part])); }

 private:
  int lane_;
  int sums_[kParts][8];
};
#endif

// The k best words of a query so far, best first. One warp writes them.
struct WarpBest {
  float* cosines;
  int* indices;
  int k;

  FASTINTERP_DEVICE void clear(const Block& block) const {
    for (int i = block.lane(); i < k; i += 32) {
      cosines[i] = -INFINITY;
      indices[i] = -1;
    }
  }

  FASTINTERP_DEVICE bool takes(float cosine, int index) const {
    return ranks_before(cosine, index, cosines[k - 1], indices[k - 1]);
  }

  FASTINTERP_DEVICE void insert(float cosine, int index) const {
    int place = k - 1;
    for (; place > 0 && ranks_before(cosine, index, cosines[place - 1], indices[place - 1]); --place) {
      cosines[place] = cosines[place - 1];
      indices[place] = indices[place - 1];
    }
    cosines[place] = cosine;
    indices[place] = index;
  }

  // As list `list` of those found for a query.
  FASTINTERP_DEVICE void write(const Block& block, const Search& search, int64_t list, int64_t query) const {
    const int64_t out = (list * search.query_count + query) * k;
    for (int i = block.lane(); i < k; i += 32) {
      search.found_cosines[out + i] = cosines[i];
      search.found_indices[out + i] = indices[i];
    }
  }
};

// The one formula of a cosine, by a whole warp.
FASTINTERP_DEVICE float cosine_of(const Block& block, const Search& search, int64_t query, int64_t word) {
  const float* unit = search.units + query * search.width;
  const float* vector = search.vocabulary + word * search.width;
  float product = 0;
  for (int d = block.lane(); d < search.width; d += 32) product += unit[d] * vector[d];
  const float cosine = warp_sum(block, product) * search.inverse_norms[word];
  return fminf(1.0f, fmaxf(-1.0f, cosine));
}

// Rounds one vector times `factor` to 8 bits, by a whole warp. Returns ||scale * code||.
FASTINTERP_DEVICE float encode(const Block& block, const float* vector, float factor, int width, int64_t row,
                               const Codes& codes, float& error) {
  const int lane = block.lane();
  float largest = 0;
  for (int d = lane; d < width; d += 32) largest = fmaxf(largest, fabsf(vector[d] * factor));
  largest = warp_max(block, largest);
  const float scale = largest / 127, to_code = scale > 0 ? 1 / scale : 0.0f;
  int8_t* tile = codes.bytes + row / kTile * steps_of(width) * kStepBytes + row % kTile * 16;
  float errors = 0, norms = 0;
  for (int d = lane; d < steps_of(width) * 16; d += 32) {
    const float value = d < width ? vector[d] * factor : 0.0f;
    const float code = rintf(fminf(127.0f, fmaxf(-127.0f, value * to_code)));
    tile[d / 16 * kStepBytes + d % 16] = static_cast<int8_t>(code);
    errors += (value - scale * code) * (value - scale * code);
    norms += code * code;
  }
  error = sqrtf(warp_sum(block, errors)) * (1 + 1e-4f);
  if (lane == 0) codes.scale[row] = scale;
  return scale * sqrtf(warp_sum(block, norms)) * (1 + 1e-4f);
}

// A warp per query: its direction, and that in 8 bits.
struct QueryKernel {
  using Arguments = Search;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 4;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& search) {
    const int64_t q = static_cast<int64_t>(block.x()) * kWarps + block.warp();
    if (q >= search.query_count) return;
    const float* query = search.queries + q * search.width;
    float* unit = search.units + q * search.width;
    float largest = 0;
    for (int d = block.lane(); d < search.width; d += 32) largest = fmaxf(largest, fabsf(query[d]));
    largest = warp_max(block, largest);
    float squared = 0;  // of the query scaled to a largest component of 1, so that nothing over- or underflows
    for (int d = block.lane(); d < search.width; d += 32) {
      const float part = largest > 0 ? query[d] / largest : 0.0f;
      squared += part * part;
    }
    const double norm = sqrt(static_cast<double>(warp_sum(block, squared))) * largest;
    for (int d = block.lane(); d < search.width; d += 32)
      unit[d] = norm > 0 ? static_cast<float>(query[d] / norm) : 0.0f;
    block.sync_warp();
    if (search.query_codes.bytes == nullptr) return;
    float error;
    encode(block, unit, 1, search.width, q, search.query_codes, error);
    if (block.lane() == 0) search.query_codes.error[q] = error;
  }
};

// A warp per word: its direction in 8 bits.
struct WordKernel {
  using Arguments = Search;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 4;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& search) {
    const int64_t word = static_cast<int64_t>(block.x()) * kWarps + block.warp();
    if (word >= search.words) return;
    float error;
    const float inverse_norm = search.inverse_norms[word];
    const float norm = encode(block, search.vocabulary + word * search.width, inverse_norm, search.width, word,
                              search.word_codes, error);
    if (block.lane() != 0) return;
    search.word_codes.error[word] = inverse_norm == 0 ? -INFINITY : error + rounding(search.width) * (1 + norm);
    block.raise(search.word_codes.longest, norm);
  }
};

struct CodesKernel {
  using Arguments = Search;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 2;

  static FASTINTERP_DEVICE void copy(const Block& block, const int8_t* from, int8_t* to, int bytes) {
    struct alignas(16) Line {
      int32_t words[4];
    };
    for (int i = block.thread(); i < bytes / 16; i += kThreads)
      reinterpret_cast<Line*>(to)[i] = reinterpret_cast<const Line*>(from)[i];
  }

  static int64_t bytes(int64_t width, int64_t k) {
    const int64_t steps = std::min<int64_t>(steps_of(static_cast<int>(width)), kMostSteps);
    return 2 * steps * kStepBytes + kWarps * kQueries * kPart * 4 + 2 * kTile * 4 + 4 * kTile * 4 + kTile * k * 8;
  }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& search) {
    const int steps = steps_of(search.width), held = steps < kMostSteps ? steps : kMostSteps;
    const int64_t first_query = static_cast<int64_t>(block.x()) * kTile, share = block.y();
    const int lane = block.lane(), own = block.warp() * kQueries;  // the warp's first query in the tile
    int8_t* queries = reinterpret_cast<int8_t*>(block.memory());
    int8_t* words = queries + held * kStepBytes;
    int* products = reinterpret_cast<int*>(words + held * kStepBytes) + block.warp() * kQueries * kPart;
    float* word_scale = reinterpret_cast<float*>(words + held * kStepBytes) + kWarps * kQueries * kPart;
    float* word_error = word_scale + kTile;
    float* query_scale = word_error + kTile;
    float* query_error = query_scale + kTile;
    float* inverse_scale = query_error + kTile;
    float* floor = inverse_scale + kTile;  // scale * code products must be above it: (k-th best - error) / scale
    float* cosines = floor + kTile;
    int* indices = reinterpret_cast<int*>(cosines + kTile * search.k);
    const auto best = [&](int q) { return WarpBest{cosines + q * search.k, indices + q * search.k, search.k}; };

    for (int q = own; q < own + kQueries; ++q) best(q).clear(block);
    if (lane < kQueries) {
      const int q = own + lane;
      const bool exists = first_query + q < search.query_count;
      query_scale[q] = exists ? search.query_codes.scale[first_query + q] : 0.0f;
      query_error[q] = exists ? search.query_codes.error[first_query + q] * *search.word_codes.longest : 0.0f;
      inverse_scale[q] = query_scale[q] > 0 ? 1 / query_scale[q] : 0.0f;
      floor[q] = exists ? -INFINITY : INFINITY;
    }
    const int8_t* query_codes = search.query_codes.bytes + first_query / kTile * steps * kStepBytes;
    if (steps == held) copy(block, query_codes, queries, held * kStepBytes);

    const int64_t tiles = (search.words + kTile - 1) / kTile;
    Products sums(block);
    for (int64_t tile = tiles * share / search.shares; tile < tiles * (share + 1) / search.shares; ++tile) {
      sums.clear();
      for (int step = 0; step < steps; step += held) {
        const int count = steps - step < held ? steps - step : held;
        block.sync();  // everyone is done with the tile before
        if (steps != held) copy(block, query_codes + step * kStepBytes, queries, count * kStepBytes);
        copy(block, search.word_codes.bytes + (tile * steps + step) * kStepBytes, words, count * kStepBytes);
        if (step == 0)
          for (int w = block.thread(); w < kTile; w += kThreads) {
            const bool exists = tile * kTile + w < search.words;
            word_scale[w] = exists ? search.word_codes.scale[tile * kTile + w] : 0.0f;
            word_error[w] = exists ? search.word_codes.error[tile * kTile + w] : -INFINITY;
          }
        block.sync();
        sums.add(queries + own * 16, words, count);
      }
      for (int part = 0; part < kParts; ++part) {
        sums.store(part, products);
        block.sync_warp();
        for (int e = lane; e < kQueries * kPart; e += 32) {
          const int q = own + e / kPart, w = part * kPart + e % kPart;
          const float bound = static_cast<float>(products[e]) * word_scale[w] + word_error[w] * inverse_scale[q];
          for (uint32_t passed = block.ballot(bound > floor[q]); passed != 0; passed &= passed - 1) {
            const int candidate = e - lane + first_bit(passed);
            const int query = own + candidate / kPart;
            const int64_t word = tile * kTile + part * kPart + candidate % kPart;
            const float cosine = cosine_of(block, search, first_query + query, word);
            const WarpBest list = best(query);
            if (lane == 0 && list.takes(cosine, static_cast<int>(word))) {
              list.insert(cosine, static_cast<int>(word));
              // For a zero query every cosine is 0 and so is the bound.
              const float last = list.cosines[search.k - 1];
              floor[query] = query_scale[query] > 0 ? (last - query_error[query]) * inverse_scale[query] : last;
            }
            block.sync_warp();
          }
        }
        block.sync_warp();
      }
    }
    for (int q = own; q < own + kQueries; ++q)
      if (first_query + q < search.query_count) best(q).write(block, search, share, first_query + q);
  }
};

// Few queries: a warp per word, each warp with lists of its own.
struct DirectKernel {
  using Arguments = Search;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 4;

  static int64_t bytes(int64_t queries, int64_t k) { return kWarps * queries * k * 8; }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& search) {
    const int queries = static_cast<int>(search.query_count), entries = kWarps * queries * search.k;
    const int64_t share = block.x(), stride = static_cast<int64_t>(search.shares) * kWarps;
    float* cosines = reinterpret_cast<float*>(block.memory()) + block.warp() * queries * search.k;
    int* indices = reinterpret_cast<int*>(block.memory()) + entries + block.warp() * queries * search.k;
    const auto best = [&](int q) { return WarpBest{cosines + q * search.k, indices + q * search.k, search.k}; };
    for (int q = 0; q < queries; ++q) best(q).clear(block);
    block.sync_warp();
    for (int64_t word = share * kWarps + block.warp(); word < search.words; word += stride) {
      if (search.inverse_norms[word] == 0) continue;
      for (int q = 0; q < queries; ++q) {
        const float cosine = cosine_of(block, search, q, word);
        if (block.lane() == 0 && best(q).takes(cosine, static_cast<int>(word)))
          best(q).insert(cosine, static_cast<int>(word));
      }
    }
    block.sync_warp();
    for (int q = 0; q < queries; ++q) best(q).write(block, search, share * kWarps + block.warp(), q);
  }
};

// A block per query: the k best of all lists, one place at a time.
struct MergeKernel {
  using Arguments = Search;
  static constexpr int kMostThreads = 128, kBlocksPerProcessor = 8;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& search) {
    const int64_t query = block.x();
    const int64_t entries = static_cast<int64_t>(search.lists) * search.k;
    float* cosines = reinterpret_cast<float*>(block.memory());
    int* indices = reinterpret_cast<int*>(cosines + kMostThreads);
    float last_cosine = INFINITY;
    int last_index = -1;
    for (int place = 0; place < search.k; ++place) {
      float cosine = -INFINITY;
      int index = -1;
      for (int64_t e = block.thread(); e < entries; e += kMostThreads) {
        const int64_t at = (e / search.k * search.query_count + query) * search.k + e % search.k;
        const float other = search.found_cosines[at];
        const int word = static_cast<int>(search.found_indices[at]);
        if (word >= 0 && ranks_before(last_cosine, last_index, other, word) &&
            (index < 0 || ranks_before(other, word, cosine, index))) {
          cosine = other;
          index = word;
        }
      }
      cosines[block.thread()] = cosine;
      indices[block.thread()] = index;
      find_first_ranked<kMostThreads>(block, cosines, indices);
      last_cosine = cosines[0];
      last_index = indices[0];
      if (block.thread() == 0) {
        search.cosines[query * search.k + place] = last_cosine;
        search.indices[query * search.k + place] = last_index;
      }
      block.sync();
    }
  }
};

}  // namespace

int64_t code_bytes(int64_t count, int64_t width) {
  return (count + kTile - 1) / kTile * steps_of(static_cast<int>(width)) * kStepBytes;
}

int64_t search_shares(int64_t queries, int64_t words) {
  constexpr int64_t kFewestWords = 1024;  // each share starts without a k-th best
  const int64_t blocks = queries <= kFewQueries ? 1 : (queries + kTile - 1) / kTile;
  const int64_t wanted = (2 * processors() + blocks - 1) / blocks;
  return std::max<int64_t>(1, std::min(wanted, words / (queries <= kFewQueries ? 2 * kWarps : kFewestWords)));
}

int64_t search_lists(int64_t queries, int64_t shares) { return queries <= kFewQueries ? shares * kWarps : shares; }

void search_words(const Search& search, void* stream) {
  const int64_t queries = search.query_count;
  launch<QueryKernel>((queries + kWarps - 1) / kWarps, 1, kThreads, 0, stream, search);
  if (queries <= kFewQueries) {
    launch<DirectKernel>(search.shares, 1, kThreads, DirectKernel::bytes(queries, search.k), stream, search);
  } else {
    launch<WordKernel>((search.words + kWarps - 1) / kWarps, 1, kThreads, 0, stream, search);
    launch<CodesKernel>((queries + kTile - 1) / kTile, search.shares, kThreads,
                        CodesKernel::bytes(search.width, search.k), stream, search);
  }
  launch<MergeKernel>(queries, 1, MergeKernel::kMostThreads, MergeKernel::kMostThreads * 8, stream, search);
}

}  // namespace fastinterp::cuda

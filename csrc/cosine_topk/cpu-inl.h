// Words (Eq. 8): the k vocabulary rows of highest cosine. Exact, and no score matrix exists.
//
// Many queries: vocabulary and queries are rounded to 8 bits, whose products are exact integers and cost a quarter of
// float32's or less. With q and w of length 1 and their rounded q', w', Cauchy-Schwarz bounds what rounding can hide:
//   q . w <= q' . w' + ||w - w'|| + ||q - q'|| ||w'||.
// Only a word whose bound is above the query's k-th best cosine so far is multiplied in float32. Few queries: the
// vocabulary passes once in float32, since to round it would cost as much.
#if defined(FASTINTERP_COSINE_TOPK_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_COSINE_TOPK_INL_H
#undef FASTINTERP_COSINE_TOPK_INL_H
#else
#define FASTINTERP_COSINE_TOPK_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "../shared/float_buffer.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/simd-inl.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

typedef int8_t VecBytes __attribute__((vector_size(FASTINTERP_LANES)));

// acc + a . b over the four bytes of each lane, a unsigned and b signed. Without VNNI two products are summed in 16
// bits, so a must stay below 128.
#if FASTINTERP_LANES == 16 && defined(FASTINTERP_VNNI)
constexpr int32_t kQueryOffset = 128;
FASTINTERP_INLINE VecMask add_products(VecMask acc, VecMask a, VecMask b) {
  return (VecMask)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
}
#elif FASTINTERP_LANES == 16
constexpr int32_t kQueryOffset = 64;
FASTINTERP_INLINE VecMask add_products(VecMask acc, VecMask a, VecMask b) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)a, (__m512i)b);
  return acc + (VecMask)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#elif FASTINTERP_LANES == 8
constexpr int32_t kQueryOffset = 64;
FASTINTERP_INLINE VecMask add_products(VecMask acc, VecMask a, VecMask b) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  return acc + (VecMask)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
constexpr int32_t kQueryOffset = 64;
FASTINTERP_INLINE VecMask add_products(VecMask acc, VecMask a, VecMask b) {
  uint8_t left[4 * FASTINTERP_LANES];
  int8_t right[4 * FASTINTERP_LANES];
  std::memcpy(left, &a, sizeof(left));
  std::memcpy(right, &b, sizeof(right));
  for (int64_t i = 0; i < 4 * kLanes; ++i) acc[i / 4] += left[i] * right[i];
  return acc;
}
#endif

static inline int64_t code_width(int64_t width) { return round_up(width, kLanes); }

// Rounding that Cauchy-Schwarz does not see: of a float32 cosine of two vectors of length 1, and of the bound itself.
static inline float rounding(int64_t width) { return static_cast<float>(width / (4 * kLanes) + 24) * FLT_EPSILON; }

FASTINTERP_INLINE Vec round_to_integer(Vec value) {
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23: what is added to it loses its fraction
  return (value + magic) - magic;
}

FASTINTERP_INLINE Vec load_part(const float* address, int64_t count) {
  return count >= kLanes ? load(address) : load_partial(address, count);
}

// codes = round(values * factor / scale) with the largest at `levels`; returns scale, and ||values * factor - scale *
// codes|| and ||scale * codes|| in `error` and `norm`.
static float quantize(const float* values, float factor, int64_t width, float levels, int8_t* codes, float* error,
                      float* norm) {
  Vec highest{};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Vec value = load_part(values + d, width - d);
    highest = at_least(highest, at_least(value, -value));
  }
  float lanes[kLanes];
  store(lanes, highest);
  const float largest = *std::max_element(lanes, lanes + kLanes) * std::abs(factor);
  const float scale = largest > 0 ? largest / levels : 0.0f;
  const Vec to_code = broadcast(scale > 0 ? factor / scale : 0.0f);
  Vec errors{}, norms{};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Vec value = load_part(values + d, width - d);
    const Vec code = round_to_integer(value * to_code);
    const VecBytes bytes = __builtin_convertvector(__builtin_convertvector(code, VecMask), VecBytes);
    std::memcpy(codes + d, &bytes, sizeof(bytes));
    const Vec off = value * factor - scale * code;
    errors += off * off;
    norms += code * code;
  }
  *error = std::sqrt(sum(errors));
  *norm = scale * std::sqrt(sum(norms));
  return scale;
}

// Fills rows [first, last) of `codes`; returns the highest ||scale * code|| among them.
static float encode_words(const Words& words, int64_t first, int64_t last, const WordCodes& codes) {
  const int64_t stride = code_width(words.width);
  float longest = 0;
  for (int64_t i = first; i < last; ++i) {
    int8_t* code = codes.codes + i * stride;
    float error, norm;
    codes.scale[i] =
        quantize(words.vectors + i * words.width, words.inverse_norms[i], words.width, 127.0f, code, &error, &norm);
    codes.error[i] = words.inverse_norms[i] == 0 ? -std::numeric_limits<float>::infinity()
                                                 : error * (1 + 1e-4f) + rounding(words.width) * (1 + norm);
    int32_t total = 0;
    for (int64_t d = 0; d < stride; ++d) total += code[d];
    codes.offset[i] = -kQueryOffset * total;
    longest = std::max(longest, norm);
  }
  return longest * (1 + 1e-4f);
}

// q / ||q|| of each query, rows of code_width(width) floats with zeros at the end; zeros for a zero query.
static void normalize_queries(const float* queries, int64_t count, int64_t width, float* units) {
  const int64_t stride = code_width(width);
  for (int64_t q = 0; q < count; ++q) {
    const float* query = queries + q * width;
    double squared = 0;
    for (int64_t d = 0; d < width; ++d) squared += static_cast<double>(query[d]) * query[d];
    const double inverse = squared > 0 ? 1 / std::sqrt(squared) : 0;
    for (int64_t d = 0; d < width; ++d) units[q * stride + d] = static_cast<float>(query[d] * inverse);
    std::fill(units + q * stride + width, units + (q + 1) * stride, 0.0f);
  }
}

// The one formula of a cosine, so that no result depends on the path that found it. Rounding may not carry it past 1:
// words that all point where the query points tie.
FASTINTERP_INLINE float cosine_of(const float* unit, const Words& words, int64_t index) {
  const float* word = words.vectors + index * words.width;
  const int64_t whole = words.width / kLanes * kLanes;
  float product = dot(unit, word, whole);
  if (whole < words.width) product += sum(load(unit + whole) * load_partial(word + whole, words.width - whole));
  return std::clamp(product * words.inverse_norms[index], -1.0f, 1.0f);
}

static void clear_best(const BestWords& best, int64_t queries) {
  std::fill_n(best.cosines, queries * best.k, -std::numeric_limits<float>::infinity());
  std::fill_n(best.indices, queries * best.k, -1);
}

// Adds a cosine that beats query q's k-th best; returns the new k-th best. Words arrive in ascending order and only a
// strictly higher cosine moves ahead, so ties stay with the lower index.
static float insert_cosine(const BestWords& best, int64_t q, float cosine, int64_t index) {
  float* cosines = best.cosines + q * best.k;
  int64_t* indices = best.indices + q * best.k;
  int64_t place = best.k - 1;
  for (; place > 0 && cosines[place - 1] < cosine; --place) {
    cosines[place] = cosines[place - 1];
    indices[place] = indices[place - 1];
  }
  cosines[place] = cosine;
  indices[place] = index;
  return cosines[best.k - 1];
}

// Few queries: words [first, last) in float32.
static void search_directly(const float* units, int64_t count, const Words& words, int64_t first, int64_t last,
                            const BestWords& best) {
  const int64_t stride = code_width(words.width);
  clear_best(best, count);
  for (int64_t i = first; i < last; ++i) {
    if (words.inverse_norms[i] == 0) continue;
    for (int64_t q = 0; q < count; ++q) {
      const float cosine = cosine_of(units + q * stride, words, i);
      if (cosine > best.cosines[q * best.k + best.k - 1]) insert_cosine(best, q, cosine, i);
    }
  }
}

static inline int64_t search_scratch_floats(int64_t panels, int64_t width) {
  return panels * kPanel * (code_width(width) / 4 + 4) + code_width(width) / 4;
}

// ROWS words times one panel of queries, in exact integers.
template <int ROWS>
FASTINTERP_INLINE void multiply_codes(int64_t rows, const int8_t* codes, const int32_t* offset, int64_t stride,
                                      const float* panel, VecMask (&sums)[kTileRows][2]) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) multiply_codes<ROWS - 1>(rows, codes, offset, stride, panel, sums);
    return;
  }
  VecMask low[ROWS], high[ROWS];
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) low[row] = high[row] = VecMask{} + offset[row];
  for (int64_t d = 0; d < stride; d += 4) {
    const VecMask panel_low = (VecMask)load(panel + d / 4 * kPanel);
    const VecMask panel_high = (VecMask)load(panel + d / 4 * kPanel + kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; ++row) {
      int32_t four;
      std::memcpy(&four, codes + row * stride + d, sizeof(four));
      const VecMask word = VecMask{} + four;
      low[row] = add_products(low[row], panel_low, word);
      high[row] = add_products(high[row], panel_high, word);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; ++row) {
    sums[row][0] = low[row];
    sums[row][1] = high[row];
  }
}

// Many queries: the bound for words [first, last), float32 for those that pass it. Queries are the vector lanes.
static void search_codes(const float* units, int64_t count, const Words& words, const WordCodes& codes, int64_t first,
                         int64_t last, float* scratch, const BestWords& best) {
  const int64_t stride = code_width(words.width), panels = (count + kPanel - 1) / kPanel, lanes = panels * kPanel;
  float* packed = scratch;  // (panels, stride / 4, kPanel) of four unsigned bytes
  float* scale = packed + lanes * stride / 4;
  float* inverse_scale = scale + lanes;
  float* error = inverse_scale + lanes;
  float* floor = error + lanes;  // scale * code products must be above it: (k-th best - error) / scale
  int8_t* code = reinterpret_cast<int8_t*>(floor + lanes);
  for (int64_t q = 0; q < lanes; ++q) {
    scale[q] = inverse_scale[q] = error[q] = 0;
    floor[q] = std::numeric_limits<float>::infinity();
    if (q < count) {
      float norm;
      scale[q] = quantize(units + q * stride, 1.0f, stride, kQueryOffset - 1.0f, code, &error[q], &norm);
      error[q] = error[q] * (1 + 1e-4f) * codes.longest;
      inverse_scale[q] = scale[q] > 0 ? 1 / scale[q] : 0.0f;
      floor[q] = -std::numeric_limits<float>::infinity();
    } else {
      std::memset(code, 0, stride);
    }
    uint8_t* bytes = reinterpret_cast<uint8_t*>(packed + q / kPanel * kPanel * stride / 4);
    for (int64_t d = 0; d < stride; ++d)
      bytes[(d / 4 * kPanel + q % kPanel) * 4 + d % 4] = static_cast<uint8_t>(code[d] + kQueryOffset);
  }
  clear_best(best, count);

  VecMask sums[kTileRows][2];
  for (int64_t tile = first; tile < last; tile += kTileRows) {
    const int64_t rows = std::min(kTileRows, last - tile);
    for (int64_t panel = 0; panel < panels; ++panel) {
      multiply_codes<kTileRows>(rows, codes.codes + tile * stride, codes.offset + tile, stride,
                                packed + panel * kPanel * stride / 4, sums);
      for (int64_t row = 0; row < rows; ++row) {
        const Vec word_scale = broadcast(codes.scale[tile + row]), word_error = broadcast(codes.error[tile + row]);
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t query = panel * kPanel + half * kLanes;
          const Vec bound =
              __builtin_convertvector(sums[row][half], Vec) * word_scale + word_error * load(inverse_scale + query);
          for (uint32_t passed = above(bound, load(floor + query)); passed != 0; passed &= passed - 1) {
            const int64_t q = query + __builtin_ctz(passed);
            const float cosine = cosine_of(units + q * stride, words, tile + row);
            if (!(cosine > best.cosines[q * best.k + best.k - 1])) continue;
            const float last_best = insert_cosine(best, q, cosine, tile + row);
            // For a zero query every cosine is 0 and so is the bound.
            floor[q] = scale[q] > 0 ? (last_best - error[q]) * inverse_scale[q] : last_best;
          }
        }
      }
    }
  }
}

constexpr int64_t kFewQueries = 4;      // up to here rounding the vocabulary costs more than it saves
constexpr int64_t kMostPanels = 4;      // queries of a block share each vocabulary row; more would leave the cache
constexpr int64_t kFewestWords = 1024;  // of a share of the vocabulary: each starts without a k-th best

// The k best of several lists, each in descending order and over higher indices than the one before it.
static void merge(const float* cosines, const int64_t* indices, int64_t lists, int64_t list_stride, int64_t k,
                  float* cosine, int64_t* index) {
  std::vector<int64_t> next(lists, 0);
  for (int64_t place = 0; place < k; ++place) {
    int64_t best = -1;
    for (int64_t l = 0; l < lists; ++l) {
      if (next[l] == k) continue;
      if (best < 0 || cosines[l * list_stride + next[l]] > cosines[best * list_stride + next[best]]) best = l;
    }
    const int64_t from = best * list_stride + next[best]++;
    cosine[place] = cosines[from];
    index[place] = indices[from];
  }
}

// The vocabulary in 8 bits, and the memory of that.
class EncodedWords {
 public:
  explicit EncodedWords(const Words& words)
      : bytes_(std::make_unique_for_overwrite<int8_t[]>(words.count * code_width(words.width))),
        offsets_(std::make_unique_for_overwrite<int32_t[]>(words.count)),
        scales_(std::make_unique_for_overwrite<float[]>(words.count)),
        errors_(std::make_unique_for_overwrite<float[]>(words.count)) {
    codes = {bytes_.get(), offsets_.get(), scales_.get(), errors_.get(), 0};
    std::atomic<float> longest = 0;
    at::parallel_for(0, words.count, kFewestWords, [&](int64_t first, int64_t last) {
      const float norm = encode_words(words, first, last, codes);
      for (float seen = longest; seen < norm && !longest.compare_exchange_weak(seen, norm);) {
      }
    });
    codes.longest = longest;
  }

  WordCodes codes;

 private:
  std::unique_ptr<int8_t[]> bytes_;
  std::unique_ptr<int32_t[]> offsets_;
  std::unique_ptr<float[]> scales_;
  std::unique_ptr<float[]> errors_;
};

// The k best words of each of `count` queries, best first, over all threads: they share out blocks of queries and,
// where those are few, the vocabulary.
static void search_words(const float* queries, int64_t count, const Words& words, const BestWords& result) {
  const int64_t stride = code_width(words.width), k = result.k;
  FloatBuffer units(count * stride);
  at::parallel_for(0, count, 64, [&](int64_t first, int64_t last) {
    normalize_queries(queries + first * words.width, last - first, words.width, units.data() + first * stride);
  });

  const bool few = count <= kFewQueries;
  std::optional<EncodedWords> encoded;
  if (!few) encoded.emplace(words);

  const int64_t threads = at::get_num_threads();
  const int64_t panels = std::clamp<int64_t>((count + kPanel - 1) / kPanel / (4 * threads), 1, kMostPanels);
  const int64_t block = few ? count : panels * kPanel, blocks = (count + block - 1) / block;
  const int64_t shares =
      blocks >= 2 * threads ? 1 : std::clamp<int64_t>(words.count / kFewestWords, 1, 2 * threads / blocks);
  // (shares, count, k): the best of each share of the vocabulary
  const auto found_cosines = std::make_unique_for_overwrite<float[]>(shares * count * k);
  const auto found_indices = std::make_unique_for_overwrite<int64_t[]>(shares * count * k);
  at::parallel_for(0, blocks * shares, 1, [&](int64_t begin, int64_t end) {
    FloatBuffer scratch(search_scratch_floats(panels, words.width));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t share = task / blocks, start = task % blocks * block, size = std::min(block, count - start);
      const int64_t first = words.count * share / shares, last = words.count * (share + 1) / shares;
      const BestWords best{found_cosines.get() + (share * count + start) * k,
                           found_indices.get() + (share * count + start) * k, k};
      const float* unit = units.data() + start * stride;
      if (few) {
        search_directly(unit, size, words, first, last, best);
      } else {
        search_codes(unit, size, words, encoded->codes, first, last, scratch.data(), best);
      }
    }
  });
  at::parallel_for(0, count, 256, [&](int64_t first, int64_t last) {
    for (int64_t q = first; q < last; ++q)
      merge(found_cosines.get() + q * k, found_indices.get() + q * k, shares, count * k, k, result.cosines + q * k,
            result.indices + q * k);
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

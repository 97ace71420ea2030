// fastinterp::cosine_topk on the CPU: threads share out blocks of queries and, where those are few, the vocabulary.
#include "topk.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <atomic>
#include <memory>

#include "../stack.h"
#include "buffer.h"

#define FASTINTERP_KERNEL "topk_kernel.inl"
#define FASTINTERP_WITH_VNNI
#include "for_each_isa.h"

namespace fastinterp {
namespace {

constexpr int64_t kFewQueries = 4;      // up to here rounding the vocabulary costs more than it saves
constexpr int64_t kMostPanels = 4;      // queries of a block share each vocabulary row; more would leave the cache
constexpr int64_t kFewestWords = 1024;  // of a share of the vocabulary: each starts without a k-th best

// The k best of several lists, each in descending order and over higher indices than the one before it.
void merge(const float* cosines, const int64_t* indices, int64_t lists, int64_t list_stride, int64_t k, float* cosine,
           int64_t* index) {
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

std::tuple<at::Tensor, at::Tensor> cosine_topk(const at::Tensor& queries, const at::Tensor& vocabulary,
                                               const at::Tensor& inverse_norms, int64_t k) {
  check_search(queries, vocabulary, inverse_norms);
  const int64_t count = queries.size(0), width = queries.size(1);
  const Words words{vocabulary.const_data_ptr<float>(), inverse_norms.const_data_ptr<float>(), vocabulary.size(0),
                    width};
  const int64_t searchable = words.count - std::count(words.inverse_norms, words.inverse_norms + words.count, 0.0f);
  TORCH_CHECK_VALUE(k >= 1 && k <= searchable, "k: expected 1 to ", searchable, " (words with a vector), got ", k);

  at::Tensor cosines = at::empty({count, k}, queries.options());
  at::Tensor indices = at::empty({count, k}, queries.options().dtype(at::kLong));
  if (count == 0) return {cosines, indices};
  const int64_t stride = FASTINTERP_DISPATCH(code_width)(width), panel = FASTINTERP_DISPATCH(kPanel);
  FloatBuffer units(count * stride);
  at::parallel_for(0, count, 64, [&](int64_t first, int64_t last) {
    FASTINTERP_DISPATCH(normalize_queries)
    (queries.const_data_ptr<float>() + first * width, last - first, width, units.data() + first * stride);
  });

  const bool few = count <= kFewQueries;
  WordCodes codes{};
  const int64_t coded = few ? 0 : words.count;
  const auto bytes = std::make_unique_for_overwrite<int8_t[]>(coded * stride);
  const auto offsets = std::make_unique_for_overwrite<int32_t[]>(coded);
  const auto scales = std::make_unique_for_overwrite<float[]>(coded);
  const auto errors = std::make_unique_for_overwrite<float[]>(coded);
  codes = {bytes.get(), offsets.get(), scales.get(), errors.get(), 0};
  std::atomic<float> longest = 0;
  at::parallel_for(0, coded, kFewestWords, [&](int64_t first, int64_t last) {
    const float norm = FASTINTERP_DISPATCH(encode_words)(words, first, last, codes);
    for (float seen = longest; seen < norm && !longest.compare_exchange_weak(seen, norm);) {
    }
  });
  codes.longest = longest;

  const int64_t threads = at::get_num_threads();
  const int64_t panels = std::clamp<int64_t>((count + panel - 1) / panel / (4 * threads), 1, kMostPanels);
  const int64_t block = few ? count : panels * panel, blocks = (count + block - 1) / block;
  const int64_t shares =
      blocks >= 2 * threads ? 1 : std::clamp<int64_t>(words.count / kFewestWords, 1, 2 * threads / blocks);
  // (shares, count, k): the best of each share of the vocabulary
  const auto found_cosines = std::make_unique_for_overwrite<float[]>(shares * count * k);
  const auto found_indices = std::make_unique_for_overwrite<int64_t[]>(shares * count * k);
  at::parallel_for(0, blocks * shares, 1, [&](int64_t begin, int64_t end) {
    FloatBuffer scratch(FASTINTERP_DISPATCH(search_scratch_floats)(panels, width));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t share = task / blocks, start = task % blocks * block, size = std::min(block, count - start);
      const int64_t first = words.count * share / shares, last = words.count * (share + 1) / shares;
      const Best best{found_cosines.get() + (share * count + start) * k,
                      found_indices.get() + (share * count + start) * k, k};
      const float* unit = units.data() + start * stride;
      if (few) {
        FASTINTERP_DISPATCH(search_directly)(unit, size, words, first, last, best);
      } else {
        FASTINTERP_DISPATCH(search_codes)(unit, size, words, codes, first, last, scratch.data(), best);
      }
    }
  });
  float* cosine = cosines.data_ptr<float>();
  int64_t* index = indices.data_ptr<int64_t>();
  at::parallel_for(0, count, 256, [&](int64_t first, int64_t last) {
    for (int64_t q = first; q < last; ++q)
      merge(found_cosines.get() + q * k, found_indices.get() + q * k, shares, count * k, k, cosine + q * k,
            index + q * k);
  });
  return {cosines, indices};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("cosine_topk", &cosine_topk); }

}  // namespace fastinterp

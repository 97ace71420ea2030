// fastinterp::cosine_topk on a GPU: checks its arguments, makes its results and scratch, launches cuda.cu.
#include "cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

std::tuple<at::Tensor, at::Tensor> cosine_topk(const at::Tensor& queries, const at::Tensor& vocabulary,
                                               const at::Tensor& inverse_norms, int64_t k) {
  check_search(queries, vocabulary, inverse_norms);
  check_same_device(queries.device(), {vocabulary, inverse_norms}, "vocabulary, inverse_norms");
  const int64_t count = queries.size(0), words = vocabulary.size(0), width = queries.size(1);
  const int64_t most = std::min<int64_t>(words, kMostNeighbors);
  TORCH_CHECK_VALUE(k >= 1 && k <= most, "k: expected 1 to ", most, " on a GPU, got ", k);
  TORCH_CHECK_VALUE(words <= std::numeric_limits<int>::max(), "vocabulary: too many words, ", words);
  const OnDevice on(queries.device());
  const at::TensorOptions floats = queries.options(), integers = floats.dtype(at::kLong);
  at::Tensor cosines = at::empty({count, k}, floats), indices = at::empty({count, k}, integers);
  const bool coded = count > kFewQueries;
  const int64_t shares = search_shares(count, words), lists = search_lists(count, shares);
  // Zeroed, since the last tile of either may be only part full.
  const at::Tensor query_bytes = at::zeros({coded ? code_bytes(count, width) : 0}, floats.dtype(at::kChar));
  const at::Tensor word_bytes = at::zeros({coded ? code_bytes(words, width) : 0}, floats.dtype(at::kChar));
  const at::Tensor query_numbers = at::empty({2, coded ? count : 0}, floats);
  const at::Tensor word_numbers = at::empty({2, coded ? words : 0}, floats);
  const at::Tensor longest = at::zeros({1}, floats), units = at::empty_like(queries);
  const at::Tensor found_cosines = at::empty({lists, count, k}, floats);
  const at::Tensor found_indices = at::empty({lists, count, k}, integers);
  const auto codes_of = [&](const at::Tensor& bytes, const at::Tensor& numbers) {
    float* scale = numbers.data_ptr<float>();
    return Codes{coded ? bytes.data_ptr<int8_t>() : nullptr, scale, scale + numbers.size(1), longest.data_ptr<float>()};
  };
  search_words(
      {queries.const_data_ptr<float>(), vocabulary.const_data_ptr<float>(), inverse_norms.const_data_ptr<float>(),
       count, words, static_cast<int>(width), static_cast<int>(k), static_cast<int>(shares), static_cast<int>(lists),
       units.data_ptr<float>(), codes_of(query_bytes, query_numbers), codes_of(word_bytes, word_numbers),
       found_cosines.data_ptr<float>(), found_indices.data_ptr<int64_t>(), cosines.data_ptr<float>(),
       indices.data_ptr<int64_t>()},
      on.stream());
  return {cosines, indices};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("cosine_topk", &cosine_topk); }

}  // namespace fastinterp::cuda

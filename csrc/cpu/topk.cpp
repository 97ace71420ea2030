// fastinterp::cosine_topk on the CPU: one block of queries per thread at a time; no score matrix exists.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../stack.h"
#include "buffer.h"

#define FASTINTERP_KERNEL "topk_kernel.inl"
#include "for_each_isa.h"

namespace fastinterp {
namespace {

constexpr int64_t kMostPanels = 4;  // queries of a block share each vocabulary row; more would leave the cache

std::tuple<at::Tensor, at::Tensor> cosine_topk(const at::Tensor& queries, const at::Tensor& vocabulary,
                                               const at::Tensor& inverse_norms, int64_t k) {
  check_floats(queries, "queries", 2);
  check_floats(vocabulary, "vocabulary", 2);
  check_floats(inverse_norms, "inverse_norms", 1);
  const int64_t count = queries.size(0), width = queries.size(1), words = vocabulary.size(0);
  TORCH_CHECK_VALUE(vocabulary.size(1) == width, "vocabulary: expected ", width, " columns, got ", vocabulary.size(1));
  TORCH_CHECK_VALUE(inverse_norms.size(0) == words, "inverse_norms: expected ", words, " values, got ",
                    inverse_norms.size(0));
  const float* norms = inverse_norms.const_data_ptr<float>();
  const int64_t searchable = words - std::count(norms, norms + words, 0.0f);
  TORCH_CHECK_VALUE(k >= 1 && k <= searchable, "k: expected 1 to ", searchable, " (words with a vector), got ", k);

  at::Tensor cosines = at::empty({count, k}, queries.options());
  at::Tensor indices = at::empty({count, k}, queries.options().dtype(at::kLong));
  const float* query = queries.const_data_ptr<float>();
  const float* word = vocabulary.const_data_ptr<float>();
  float* cosine = cosines.data_ptr<float>();
  int64_t* index = indices.data_ptr<int64_t>();

  const int64_t panel = FASTINTERP_DISPATCH(kPanel);
  const int64_t all_panels = (count + panel - 1) / panel;
  const int64_t panels = std::clamp<int64_t>(all_panels / (4 * at::get_num_threads()), 1, kMostPanels);
  const int64_t block = panels * panel;
  at::parallel_for(0, (count + block - 1) / block, 1, [&](int64_t first, int64_t last) {
    FloatBuffer scratch(FASTINTERP_DISPATCH(topk_scratch_floats)(panels, width));
    std::vector<double> query_norms(block);
    for (int64_t b = first; b < last; ++b) {
      const int64_t start = b * block, size = std::min(block, count - start);
      for (int64_t q = 0; q < size; ++q) {
        double squared = 0;
        for (int64_t d = 0; d < width; ++d) {
          const double value = query[(start + q) * width + d];
          squared += value * value;
        }
        query_norms[q] = squared > 0 ? 1 / std::sqrt(squared) : 0;
      }
      FASTINTERP_DISPATCH(search_block)
      (query + start * width, query_norms.data(), size, word, norms, words, width, k, scratch.data(),
       cosine + start * k, index + start * k);
    }
  });
  return {cosines, indices};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("cosine_topk", &cosine_topk); }

}  // namespace fastinterp

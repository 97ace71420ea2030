// fastinterp::cosine_topk on the CPU (Eq. 8): checks its arguments, makes its results, and goes on in cpu-inl.h with
// this processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "check.h"

#define FASTINTERP_INL "../cosine_topk/cpu-inl.h"
#define FASTINTERP_WITH_VNNI
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

std::tuple<at::Tensor, at::Tensor> cosine_topk(const at::Tensor& queries, const at::Tensor& vocabulary,
                                               const at::Tensor& inverse_norms, int64_t k) {
  check_search(queries, vocabulary, inverse_norms);
  const Words words{vocabulary.const_data_ptr<float>(), inverse_norms.const_data_ptr<float>(), vocabulary.size(0),
                    vocabulary.size(1)};
  const int64_t searchable = words.count - std::count(words.inverse_norms, words.inverse_norms + words.count, 0.0f);
  TORCH_CHECK_VALUE(k >= 1 && k <= searchable, "k: expected 1 to ", searchable, " (words with a vector), got ", k);

  at::Tensor cosines = at::empty({queries.size(0), k}, queries.options());
  at::Tensor indices = at::empty({queries.size(0), k}, queries.options().dtype(at::kLong));
  if (queries.size(0) > 0) FASTINTERP_DISPATCH(search_words)
  (queries.const_data_ptr<float>(), queries.size(0), words,
   {cosines.data_ptr<float>(), indices.data_ptr<int64_t>(), k});
  return {cosines, indices};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("cosine_topk", &cosine_topk); }

}  // namespace fastinterp

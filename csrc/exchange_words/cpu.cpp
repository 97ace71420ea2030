// fastinterp::exchange_words on the CPU: checks its arguments, makes its results, and goes on in cpu-inl.h with this
// processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "check.h"

#define FASTINTERP_INL "../exchange_words/cpu-inl.h"
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

// A row has a word for each of its candidates, or none.
void check_candidates(const at::Tensor& candidates, int64_t words) {
  const int64_t count = candidates.size(2);
  const int64_t* values = candidates.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < candidates.numel(); row += count)
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = values[row + i];
      TORCH_CHECK_VALUE(values[row] == -1 ? value == -1 : 0 <= value && value < words, "candidates: expected 0 to ",
                        words - 1, " or rows of -1, got ", value);
    }
}

std::tuple<at::Tensor, at::Tensor> exchange_words(const at::Tensor& target, at::TensorList weights,
                                                  at::TensorList biases, const at::Tensor& begin, const at::Tensor& end,
                                                  c10::string_view activation, const at::Tensor& vectors,
                                                  const at::Tensor& candidates, const at::Tensor& mean,
                                                  const at::Tensor& factor, int64_t rounds, double tie) {
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_exchange(problems, vectors, candidates, mean, factor, rounds, tie);
  check_problem_rows(stack, problems);
  check_candidates(candidates, vectors.size(0));

  at::Tensor chosen = at::zeros({target.size(0), stack.receptive_field()}, candidates.options());
  at::Tensor reached = at::zeros_like(target);
  const ExchangeBatch batch{target.size(0),
                            vectors.size(0),
                            candidates.size(2),
                            rounds,
                            static_cast<float>(tie),
                            target.const_data_ptr<float>(),
                            begin.const_data_ptr<int64_t>(),
                            end.const_data_ptr<int64_t>(),
                            vectors.const_data_ptr<float>(),
                            candidates.const_data_ptr<int64_t>(),
                            mean.const_data_ptr<float>(),
                            factor.const_data_ptr<float>(),
                            chosen.data_ptr<int64_t>(),
                            reached.data_ptr<float>()};
  FASTINTERP_DISPATCH(exchange_all_words)(stack, batch);
  return {chosen, reached};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("exchange_words", &exchange_words); }

}  // namespace fastinterp

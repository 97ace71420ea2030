// fastinterp::optimize_ccp on the CPU: checks its arguments, makes its results, and goes on in cpu-inl.h with this
// processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "check.h"

#define FASTINTERP_INL "../optimize_ccp/cpu-inl.h"
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> optimize_ccp(const at::Tensor& target,
                                                                        at::TensorList weights, at::TensorList biases,
                                                                        const at::Tensor& begin, const at::Tensor& end,
                                                                        c10::string_view activation,
                                                                        int64_t max_iterations, double tolerance,
                                                                        double l2_weight, double similarity_weight) {
  const CcpSettings settings{max_iterations, tolerance, l2_weight, similarity_weight};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_ccp(problems, settings);
  check_problem_rows(stack, problems);

  const int64_t count = target.size(0), width = stack.layers[0].in_channels;
  at::Tensor optimum = at::zeros({count, stack.receptive_field(), width}, target.options());
  at::Tensor gates = at::zeros_like(target, target.options().dtype(at::kBool));
  at::Tensor iterations = at::zeros({count}, begin.options());
  at::Tensor residual = at::zeros({count}, target.options());
  const CcpBatch batch{count,
                       target.const_data_ptr<float>(),
                       begin.const_data_ptr<int64_t>(),
                       end.const_data_ptr<int64_t>(),
                       optimum.data_ptr<float>(),
                       gates.data_ptr<bool>(),
                       iterations.data_ptr<int64_t>(),
                       residual.data_ptr<float>()};
  FASTINTERP_DISPATCH(optimize_problems)(stack, settings, batch);
  return {optimum, gates, iterations, residual};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("optimize_ccp", &optimize_ccp); }

}  // namespace fastinterp

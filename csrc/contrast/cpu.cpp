// fastinterp::contrast on the CPU: checks its arguments, makes its results, and goes on in cpu-inl.h with this
// processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "check.h"

#define FASTINTERP_INL "../contrast/cpu-inl.h"
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

std::tuple<at::Tensor, at::Tensor> contrast(const at::Tensor& target, at::TensorList weights, at::TensorList biases,
                                            const at::Tensor& begin, const at::Tensor& end, c10::string_view activation,
                                            at::TensorList slopes, const at::Tensor& mean, const at::Tensor& precision,
                                            const at::Tensor& factor, int64_t steps, double damping) {
  const ContrastSettings settings{steps, damping};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_contrast(problems, {slopes, mean, precision, factor}, settings);
  check_problem_rows(stack, problems);

  const int64_t count = target.size(0);
  at::Tensor optimum = at::zeros({count, stack.receptive_field(), stack.layers[0].in_channels}, target.options());
  at::Tensor distance = at::zeros({count}, target.options());
  std::vector<const float*> means;
  for (const at::Tensor& each : slopes) means.push_back(each.const_data_ptr<float>());
  const ContrastBatch batch{count,
                            target.const_data_ptr<float>(),
                            begin.const_data_ptr<int64_t>(),
                            end.const_data_ptr<int64_t>(),
                            means,
                            mean.const_data_ptr<float>(),
                            precision.const_data_ptr<float>(),
                            factor.const_data_ptr<float>(),
                            optimum.data_ptr<float>(),
                            distance.data_ptr<float>()};
  FASTINTERP_DISPATCH(optimize_contrast)(stack, settings, batch);
  return {optimum, distance};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("contrast", &contrast); }

}  // namespace fastinterp

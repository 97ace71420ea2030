// fastinterp::optimize_adam on the CPU (Eq. 5-7): checks its arguments, makes its results, and goes on in cpu-inl.h
// with this processor's instruction set.
#include "cpu.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include "check.h"

#define FASTINTERP_INL "../optimize_adam/cpu-inl.h"
#include "../shared/for_each_isa.h"

namespace fastinterp {
namespace {

// The largest singular value of a layer's filters, or a little more: the eigenvalues of G = W W^T are not negative, so
// the largest is at most the root of the sum of their eighth powers.
double spectral_norm(const at::Tensor& weight) {
  const at::Tensor rows = weight.flatten(1).to(at::kDouble);
  const at::Tensor second = at::mm(rows, rows.t());
  const at::Tensor fourth = at::mm(second, second);
  const double eighth_powers = at::mm(fourth, fourth).norm().item<double>();
  return std::pow(eighth_powers, 1.0 / 8) * (1 + 1e-9);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> optimize_adam(
    const at::Tensor& target, at::TensorList weights, at::TensorList biases, const at::Tensor& start,
    const at::Tensor& begin, const at::Tensor& end, c10::string_view activation, int64_t steps, double l2_weight,
    double similarity_weight, double learning_rate, double beta1, double beta2, double epsilon) {
  const AdamSettings settings{
      steps,  static_cast<float>(l2_weight), static_cast<float>(similarity_weight), learning_rate, beta1, beta2,
      epsilon};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_adam(problems, start, settings);
  check_problem_rows(stack, problems);

  at::Tensor optimum = at::zeros_like(start);
  at::Tensor gates = at::zeros_like(target, target.options().dtype(at::kBool));
  at::Tensor evaluations = at::zeros({target.size(0)}, begin.options());
  std::vector<double> spectral_norms;  // read where gates are proven through a stack
  if (stack.size() > 1 && !stack.activation.is_tanh)
    for (const at::Tensor& weight : weights) spectral_norms.push_back(spectral_norm(weight));
  const AdamBatch batch{target.size(0),
                        target.const_data_ptr<float>(),
                        start.const_data_ptr<float>(),
                        begin.const_data_ptr<int64_t>(),
                        end.const_data_ptr<int64_t>(),
                        optimum.data_ptr<float>(),
                        gates.data_ptr<bool>(),
                        evaluations.data_ptr<int64_t>()};
  FASTINTERP_DISPATCH(optimize_problems)(stack, spectral_norms, settings, batch);
  return {optimum, gates, evaluations};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("optimize_adam", &optimize_adam); }

}  // namespace fastinterp

// fastinterp::optimize_adam on a GPU: checks its arguments, makes its results, launches cuda.cu.
#include "cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "../shared/dense_stack.h"
#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // optimum, gates, evaluations

AdamWeights weights_of(const AdamSettings& settings) {
  return {settings.l2_weight, settings.similarity_weight, static_cast<float>(settings.beta1),
          static_cast<float>(settings.beta2)};
}

// The first layer: all steps in one launch.
Results optimize_one_layer(const ConvStack& stack, const Problems& problems, const at::Tensor& start,
                           const AdamSettings& settings, const AdamNumbers* numbers, void* stream) {
  const at::Tensor& target = problems.target;
  at::Tensor optimum = at::zeros_like(start);
  at::Tensor gates = at::zeros_like(target, target.options().dtype(at::kBool));
  at::Tensor evaluations = at::zeros({target.size(0)}, problems.begin.options());
  const at::Tensor rows = filter_rows(problems.weights[0]);
  const at::Tensor squared_norms = rows.to(at::kDouble).square().sum(2);
  take_all_steps({target.const_data_ptr<float>(), rows.const_data_ptr<float>(), squared_norms.const_data_ptr<double>(),
                  stack.layers[0].bias, start.const_data_ptr<float>(), problems.begin.const_data_ptr<int64_t>(),
                  problems.end.const_data_ptr<int64_t>(), numbers, weights_of(settings), stack.activation.slope,
                  static_cast<int>(settings.steps), static_cast<int>(target.size(1)), static_cast<int>(start.size(1)),
                  static_cast<int>(start.size(2)), optimum.data_ptr<float>(), gates.data_ptr<bool>(),
                  evaluations.data_ptr<int64_t>()},
                 target.size(0), stream);
  return {optimum, gates, evaluations};
}

// Any stack: torch's BLAS for the gradient, a launch for each step.
Results optimize_dense(const ConvStack& stack, const Problems& problems, const at::Tensor& start,
                       const AdamSettings& settings, const AdamNumbers* numbers, void* stream) {
  const int64_t count = start.size(0), field_rows = start.size(1), width = start.size(2);
  at::Tensor x = start.mul(existing(problems.begin, problems.end, 0, field_rows));
  const at::Tensor first_sum = at::zeros_like(x), second_sum = at::zeros_like(x);
  DenseStack dense(stack, problems);
  for (int64_t step = 0; step < settings.steps; ++step) {
    dense.forward(x);
    const at::Tensor pull = dense.gradient(problems.target);
    take_dense_step(
        {pull.const_data_ptr<float>(), problems.begin.const_data_ptr<int64_t>(), problems.end.const_data_ptr<int64_t>(),
         numbers + step, weights_of(settings), static_cast<int>(field_rows), static_cast<int>(width),
         x.data_ptr<float>(), first_sum.data_ptr<float>(), second_sum.data_ptr<float>()},
        count, stream);
  }
  const at::Tensor gates = dense.forward(x).gt(0).logical_and_(problems.target.ne(0));
  return {x, gates,
          at::full({count}, (settings.steps + 1) * stack.layers.back().out_channels, problems.begin.options())};
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
  check_same_device(target.device(), {start, begin, end}, "start, begin, end");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  const OnDevice on(target.device());
  const at::Tensor table = at::empty({steps, 2}, start.options());
  auto* numbers = reinterpret_cast<AdamNumbers*>(table.data_ptr<float>());
  fill_adam_table({settings, numbers}, on.stream());
  const bool held =
      stack.size() == 1 && !stack.activation.is_tanh && fits_one_layer(target.size(1), start.size(1), start.size(2));
  return held ? optimize_one_layer(stack, problems, start, settings, numbers, on.stream())
              : optimize_dense(stack, problems, start, settings, numbers, on.stream());
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("optimize_adam", &optimize_adam); }

}  // namespace fastinterp::cuda

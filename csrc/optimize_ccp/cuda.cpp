// fastinterp::optimize_ccp on a GPU: checks its arguments, prepares the filters' products, launches cuda.cu.
#include "cuda.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> optimize_ccp(const at::Tensor& target,
                                                                        at::TensorList weights, at::TensorList biases,
                                                                        const at::Tensor& begin, const at::Tensor& end,
                                                                        c10::string_view activation,
                                                                        int64_t max_iterations, double tolerance,
                                                                        double l2_weight, double similarity_weight) {
  const CcpSettings settings{max_iterations, tolerance, l2_weight, similarity_weight};
  const ConvStack stack = check_ccp({target, weights, biases, begin, end, activation}, settings);
  TORCH_CHECK_VALUE(stack.size() == 1 && (activation == "relu" || activation == "identity"),
                    "weights: expected the first layer alone, with relu or identity, on a GPU");
  check_same_device(target.device(), {begin, end, weights[0], biases[0]}, "begin, end, weights, biases");
  const int64_t problems = target.size(0), channels = target.size(1), kernel = stack.layers[0].kernel;
  const int64_t width = stack.layers[0].in_channels;
  constexpr int64_t kMostBytes = 160 * 1024;  // of shared memory, what every GPU from sm_80 on can give a block
  TORCH_CHECK_VALUE(ccp_bytes(channels, kernel, width) <= kMostBytes, "weights: a layer of shape ", weights[0].sizes(),
                    " is too large for this solver on a GPU");
  const OnDevice on(target.device());
  const at::Tensor rows = filter_rows(weights[0]);
  // What depends on the edge, for every edge that a receptive field can have.
  std::vector<at::Tensor> grams, norms;
  const int64_t center = stack.center();
  for (int64_t first = 0; first <= center; ++first)
    for (int64_t last = center + 1; last <= kernel; ++last) {
      const at::Tensor part = rows.slice(1, first, last).flatten(1);
      grams.push_back(at::mm(part, part.t()));
      norms.push_back(part.to(at::kDouble).square().sum(1).sqrt_());
    }
  const at::Tensor gram = at::stack(grams), norm = at::stack(norms);
  at::Tensor optimum = at::zeros({problems, kernel, width}, target.options());
  at::Tensor gates = at::zeros({problems, channels}, target.options().dtype(at::kBool));
  at::Tensor iterations = at::zeros({problems}, begin.options());
  at::Tensor residual = at::zeros({problems}, target.options());
  optimize_problems(
      {target.const_data_ptr<float>(), rows.const_data_ptr<float>(), stack.layers[0].bias, gram.const_data_ptr<float>(),
       norm.const_data_ptr<double>(), begin.const_data_ptr<int64_t>(), end.const_data_ptr<int64_t>(), settings,
       activation == "relu", static_cast<int>(channels), static_cast<int>(kernel), static_cast<int>(width),
       optimum.data_ptr<float>(), gates.data_ptr<bool>(), iterations.data_ptr<int64_t>(), residual.data_ptr<float>()},
      problems, on.stream());
  return {optimum, gates, iterations, residual};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("optimize_ccp", &optimize_ccp); }

}  // namespace fastinterp::cuda

// fastinterp::optimize_ccp on the CPU: checks tensors, prepares the filters' products, then one problem per thread.
#include "ccp.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <map>

#include "../gating.h"
#include "../problems.h"
#include "packed_stack.h"

#define FASTINTERP_KERNEL "ccp_kernel.inl"
#include "for_each_isa.h"

namespace fastinterp {
namespace {

// What problems with the same existing rows share.
struct Edge {
  std::vector<double> norms;
  FloatBuffer gram;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> optimize_ccp(const at::Tensor& target,
                                                                        at::TensorList weights, at::TensorList biases,
                                                                        const at::Tensor& begin, const at::Tensor& end,
                                                                        c10::string_view activation,
                                                                        int64_t max_iterations, double tolerance,
                                                                        double l2_weight, double similarity_weight) {
  const ConvStack stack =
      check_ccp(target, weights, biases, begin, end, std::string(activation), max_iterations, l2_weight);
  const bool gated = activation == "relu";
  const int64_t problems = target.size(0), channels = target.size(1), field = stack.field(0);
  const int64_t width = weights[0].size(1);
  check_problem_rows(stack, begin, end);
  TORCH_CHECK_VALUE(!gated || !target.lt(0).any().item<bool>(), "target: expected no negative activation with relu");
  const int64_t* begins = begin.const_data_ptr<int64_t>();
  const int64_t* ends = end.const_data_ptr<int64_t>();

  at::Tensor optimum = at::zeros({problems, field, width}, target.options());
  at::Tensor gates = at::zeros({problems, channels}, target.options().dtype(at::kBool));
  at::Tensor iterations = at::zeros({problems}, target.options().dtype(at::kLong));
  at::Tensor residual = at::zeros({problems}, target.options());
  PackedStack packed;
  packed.add(stack.layers[0], {true, false, false});
  const ConvLayer& layer = packed.layers()[0];

  std::map<std::pair<int64_t, int64_t>, Edge> edges;
  for (int64_t b = 0; b < problems; ++b) edges[{begins[b], ends[b]}];
  for (auto& [rows, edge] : edges) {
    for (int64_t k = 0; k < channels; ++k) {
      double squared = 0;
      for (int64_t row = rows.first; row < rows.second; ++row) squared += layer.norms[k * layer.kernel + row];
      edge.norms.push_back(std::sqrt(squared));
    }
    if (!gated) continue;
    edge.gram = FloatBuffer(channels * layer.out_stride);
    FloatBuffer columns(FASTINTERP_DISPATCH(packed_size)((rows.second - rows.first) * layer.in_stride, channels));
    FASTINTERP_DISPATCH(filter_products)(layer, rows.first, rows.second, columns.data(), edge.gram.data());
  }

  const CcpSettings settings{l2_weight, similarity_weight, tolerance, max_iterations};
  const float* targets = target.const_data_ptr<float>();
  float* optima = optimum.data_ptr<float>();
  bool* gate = gates.data_ptr<bool>();
  int64_t* iterated = iterations.data_ptr<int64_t>();
  float* residuals = residual.data_ptr<float>();
  at::parallel_for(0, problems, 1, [&](int64_t first, int64_t last) {
    FloatBuffer scratch(FASTINTERP_DISPATCH(ccp_scratch_floats)(layer)), x(layer.span());
    std::vector<int64_t> open(channels);
    for (int64_t b = first; b < last; ++b) {
      Edge& edge = edges.at({begins[b], ends[b]});
      CcpProblem problem{targets + b * channels,
                         edge.gram.data(),
                         edge.norms.data(),
                         begins[b],
                         ends[b],
                         x.data(),
                         gate + b * channels,
                         0,
                         0};
      FASTINTERP_DISPATCH(optimize_ccp_problem)(layer, settings, gated, problem, scratch.data(), open.data());
      iterated[b] = problem.iterations;
      residuals[b] = problem.residual;
      for (int64_t row = begins[b]; row < ends[b]; ++row)
        std::copy_n(x.data() + row * layer.in_stride, width, optima + (b * field + row) * width);
    }
  });
  return {optimum, gates, iterations, residual};
}

}  // namespace

TORCH_LIBRARY_IMPL(fastinterp, CPU, m) { m.impl("optimize_ccp", &optimize_ccp); }

}  // namespace fastinterp

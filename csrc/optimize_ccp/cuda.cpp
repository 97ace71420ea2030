// fastinterp::optimize_ccp on a GPU: checks its arguments and makes its results. Convex problems of the first layer are
// one launch of cuda.cu; for the others the ascent of ascent-inl.h is made here for all problems at once, by torch's
// products, with the concave rest of a first layer solved by cuda.cu.
#include "cuda.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "../shared/dense_stack.h"
#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

struct Results {
  at::Tensor optimum, gates, iterations, residual;
};

// What depends on the edge of a first layer's field, for every edge that it can have; see CcpProblems.
struct EdgeProducts {
  at::Tensor gram, norms;
};

EdgeProducts edge_products(const ConvStack& stack, const at::Tensor& rows) {
  std::vector<at::Tensor> grams, norms;
  const int64_t center = stack.center();
  for (int64_t first = 0; first <= center; ++first)
    for (int64_t last = center + 1; last <= stack.layers[0].kernel; ++last) {
      const at::Tensor part = rows.slice(1, first, last).flatten(1);
      grams.push_back(at::mm(part, part.t()));
      norms.push_back(part.to(at::kDouble).square().sum(1).sqrt_());
    }
  return {at::stack(grams), at::stack(norms)};
}

Results optimize_convex(const ConvStack& stack, const CcpSettings& settings, const Problems& problems, void* stream) {
  const int64_t count = problems.target.size(0), channels = problems.target.size(1), kernel = stack.layers[0].kernel;
  const int64_t width = stack.layers[0].in_channels;
  constexpr int64_t kMostBytes = 160 * 1024;  // of shared memory, what every GPU from sm_80 on can give a block
  TORCH_CHECK_VALUE(ccp_bytes(channels, kernel, width) <= kMostBytes, "weights: a layer of shape ",
                    problems.weights[0].sizes(), " is too large for this solver on a GPU");
  const at::Tensor rows = filter_rows(problems.weights[0]);
  const EdgeProducts products = edge_products(stack, rows);
  const Results results{at::zeros({count, kernel, width}, problems.target.options()),
                        at::zeros({count, channels}, problems.target.options().dtype(at::kBool)),
                        at::zeros({count}, problems.begin.options()), at::zeros({count}, problems.target.options())};
  optimize_problems({problems.target.const_data_ptr<float>(), rows.const_data_ptr<float>(), stack.layers[0].bias,
                     products.gram.const_data_ptr<float>(), products.norms.const_data_ptr<double>(),
                     problems.begin.const_data_ptr<int64_t>(), problems.end.const_data_ptr<int64_t>(), settings,
                     problems.activation == "relu", static_cast<int>(channels), static_cast<int>(kernel),
                     static_cast<int>(width), results.optimum.data_ptr<float>(), results.gates.data_ptr<bool>(),
                     results.iterations.data_ptr<int64_t>(), results.residual.data_ptr<float>()},
                    count, stream);
  return results;
}

// The ascent, every problem with its own step: arrays are (B), (B, C) or (B, R, D).
class Ascent {
 public:
  Ascent(const ConvStack& stack, const CcpSettings& settings, const Problems& problems, void* stream)
      : stack_(stack),
        settings_(settings),
        problems_(problems),
        stream_(stream),
        half_(1 / (2 * settings.l2_weight)),
        exists_(existing(problems.begin, problems.end, 0, stack.receptive_field())),
        count_((problems.end - problems.begin).to(at::kDouble)),
        dense_(stack, problems) {
    if (stack.size() > 1) return;
    rows_ = filter_rows(problems.weights[0]);
    products_ = edge_products(stack, rows_);
    const int64_t center = stack.center();
    edge_ = problems.begin.clamp(0, center) * (stack.layers[0].kernel - center) +
            problems.end.clamp(center + 1, stack.layers[0].kernel) - center - 1;
    most_ = problems.target.neg().clamp_min(0) * (1 - stack.activation.slope);
  }

  Results run() {
    // X of all gates open is where the ascent starts.
    at::Tensor x = dense_.gradient_of_open_gates(problems_.target).mul(exists_).mul_(half_);
    Height height = measure(x);
    const at::Tensor& target = problems_.target;
    at::Tensor iterations = at::zeros_like(problems_.begin);
    at::Tensor residual = at::zeros({target.size(0)}, target.options().dtype(at::kDouble));
    at::Tensor kept = x, kept_residual = residual;
    at::Tensor climbs = at::ones({target.size(0)}, target.options().dtype(at::kBool)), risen = climbs;
    for (int64_t iteration = 1;; ++iteration) {
      iterations.add_(climbs);
      const Summit summit = look(x);
      // A step whose gain rounding hides counts only if it led nearer to a summit.
      const at::Tensor returns =
          climbs.logical_and(risen.logical_not()).logical_and(summit.distance.gt(kept_residual.mul(0.5)));
      x = at::where(returns.view({-1, 1, 1}), kept, x);
      residual = at::where(climbs, at::where(returns, kept_residual, summit.distance), residual);
      climbs = climbs.logical_and(returns.logical_not()).logical_and(residual.gt(settings_.tolerance));
      if (iteration >= settings_.max_iterations || !climbs.any().item<bool>()) break;
      const at::Tensor slack = height.size.mul(kRounding);
      at::Tensor taken = at::zeros_like(x), found = climbs.logical_not();
      Height reached = height;
      risen = at::zeros_like(climbs);
      for (double share = 1; share > kShortest && !found.all().item<bool>(); share /= 2) {
        const at::Tensor trial = share == 1 ? summit.x : x + (summit.x - x).mul_(share);
        const Height there = measure(trial);
        // The whole step may lose what rounding hides, a shortened one has to gain more than that.
        const at::Tensor higher = there.value.gt(height.value + slack);
        const at::Tensor good =
            (share == 1 ? there.value.ge(height.value - slack) : higher).logical_and(found.logical_not());
        taken = at::where(good.view({-1, 1, 1}), trial, taken);
        reached = {at::where(good, there.value, reached.value), at::where(good, there.size, reached.size)};
        risen = at::where(good, higher, risen);
        found = found.logical_or(good);
      }
      climbs = climbs.logical_and(found);
      kept = x;
      kept_residual = residual;
      x = at::where(climbs.view({-1, 1, 1}), taken, x);
      height = reached;
    }
    const at::Tensor gates = dense_.forward(x).gt(0).logical_and_(target.ne(0));
    return {x, gates, iterations, residual.to(at::kFloat)};
  }

 private:
  static constexpr double kShortest = 1e-4;  // of a step
  static constexpr double kRounding = 2e-7;  // of f, relative to its terms

  // f, and the size of the terms that rounding is relative to, in float64.
  struct Height {
    at::Tensor value, size;
  };
  struct Summit {
    at::Tensor x, distance;  // relative to the pull
  };

  Height measure(const at::Tensor& x) {
    const at::Tensor z = dense_.forward(x);
    const at::Tensor reached =
        at::where(z.gt(0), z, z.mul(stack_.activation.slope)).to(at::kDouble).mul_(problems_.target).sum(1);
    const at::Tensor total = units(x).sum(1).to(at::kDouble);
    const at::Tensor rest = total.square().sum(1).mul_(settings_.similarity_weight).div_(count_) -
                            x.to(at::kDouble).square().sum({1, 2}).mul_(settings_.l2_weight);
    return {reached + rest, reached.abs() + rest.abs()};
  }

  at::Tensor inverse_norms(const at::Tensor& x) const {
    const at::Tensor norms = x.norm(2, {2}, true);
    return at::where(norms.gt(0), norms.reciprocal(), at::zeros_like(norms));
  }
  at::Tensor units(const at::Tensor& x) const { return x * inverse_norms(x); }

  // The summit for the gates that dense_ holds, those of X, and how far it is.
  Summit look(const at::Tensor& x) {
    const at::Tensor z_here = dense_.forward(x);
    at::Tensor pull = dense_.gradient(problems_.target).mul(exists_);
    const at::Tensor inverse = inverse_norms(x), unit = x * inverse, total = unit.sum(1, true);
    const at::Tensor pair =
        at::where(count_.gt(1), count_.reciprocal().mul_(2 * settings_.similarity_weight), at::zeros_like(count_))
            .to(at::kFloat)
            .view({-1, 1, 1});
    const at::Tensor tilt = (total - (unit * total).sum(2, true) * unit).mul_(exists_).mul_(inverse).mul_(pair);
    at::Tensor summit = (pull + tilt).mul_(half_);
    if (stack_.size() == 1) {
      const at::Tensor held = at::where(z_here.gt(0), most_, at::zeros_like(most_));
      const at::Tensor y = held.to(at::kDouble), z = dense_.forward(summit).to(at::kDouble);
      const at::Tensor reach = at::maximum(x.flatten(1).norm(2, {1}), summit.flatten(1).norm(2, {1}));
      solve_boxes(
          {most_.const_data_ptr<float>(), products_.gram.const_data_ptr<float>(),
           products_.norms.const_data_ptr<double>(), edge_.const_data_ptr<int64_t>(), reach.const_data_ptr<float>(),
           half_, static_cast<int>(y.size(1)), y.data_ptr<double>(), z.data_ptr<double>()},
          y.size(0), stream_);
      const at::Tensor moved = at::mm(held - y.to(at::kFloat), rows_.flatten(1)).view(pull.sizes()).mul_(exists_);
      pull = pull + moved;
      summit = summit + moved.mul(half_);
    }
    const auto length = [](const at::Tensor& rows) { return rows.to(at::kDouble).square().sum({1, 2}).sqrt_(); };
    const at::Tensor off = length(summit - x), strength = length(pull).mul_(half_), here = length(x);
    const at::Tensor scale = at::where(strength.gt(0), strength, at::where(here.gt(0), here, off));
    return {summit, at::where(off.gt(0), off / scale, off)};
  }

  const ConvStack& stack_;
  const CcpSettings& settings_;
  const Problems& problems_;
  void* stream_;
  double half_;  // 1 / (2 lambda1)
  at::Tensor exists_, count_;
  DenseStack dense_;
  // Of the first layer.
  EdgeProducts products_;
  at::Tensor rows_, edge_, most_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> optimize_ccp(const at::Tensor& target,
                                                                        at::TensorList weights, at::TensorList biases,
                                                                        const at::Tensor& begin, const at::Tensor& end,
                                                                        c10::string_view activation,
                                                                        int64_t max_iterations, double tolerance,
                                                                        double l2_weight, double similarity_weight) {
  const CcpSettings settings{max_iterations, tolerance, l2_weight, similarity_weight};
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_ccp(problems, settings);
  check_same_device(target.device(), {begin, end}, "begin, end");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  const OnDevice on(target.device());
  const auto part = [&](const at::Tensor& rows, bool convex) {
    const at::Tensor own = target.index_select(0, rows), first = begin.index_select(0, rows),
                     last = end.index_select(0, rows);
    const Problems chosen{own, weights, biases, first, last, activation};
    return convex ? optimize_convex(stack, settings, chosen, on.stream())
                  : Ascent(stack, settings, chosen, on.stream()).run();
  };
  // What is linear, or a sum of relus that all pull, is convex; which problems are does not depend on the batch.
  const bool layer = stack.size() == 1;
  at::Tensor convex = at::zeros({target.size(0)}, target.options().dtype(at::kBool));
  if (layer && activation == "identity") convex.fill_(true);
  if (layer && activation == "relu") convex = target.ge(0).all(1);
  const at::Tensor ascending = convex.logical_not().nonzero().flatten();
  if (ascending.size(0) == 0 && layer) {
    const Results all = optimize_convex(stack, settings, problems, on.stream());
    return {all.optimum, all.gates, all.iterations, all.residual};
  }
  const at::Tensor rows = convex.nonzero().flatten();
  Results all = part(ascending, false);
  if (rows.size(0) == 0) return {all.optimum, all.gates, all.iterations, all.residual};
  const Results one = part(rows, true);
  const auto joined = [&](const at::Tensor& ascended, const at::Tensor& direct) {
    std::vector<int64_t> size = ascended.sizes().vec();
    size[0] = target.size(0);
    return at::zeros(size, ascended.options()).index_copy_(0, ascending, ascended).index_copy_(0, rows, direct);
  };
  return {joined(all.optimum, one.optimum), joined(all.gates, one.gates), joined(all.iterations, one.iterations),
          joined(all.residual, one.residual)};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("optimize_ccp", &optimize_ccp); }

}  // namespace fastinterp::cuda

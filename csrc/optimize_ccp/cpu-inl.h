// optimize_ccp's problems, one per thread at a time: the convex ones of a first layer by convex-inl.h, the others by
// the ascent of ascent-inl.h. Which one it is depends on the problem alone, so that no batch changes a result.
#if defined(FASTINTERP_OPTIMIZE_CCP_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_OPTIMIZE_CCP_INL_H
#undef FASTINTERP_OPTIMIZE_CCP_INL_H
#else
#define FASTINTERP_OPTIMIZE_CCP_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "../shared/float_buffer.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/packed_stack-inl.h"
#include "../shared/stack.h"
#include "ascent-inl.h"
#include "convex-inl.h"
#include "cpu.h"
#include "filter_products-inl.h"
#include "settings.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

static void optimize_problems(const ConvStack& stack, const CcpSettings& settings, const CcpBatch& batch) {
  const int64_t count = stack.size(), channels = stack.layers.back().out_channels;
  const float slope = stack.activation.slope;
  // What is linear, or a sum of relus that all pull, is convex.
  std::vector<bool> convex(batch.count);
  for (int64_t b = 0; b < batch.count; ++b) {
    const float* target = batch.target + b * channels;
    convex[b] = count == 1 &&
                (slope == 1 || (slope == 0 && std::all_of(target, target + channels, [](float a) { return a >= 0; })));
  }
  // Each kind has weights packed for itself, whatever else is in the batch.
  PackedStack rows, passes;
  EdgeProducts row_products, pass_products;
  for (int64_t b = 0; b < batch.count; ++b) {
    PackedStack& packed = convex[b] ? rows : passes;
    if (packed.empty())
      for (const ConvWeights& layer : stack.layers) packed.add(layer, {true, !convex[b], !convex[b]});
    if (count == 1)
      (convex[b] ? row_products : pass_products).add(packed.layers()[0], batch.begin[b], batch.end[b], slope != 1);
  }
  const int64_t field_rows = stack.receptive_field(), width = stack.layers[0].in_channels;

  at::parallel_for(0, batch.count, 1, [&](int64_t first, int64_t last) {
    FloatBuffer x(field_rows * round_up(width, kPanel)), scratch;
    std::vector<int64_t> open(channels);
    std::optional<StackAscent> ascent;
    if (!rows.empty()) scratch = FloatBuffer(ccp_scratch_floats(rows.layers()[0]));
    for (int64_t b = first; b < last; ++b) {
      CcpProblem problem{
          batch.target + b * channels, batch.begin[b], batch.end[b], x.data(), batch.gates + b * channels, 0, 0};
      if (convex[b]) {
        optimize_convex(rows.layers()[0], row_products.at(problem.begin, problem.end), settings, slope != 1, problem,
                        scratch.data(), open.data());
      } else {
        if (!ascent) ascent.emplace(passes.layers(), count, settings, stack.activation);
        ascent->run(problem, count == 1 ? pass_products.at(problem.begin, problem.end) : FilterProducts{});
      }
      const int64_t stride = (convex[b] ? rows : passes).layers()[0].in_stride;
      batch.iterations[b] = problem.iterations;
      batch.residual[b] = problem.residual;
      for (int64_t row = problem.begin; row < problem.end; ++row)
        std::copy_n(x.data() + row * stride, width, batch.optimum + (b * field_rows + row) * width);
    }
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

// Checks that every optimiser makes of its problems.
#pragma once

#include "../stack.h"

namespace fastinterp {

inline void check_problems(const ConvStack& stack, const at::Tensor& target, const at::Tensor& begin,
                           const at::Tensor& end) {
  const int64_t problems = target.size(0), channels = stack.layers.back().out_channels;
  const int64_t field = stack.field(stack.size() - 1), center = stack.center(stack.size() - 1);
  TORCH_CHECK_VALUE(target.size(1) == channels, "target: expected ", channels, " channels, got ", target.size(1));
  for (const at::Tensor* edge : {&begin, &end})
    TORCH_CHECK_VALUE(
        edge->scalar_type() == at::kLong && edge->dim() == 1 && edge->size(0) == problems && edge->is_contiguous(),
        "begin, end: expected contiguous int64 of shape (", problems, ")");
  const int64_t* begins = begin.const_data_ptr<int64_t>();
  const int64_t* ends = end.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < problems; ++b)
    TORCH_CHECK_VALUE(0 <= begins[b] && begins[b] <= center && center < ends[b] && ends[b] <= field,
                      "begin, end: problem ", b, " has rows [", begins[b], ", ", ends[b], "), expected rows of [0, ",
                      field, ") that hold the location itself, row ", center);
}

}  // namespace fastinterp

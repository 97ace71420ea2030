// What cosine_topk asks of its arguments, on both processors.
#pragma once

#include "../shared/check.h"

namespace fastinterp {

// Shapes and dtypes; how many words may be returned is for each processor to say.
inline void check_search(const at::Tensor& queries, const at::Tensor& vocabulary, const at::Tensor& inverse_norms) {
  check_floats(queries, "queries", 2);
  check_floats(vocabulary, "vocabulary", 2);
  check_floats(inverse_norms, "inverse_norms", 1);
  TORCH_CHECK_VALUE(vocabulary.size(1) == queries.size(1), "vocabulary: expected ", queries.size(1), " columns, got ",
                    vocabulary.size(1));
  TORCH_CHECK_VALUE(inverse_norms.size(0) == vocabulary.size(0), "inverse_norms: expected ", vocabulary.size(0),
                    " values, got ", inverse_norms.size(0));
}

}  // namespace fastinterp

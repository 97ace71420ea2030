// Compiles the file named by FASTINTERP_KERNEL once per instruction set, each copy in a namespace of its own
// (fastinterp::generic, ::avx2, ::avx512, and ::avx512vnni where FASTINTERP_WITH_VNNI is defined).
// FASTINTERP_DISPATCH(f) is the copy of `f` for this processor. Include once per translation unit, after every other
// header: what is included inside a region is compiled for that region's processor.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace fastinterp::generic {
#define FASTINTERP_LANES 4
#include "simd.inl"
#include FASTINTERP_KERNEL
#undef FASTINTERP_LANES
}  // namespace fastinterp::generic

#if defined(__x86_64__)
#if defined(__clang__)
#define FASTINTERP_REGION_END _Pragma("clang attribute pop")
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,popcnt"))), apply_to = function)
#else
#define FASTINTERP_REGION_END _Pragma("GCC pop_options")
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,popcnt")
#endif
namespace fastinterp::avx2 {
#define FASTINTERP_LANES 8
#include "simd.inl"
#include FASTINTERP_KERNEL
#undef FASTINTERP_LANES
}  // namespace fastinterp::avx2
FASTINTERP_REGION_END

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt")
#endif
namespace fastinterp::avx512 {
#define FASTINTERP_LANES 16
#include "simd.inl"
#include FASTINTERP_KERNEL
#undef FASTINTERP_LANES
}  // namespace fastinterp::avx512
FASTINTERP_REGION_END

#if defined(FASTINTERP_WITH_VNNI)
#define FASTINTERP_VNNI
#if defined(__clang__)
#pragma clang attribute push(                                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2,popcnt"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2,popcnt")
#endif
namespace fastinterp::avx512vnni {
#define FASTINTERP_LANES 16
#include "simd.inl"
#include FASTINTERP_KERNEL
#undef FASTINTERP_LANES
}  // namespace fastinterp::avx512vnni
FASTINTERP_REGION_END
#undef FASTINTERP_VNNI
#else
namespace fastinterp {
namespace avx512vnni = avx512;
}
#endif

#define FASTINTERP_DISPATCH(function)                                          \
  (::fastinterp::isa() == ::fastinterp::Isa::avx512vnni ? avx512vnni::function \
   : ::fastinterp::isa() == ::fastinterp::Isa::avx512   ? avx512::function     \
   : ::fastinterp::isa() == ::fastinterp::Isa::avx2     ? avx2::function       \
                                                        : generic::function)
#else
#define FASTINTERP_DISPATCH(function) (generic::function)
#endif

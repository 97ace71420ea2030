// One float vector of FASTINTERP_LANES lanes and the few operations that the inner loops need.
#if defined(FASTINTERP_SIMD_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_SIMD_INL_H
#undef FASTINTERP_SIMD_INL_H
#else
#define FASTINTERP_SIMD_INL_H
#endif

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa_region.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

constexpr int64_t kLanes = FASTINTERP_LANES;
typedef float Vec __attribute__((vector_size(FASTINTERP_LANES * sizeof(float))));
typedef int32_t VecMask __attribute__((vector_size(FASTINTERP_LANES * sizeof(int32_t))));

#define FASTINTERP_INLINE static inline __attribute__((always_inline))

FASTINTERP_INLINE Vec load(const float* address) {
  Vec value;
  std::memcpy(&value, address, sizeof(Vec));
  return value;
}

FASTINTERP_INLINE void store(float* address, Vec value) { std::memcpy(address, &value, sizeof(Vec)); }

FASTINTERP_INLINE Vec broadcast(float value) { return Vec{} + value; }

FASTINTERP_INLINE float sum(Vec value) {
  float lanes[FASTINTERP_LANES];
  store(lanes, value);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

// above(): one bit for each lane whose value is higher than the limit. load_partial(): the first `count` lanes, the
// others 0. Square root and reciprocal to within 2 units in the last place: the processor's estimate and one Newton
// step cost a third of the exact instructions, which would be most of an Adam update.
#if FASTINTERP_LANES == 16
FASTINTERP_INLINE Vec rsqrt_estimate(Vec value) { return (Vec)_mm512_rsqrt14_ps((__m512)value); }
FASTINTERP_INLINE Vec reciprocal_estimate(Vec value) { return (Vec)_mm512_rcp14_ps((__m512)value); }
FASTINTERP_INLINE Vec at_least(Vec value, Vec low) { return (Vec)_mm512_max_ps((__m512)value, (__m512)low); }
FASTINTERP_INLINE Vec at_most(Vec value, Vec high) { return (Vec)_mm512_min_ps((__m512)value, (__m512)high); }
FASTINTERP_INLINE uint32_t above(Vec value, Vec limit) {
  return _mm512_cmp_ps_mask((__m512)value, (__m512)limit, _CMP_GT_OQ);
}
FASTINTERP_INLINE Vec load_partial(const float* address, int64_t count) {
  return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), address);
}
#elif FASTINTERP_LANES == 8
FASTINTERP_INLINE Vec rsqrt_estimate(Vec value) { return (Vec)_mm256_rsqrt_ps((__m256)value); }
FASTINTERP_INLINE Vec reciprocal_estimate(Vec value) { return (Vec)_mm256_rcp_ps((__m256)value); }
FASTINTERP_INLINE Vec at_least(Vec value, Vec low) { return (Vec)_mm256_max_ps((__m256)value, (__m256)low); }
FASTINTERP_INLINE Vec at_most(Vec value, Vec high) { return (Vec)_mm256_min_ps((__m256)value, (__m256)high); }
FASTINTERP_INLINE uint32_t above(Vec value, Vec limit) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)value, (__m256)limit, _CMP_GT_OQ)));
}
FASTINTERP_INLINE Vec load_partial(const float* address, int64_t count) {
  const VecMask lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return (Vec)_mm256_maskload_ps(address, (__m256i)(lane < static_cast<int32_t>(count)));
}
#else
FASTINTERP_INLINE Vec rsqrt_estimate(Vec value) {
  for (int64_t lane = 0; lane < kLanes; ++lane) value[lane] = 1.0f / std::sqrt(value[lane]);
  return value;
}
FASTINTERP_INLINE Vec reciprocal_estimate(Vec value) { return 1.0f / value; }
FASTINTERP_INLINE Vec at_least(Vec value, Vec low) { return value > low ? value : low; }
FASTINTERP_INLINE Vec at_most(Vec value, Vec high) { return value < high ? value : high; }
FASTINTERP_INLINE uint32_t above(Vec value, Vec limit) {
  uint32_t bits = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) bits |= static_cast<uint32_t>(value[lane] > limit[lane]) << lane;
  return bits;
}
FASTINTERP_INLINE Vec load_partial(const float* address, int64_t count) {
  Vec value{};
  for (int64_t lane = 0; lane < count; ++lane) value[lane] = address[lane];
  return value;
}
#endif

FASTINTERP_INLINE Vec square_root(Vec value) {
  // The floor keeps 0 * inf out of the product; below it the root is under 1.1e-19, far below any Adam epsilon.
  const Vec floored = at_least(value, broadcast(FLT_MIN));
  const Vec estimate = rsqrt_estimate(floored);
  return value * (estimate * (1.5f - 0.5f * floored * estimate * estimate));
}

FASTINTERP_INLINE Vec reciprocal(Vec value) {
  const Vec estimate = reciprocal_estimate(value);
  return estimate * (2.0f - value * estimate);
}

static inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// x . y over `length` floats, a multiple of kLanes. Four partial sums hide the latency of the additions.
FASTINTERP_INLINE float dot(const float* x, const float* y, int64_t length) {
  Vec part0{}, part1{}, part2{}, part3{};
  int64_t i = 0;
  for (; i + 4 * kLanes <= length; i += 4 * kLanes) {
    part0 += load(x + i) * load(y + i);
    part1 += load(x + i + kLanes) * load(y + i + kLanes);
    part2 += load(x + i + 2 * kLanes) * load(y + i + 2 * kLanes);
    part3 += load(x + i + 3 * kLanes) * load(y + i + 3 * kLanes);
  }
  for (; i < length; i += kLanes) part0 += load(x + i) * load(y + i);
  return sum((part0 + part1) + (part2 + part3));
}

// x . y and x . z in one pass over x, which comes from further away than the others.
FASTINTERP_INLINE void dot_pair(const float* x, const float* y, const float* z, int64_t length, float* with_y,
                                float* with_z) {
  Vec y0{}, y1{}, z0{}, z1{};
  int64_t i = 0;
  for (; i + 2 * kLanes <= length; i += 2 * kLanes) {
    const Vec x0 = load(x + i), x1 = load(x + i + kLanes);
    y0 += x0 * load(y + i);
    y1 += x1 * load(y + i + kLanes);
    z0 += x0 * load(z + i);
    z1 += x1 * load(z + i + kLanes);
  }
  for (; i < length; i += kLanes) {
    y0 += load(x + i) * load(y + i);
    z0 += load(x + i) * load(z + i);
  }
  *with_y = sum(y0 + y1);
  *with_z = sum(z0 + z1);
}

// y += scale * x over `length` floats, a multiple of kLanes.
FASTINTERP_INLINE void add_scaled(float* y, float scale, const float* x, int64_t length) {
  for (int64_t i = 0; i < length; i += kLanes) store(y + i, load(y + i) + scale * load(x + i));
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif

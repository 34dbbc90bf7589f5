// As many floats at a time as a register holds, sixteen with AVX-512, eight with AVX2, elsewhere (NEON, SSE) four, in the
// vector types of GCC and Clang, and the functions that gates are made of.
#ifndef JAXRNN_VECTOR_H_
#define JAXRNN_VECTOR_H_

#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace jaxrnn {

#ifdef __AVX512F__
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else  // longer ones than a register's would be kept in memory
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(sizeof(float) * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(sizeof(float) * kLanes)));
typedef float UnalignedVec __attribute__((vector_size(sizeof(float) * kLanes), aligned(sizeof(float)), may_alias));

inline Vec Load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
inline void Store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
inline Vec Splat(float value) { return value - Vec{}; }

// Keeps in a register what several instructions read. Compilers may have each of them read it from memory again, which
// takes longer than all the rest where it is still on its way from a cache that is further off.
inline void Hold(Vec& value) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(value));
#elif defined(__SSE2__)
  __asm__("" : "+x"(value));
#elif defined(__aarch64__)
  __asm__("" : "+w"(value));
#else
  (void)value;
#endif
}

// The first `count` lanes, at least 1, all if it is kLanes or more; the others are read as 0 and not written.
#if defined(__AVX512F__)
inline Vec LoadSome(const float* from, int count) {
  if (count >= kLanes) return Load(from);
  return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from));
}
inline void StoreSome(float* to, Vec value, int count) {
  if (count >= kLanes) return Store(to, value);
  _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), reinterpret_cast<__m512>(value));
}
// x, or the nearer limit; NaN stays NaN, since these instructions return their second operand then.
inline Vec Clamp(Vec x, float limit) {
  const __m512 least = _mm512_set1_ps(-limit), most = _mm512_set1_ps(limit);
  return reinterpret_cast<Vec>(_mm512_max_ps(least, _mm512_min_ps(most, reinterpret_cast<__m512>(x))));
}
#elif defined(__AVX2__)
inline __m256i FirstLanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec LoadSome(const float* from, int count) {
  if (count >= kLanes) return Load(from);
  return reinterpret_cast<Vec>(_mm256_maskload_ps(from, FirstLanes(count)));
}
inline void StoreSome(float* to, Vec value, int count) {
  if (count >= kLanes) return Store(to, value);
  _mm256_maskstore_ps(to, FirstLanes(count), reinterpret_cast<__m256>(value));
}
inline Vec Clamp(Vec x, float limit) {
  const __m256 least = _mm256_set1_ps(-limit), most = _mm256_set1_ps(limit);
  return reinterpret_cast<Vec>(_mm256_max_ps(least, _mm256_min_ps(most, reinterpret_cast<__m256>(x))));
}
#else
// Every lane is asked for: a loop over `count` would be made a call of memcpy, around which all registers are saved.
inline Vec LoadSome(const float* from, int count) {
  if (count >= kLanes) return Load(from);
  Vec value{};
  for (int i = 0; i < kLanes; ++i) value[i] = i < count ? from[i] : 0.0f;
  return value;
}
inline void StoreSome(float* to, Vec value, int count) {
  if (count >= kLanes) return Store(to, value);
  for (int i = 0; i < kLanes; ++i) {
    if (i < count) to[i] = value[i];
  }
}
inline Vec Clamp(Vec x, float limit) {
  x = x > limit ? Splat(limit) : x;  // comparisons that NaN passes
  return x < -limit ? Splat(-limit) : x;
}
#endif
inline void CopySome(float* to, const float* from, int count) {
  for (int i = 0; i < count; i += kLanes) StoreSome(to + i, LoadSome(from + i, count - i), count - i);
}

// e^x - 1 with a relative error of some 1e-7, also near 0. NaN stays NaN. |x| beyond 87 counts as 87.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r - 1 = r + r^2 q(r), q a polynomial through the Chebyshev nodes (relative
// error 2.4e-8); e^x - 1 = 2^n (e^r - 1) + (2^n - 1).
inline Vec Expm1(Vec x) {
  constexpr float kLimit = 87.0f, kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer
  x = Clamp(x, kLimit);
  Vec n = x * kLog2E + kRound;
  const IntVec bits = reinterpret_cast<IntVec>(n);
  n -= kRound;
  const Vec r = (x - n * kLn2High) - n * kLn2Low;
  Vec q = 0.00139261836f * r + 0.00836317905f;
  q = q * r + 0.0416665546f;
  q = q * r + 0.16666577f;
  q = q * r + 0.5f;
  const Vec p = r * r * q + r;
  const Vec scale = reinterpret_cast<Vec>((bits << 23) + 0x3f800000);
  return scale * p + (scale - 1.0f);
}

inline Vec Sigmoid(Vec x) { return 1.0f / (2.0f + Expm1(-x)); }

inline Vec Tanh(Vec x) {
  const Vec e = Expm1(x + x);
  return e / (e + 2.0f);
}

}  // namespace jaxrnn

#endif  // JAXRNN_VECTOR_H_

// tanh and the logistic sigmoid of vectors.
#ifndef JAXRNN_ACTIVATIONS_H_
#define JAXRNN_ACTIVATIONS_H_

#include "vectors.h"

namespace jaxrnn {
namespace VARIANT {

// Horner's rule for a polynomial in z, the coefficient of the highest power first.
template <class T, Size N>
ALWAYS_INLINE Vec<T> polynomial(Vec<T> z, const T (&coefficients)[N]) {
  Vec<T> sum = broadcast(coefficients[0]);
#pragma GCC unroll 8
  for (Size i = 1; i < N; i++) sum = sum * z + coefficients[i];
  return sum;
}

// tanh in float32: x P(x^2) / Q(x^2), within 5 units in the last place. The polynomials
// minimise the largest relative error on [0, 9.02], which is 2.2e-8; beyond, tanh rounds
// to 1. All coefficients are positive, so nothing cancels.
ALWAYS_INLINE Vec<float> tanh(Vec<float> x) {
  static constexpr float kP[] = {1.331772470081205e-08f, 2.0582541765179485e-05f,
                                 3.4939798060804605e-03f, 1.3379673659801483e-01f, 1.0f};
  static constexpr float kQ[] = {7.761476013001811e-07f, 3.283001424279064e-04f,
                                 2.587086893618107e-02f, 4.671298861503601e-01f, 1.0f};
  x = clip(x, 9.02f);
  const Vec<float> z = x * x;
  return clip(x * polynomial(z, kP) / polynomial(z, kQ), 1.0f);
}

// exp in float64 for |x| < 700, after Cephes (Moshier, 1984-2000): with n the integer
// nearest to x / log(2) and r = x - n log(2), it is 2^n (1 + 2 r P / (Q - r P)).
ALWAYS_INLINE Vec<double> exp(Vec<double> x) {
  static constexpr double kP[] = {1.26177193074810590878e-4, 3.02994407707441961300e-2,
                                  9.99999999999999999910e-1};
  static constexpr double kQ[] = {3.00198505138664455042e-6, 2.52448340349684104192e-3,
                                  2.27265548208155028766e-1, 2.00000000000000000005e0};
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds
  const Vec<double> shifted = x * 1.4426950408889634074 + kRound;
  const Vec<double> n = shifted - kRound;
  const Vec<double> r = x - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6;
  const Vec<double> z = r * r;
  const Vec<double> rp = r * polynomial(z, kP);
  const Vec<double> e = 1.0 + 2.0 * rp / (polynomial(z, kQ) - rp);
  // The low bits of `shifted` hold n; moved to the exponent they multiply by 2^n.
  using Bits = VectorOf<double>::Bits;
  Bits bits, scale;
  std::memcpy(&bits, &shifted, sizeof bits);
  std::memcpy(&scale, &e, sizeof scale);
  scale += bits << 52;
  Vec<double> result;
  std::memcpy(&result, &scale, sizeof result);
  return result;
}

// tanh in float64, after Cephes: a rational function near zero, else by exp.
ALWAYS_INLINE Vec<double> tanh(Vec<double> x) {
  static constexpr double kP[] = {-9.64399179425052238628e-1, -9.92877231001918586564e1,
                                  -1.61468768441708447952e3};
  static constexpr double kQ[] = {1.0, 1.12811678491632931402e2, 2.23548839060100448583e3,
                                  4.84406305325125486048e3};
  x = clip(x, 20.0);
  const Vec<double> z = x * x;
  const Vec<double> near = x + x * z * polynomial(z, kP) / polynomial(z, kQ);
  const Vec<double> far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
  const Vec<double> t = z < 0.390625 ? near : far;  // |x| < 0.625
  return x == x ? t : x;                            // exp turns some NaNs into numbers
}

template <class V>
ALWAYS_INLINE V sigmoid(V x) {
  return 0.5f * tanh(0.5f * x) + 0.5f;
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_ACTIVATIONS_H_

// Vectors of numbers, by the vector extensions of GCC and Clang: one source for every
// instruction set. Each variant of the kernels is this source, compiled with its own
// namespace (VARIANT), vector size in bytes (VECTOR_BYTES) and flags.
#ifndef JAXRNN_VECTORS_H_
#define JAXRNN_VECTORS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef VARIANT
#error "define VARIANT and VECTOR_BYTES, see build.py"
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace jaxrnn {
namespace VARIANT {

using Size = std::size_t;

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(VECTOR_BYTES)));
  typedef std::int32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(VECTOR_BYTES)));
  typedef std::int64_t Bits __attribute__((vector_size(VECTOR_BYTES)));
};

template <class T>
using Vec = typename VectorOf<T>::Type;

// Numbers in a vector.
template <class T>
constexpr Size kLanes = VECTOR_BYTES / sizeof(T);

template <class T>
ALWAYS_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
ALWAYS_INLINE void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

// Load the first `count` numbers of a vector, the others being zero.
template <class T>
ALWAYS_INLINE Vec<T> load_first(const T* from, Size count) {
  if (count >= kLanes<T>) return load(from);
  Vec<T> v = {};
  std::memcpy(&v, from, count * sizeof(T));
  return v;
}

template <class T>
ALWAYS_INLINE void store_first(T* to, Vec<T> v, Size count) {
  if (count >= kLanes<T>) return store(to, v);
  std::memcpy(to, &v, count * sizeof(T));
}

template <class T>
ALWAYS_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // and not x + 0, which loses the sign of -0
}

// Bound x on both sides; NaN stays NaN, as every comparison with it is false.
template <class T>
ALWAYS_INLINE Vec<T> clip(Vec<T> x, T bound) {
  const Vec<T> most = broadcast(bound), least = broadcast(-bound);
  x = x > most ? most : x;
  return x < least ? least : x;
}

constexpr Size round_up(Size n, Size multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_VECTORS_H_

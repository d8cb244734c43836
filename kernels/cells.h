// The gates of each cell, forward and backward, for one vector of units of one row. They
// read like the equations in the module of the cell, jaxrnn/_cells/<cell>.py.
//
// A step gets two parts of each of its `kGates` pre-activations: `ax` from the input, with
// the bias, and `ah` from the state, with the second bias where the cell has one. It
// fills `kept`, the `kKept` values that the backward pass reads again. That gets them with
// the state before the step and the output after it, where the cell reads these, and fills
// `da`, and `da_h` where the cotangents of the two parts differ. State is h, and c for
// cells with two states.
#ifndef JAXRNN_CELLS_H_
#define JAXRNN_CELLS_H_

#include "activations.h"
#include "problem.h"

namespace jaxrnn {
namespace VARIANT {

template <class V>
struct State {
  V h, c;
};

struct Lstm {
  static constexpr Size kGates = 4, kStates = 2, kKept = 5;
  static constexpr bool kTwoBiases = false, kReadsPrevious = false, kReadsOutput = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(const Options& options, const V* ax, const V* ah,
                                        State<V> prev, V* kept) {
    const V i = sigmoid(ax[0] + ah[0]), f = sigmoid(ax[1] + ah[1]);
    const V g = tanh(ax[2] + ah[2]), o = sigmoid(ax[3] + ah[3]);
    kept[0] = i, kept[1] = f, kept[2] = g, kept[3] = o, kept[4] = prev.c;
    V c = f * prev.c + i * g;
    if (options.clip > 0) c = clip(c, T(options.clip));
    return {o * tanh(c), c};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(const Options& options, const V* kept, V, V,
                                         State<V> d, V* da, V*) {
    const V i = kept[0], f = kept[1], g = kept[2], o = kept[3], c_prev = kept[4];
    V c = f * c_prev + i * g;
    const V unclipped = c;
    if (options.clip > 0) c = clip(c, T(options.clip));
    const V m = tanh(c);
    V dc = d.c + d.h * o * (T(1) - m * m);
    if (options.clip > 0) {
      const V most = broadcast(T(options.clip)), zero = {};
      dc = (unclipped < most) & (unclipped > -most) ? dc : zero;
    }
    da[0] = dc * g * i * (T(1) - i);
    da[1] = dc * c_prev * f * (T(1) - f);
    da[2] = dc * i * (T(1) - g * g);
    da[3] = d.h * m * o * (T(1) - o);
    return {V{}, dc * f};
  }
};

struct Gru {
  static constexpr Size kGates = 3, kStates = 1, kKept = 4;
  static constexpr bool kTwoBiases = true, kReadsPrevious = true, kReadsOutput = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(const Options&, const V* ax, const V* ah,
                                        State<V> prev, V* kept) {
    const V r = sigmoid(ax[0] + ah[0]), z = sigmoid(ax[1] + ah[1]);
    const V n = tanh(ax[2] + r * ah[2]);
    kept[0] = r, kept[1] = z, kept[2] = n, kept[3] = ah[2];
    return {(T(1) - z) * n + z * prev.h, V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(const Options&, const V* kept, V h_prev, V,
                                         State<V> d, V* da, V* da_h) {
    const V r = kept[0], z = kept[1], n = kept[2], a_h_n = kept[3];
    da[2] = d.h * (T(1) - z) * (T(1) - n * n);
    da[1] = d.h * (h_prev - n) * z * (T(1) - z);
    da[0] = da[2] * a_h_n * r * (T(1) - r);
    da_h[0] = da[0], da_h[1] = da[1], da_h[2] = r * da[2];
    return {d.h * z, V{}};
  }
};

// The activations of elman, with their derivative in terms of h.
struct Tanh {
  template <class T>
  static ALWAYS_INLINE Vec<T> apply(Vec<T> a) {
    return tanh(a);
  }
  template <class T>
  static ALWAYS_INLINE Vec<T> derivative(Vec<T> h) {
    return T(1) - h * h;
  }
};
struct Relu {
  template <class T>
  static ALWAYS_INLINE Vec<T> apply(Vec<T> a) {
    const Vec<T> zero = {};
    return a < zero ? zero : a;  // NaN stays NaN
  }
  template <class T>
  static ALWAYS_INLINE Vec<T> derivative(Vec<T> h) {
    const Vec<T> zero = {}, one = broadcast(T(1));
    return h > zero ? one : zero;
  }
};
struct LeakyRelu {
  template <class T>
  static ALWAYS_INLINE Vec<T> apply(Vec<T> a) {
    const Vec<T> zero = {};
    return a < zero ? T(0.01) * a : a;
  }
  template <class T>
  static ALWAYS_INLINE Vec<T> derivative(Vec<T> h) {
    const Vec<T> zero = {}, one = broadcast(T(1)), slope = broadcast(T(0.01));
    return h >= zero ? one : slope;
  }
};
struct Identity {
  template <class T>
  static ALWAYS_INLINE Vec<T> apply(Vec<T> a) {
    return a;
  }
  template <class T>
  static ALWAYS_INLINE Vec<T> derivative(Vec<T>) {
    return broadcast(T(1));
  }
};

template <class Activation>
struct Elman {
  static constexpr Size kGates = 1, kStates = 1, kKept = 0;
  static constexpr bool kTwoBiases = false, kReadsPrevious = false, kReadsOutput = true;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(const Options&, const V* ax, const V* ah, State<V>,
                                        V*) {
    return {Activation::template apply<T>(ax[0] + ah[0]), V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(const Options&, const V*, V, V h, State<V> d,
                                         V* da, V*) {
    da[0] = Activation::template derivative<T>(h) * d.h;
    return {V{}, V{}};
  }
};

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_CELLS_H_

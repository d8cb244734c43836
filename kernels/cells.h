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
  static constexpr bool kTwoProducts = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double option, const V* ax, const V* ah,
                                        State<V> prev, V, V* kept) {
    const V i = sigmoid(ax[0] + ah[0]), f = sigmoid(ax[1] + ah[1]);
    const V g = tanh(ax[2] + ah[2]), o = sigmoid(ax[3] + ah[3]);
    kept[0] = i, kept[1] = f, kept[2] = g, kept[3] = o, kept[4] = prev.c;
    V c = f * prev.c + i * g;
    if (option > 0) c = clip(c, T(option));
    return {o * tanh(c), c};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(double option, const V* kept, V, V, State<V> d,
                                         V* da, V*) {
    const V i = kept[0], f = kept[1], g = kept[2], o = kept[3], c_prev = kept[4];
    V c = f * c_prev + i * g;
    const V unclipped = c;
    if (option > 0) c = clip(c, T(option));
    const V m = tanh(c);
    V dc = d.c + d.h * o * (T(1) - m * m);
    if (option > 0) {
      const V most = broadcast(T(option)), zero = {};
      dc = ((unclipped < most) & (unclipped > -most)) ? dc : zero;
    }
    da[0] = dc * g * i * (T(1) - i);
    da[1] = dc * c_prev * f * (T(1) - f);
    da[2] = dc * i * (T(1) - g * g);
    da[3] = d.h * m * o * (T(1) - o);
    return {V{}, dc * f};
  }
};

struct CoupledLstm {
  static constexpr Size kGates = 3, kStates = 2, kKept = 4;
  static constexpr bool kTwoBiases = false, kReadsPrevious = false, kReadsOutput = false;
  static constexpr bool kTwoProducts = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double, const V* ax, const V* ah, State<V> prev, V,
                                        V* kept) {
    const V f = sigmoid(ax[0] + ah[0]), g = tanh(ax[1] + ah[1]), o = sigmoid(ax[2] + ah[2]);
    kept[0] = f, kept[1] = g, kept[2] = o, kept[3] = prev.c;
    const V c = f * prev.c + (T(1) - f) * g;
    return {o * tanh(c), c};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(double, const V* kept, V, V, State<V> d, V* da,
                                         V*) {
    const V f = kept[0], g = kept[1], o = kept[2], c_prev = kept[3];
    const V m = tanh(f * c_prev + (T(1) - f) * g);
    const V dc = d.c + d.h * o * (T(1) - m * m);
    da[0] = dc * (c_prev - g) * f * (T(1) - f);
    da[1] = dc * (T(1) - f) * (T(1) - g * g);
    da[2] = d.h * m * o * (T(1) - o);
    return {V{}, dc * f};
  }
};

struct Janet {
  static constexpr Size kGates = 2, kStates = 1, kKept = 3;
  static constexpr bool kTwoBiases = false, kReadsPrevious = true, kReadsOutput = false;
  static constexpr bool kTwoProducts = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double beta, const V* ax, const V* ah,
                                        State<V> prev, V, V* kept) {
    const V a_f = ax[0] + ah[0];
    const V f = sigmoid(a_f), i = sigmoid(T(beta) - a_f), g = tanh(ax[1] + ah[1]);
    kept[0] = f, kept[1] = i, kept[2] = g;
    return {f * prev.h + i * g, V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(double, const V* kept, V h_prev, V, State<V> d,
                                         V* da, V*) {
    const V f = kept[0], i = kept[1], g = kept[2];
    da[0] = d.h * (h_prev * f * (T(1) - f) - g * i * (T(1) - i));
    da[1] = d.h * i * (T(1) - g * g);
    return {d.h * f, V{}};
  }
};

struct Gru {
  static constexpr Size kGates = 3, kStates = 1, kKept = 4;
  static constexpr bool kTwoBiases = true, kReadsPrevious = true, kReadsOutput = false;
  static constexpr bool kTwoProducts = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double, const V* ax, const V* ah, State<V> prev, V,
                                        V* kept) {
    const V r = sigmoid(ax[0] + ah[0]), z = sigmoid(ax[1] + ah[1]);
    const V n = tanh(ax[2] + r * ah[2]);
    kept[0] = r, kept[1] = z, kept[2] = n, kept[3] = ah[2];
    return {(T(1) - z) * n + z * prev.h, V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(double, const V* kept, V h_prev, V, State<V> d,
                                         V* da, V* da_h) {
    const V r = kept[0], z = kept[1], n = kept[2], a_h_n = kept[3];
    da[2] = d.h * (T(1) - z) * (T(1) - n * n);
    da[1] = d.h * (h_prev - n) * z * (T(1) - z);
    da[0] = da[2] * a_h_n * r * (T(1) - r);
    da_h[0] = da[0], da_h[1] = da[1], da_h[2] = r * da[2];
    return {d.h * z, V{}};
  }
};

// Cells with two recurrent products: the last gate, the candidate, reads q instead of h.
// `gates` computes the others and q, and leaves one of them, z, to `forward`. Backward,
// `candidate` comes first and `backward` gets the cotangent of q.
struct GruBefore {
  static constexpr Size kGates = 3, kStates = 1, kKept = 3;
  static constexpr bool kTwoBiases = true, kReadsPrevious = true, kReadsOutput = false;
  static constexpr bool kTwoProducts = true;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V gates(const V* ax, const V* ah, V h_prev, V* kept, V* z) {
    const V r = kept[0] = sigmoid(ax[0] + ah[0]);
    *z = kept[1] = sigmoid(ax[1] + ah[1]);
    return r * h_prev;
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double, const V* ax, const V* ah, State<V> prev,
                                        V z, V* kept) {
    const V n = kept[2] = tanh(ax[2] + ah[2]);
    return {(T(1) - z) * n + z * prev.h, V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V candidate(const V* kept, V h_prev, V dh, V* q) {
    const V r = kept[0], z = kept[1], n = kept[2];
    *q = r * h_prev;
    return dh * (T(1) - z) * (T(1) - n * n);
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V backward(const V* kept, V h_prev, V dh, V dq, V* da) {
    const V r = kept[0], z = kept[1], n = kept[2];
    da[0] = dq * h_prev * r * (T(1) - r);
    da[1] = dh * (h_prev - n) * z * (T(1) - z);
    return dh * z + dq * r;
  }
};

struct Mgu {
  static constexpr Size kGates = 2, kStates = 1, kKept = 2;
  static constexpr bool kTwoBiases = false, kReadsPrevious = true, kReadsOutput = false;
  static constexpr bool kTwoProducts = true;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V gates(const V* ax, const V* ah, V h_prev, V* kept, V* z) {
    const V f = *z = kept[0] = sigmoid(ax[0] + ah[0]);
    return f * h_prev;
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double, const V* ax, const V* ah, State<V> prev,
                                        V f, V* kept) {
    const V n = kept[1] = tanh(ax[1] + ah[1]);
    return {(T(1) - f) * prev.h + f * n, V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V candidate(const V* kept, V h_prev, V dh, V* q) {
    const V f = kept[0], n = kept[1];
    *q = f * h_prev;
    return dh * f * (T(1) - n * n);
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE V backward(const V* kept, V h_prev, V dh, V dq, V* da) {
    const V f = kept[0], n = kept[1];
    da[0] = (dh * (n - h_prev) + dq * h_prev) * f * (T(1) - f);
    return dh * (T(1) - f) + dq * f;
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
  static constexpr bool kTwoProducts = false;

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> forward(double, const V* ax, const V* ah, State<V>, V, V*) {
    return {Activation::template apply<T>(ax[0] + ah[0]), V{}};
  }

  template <class T, class V = Vec<T>>
  static ALWAYS_INLINE State<V> backward(double, const V*, V, V h, State<V> d, V* da, V*) {
    da[0] = Activation::template derivative<T>(h) * d.h;
    return {V{}, V{}};
  }
};

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_CELLS_H_

// What a run over time consists of: sizes, options and arrays. All variants share it.
#ifndef JAXRNN_PROBLEM_H_
#define JAXRNN_PROBLEM_H_

#include <cstddef>
#include <functional>

namespace jaxrnn {

using Size = std::size_t;

// Arrays are contiguous, the last axis being the fastest. A null pointer stands for an
// array that the run does not have.
template <class T>
struct Problem {
  Size steps, batch, inputs, units;  // T, B, I, H
  bool reverse;                      // take the steps from the last to the first
  double option;  // an argument of the cell: clip of lstm (0: none), beta of janet
  const T* xs;    // (T, B, I)
  const T *w_x, *w_h, *b, *b_h;  // (I, G H), (H, G H), (G H), (G H)
  const T *h_first, *c_first;    // (B, H), before the first step taken
  const T *h_fresh, *c_fresh;    // (B, H), what a reset restores
  const bool *mask, *resets;     // (T, B), in the order of time
};

template <class T>
struct Results {
  T* ys;               // (T, B, H)
  T *h_last, *c_last;  // (B, H)
  T* kept;             // (T, B, kept_size), or null
};

template <class T>
struct Cotangents {
  const T *ys, *kept;          // results of the forward pass
  const T* dys;                // (T, B, H)
  const T *dh_last, *dc_last;  // (B, H)
};

template <class T>
struct Gradients {
  T *dxs, *dw_x, *dw_h, *db, *db_h;
  T *dh_first, *dc_first, *dh_fresh, *dc_fresh;
};

class Threads {
 public:
  virtual ~Threads() = default;
  virtual Size count() const = 0;
  // Call task(n) for n = 0, 1, ... count - 1, each on any thread.
  virtual void for_each(Size count, const std::function<void(Size)>& task) = 0;
  // Call task(member, members) for each member on a thread of its own, all at the same
  // time, so that they may wait for each other. There are at most `most` members; fewer
  // if threads are busy.
  virtual void together(Size most, const std::function<void(Size, Size)>& task) = 0;
};

// Numbers in a cache line, which is as long as the longest vector.
template <class T>
constexpr Size kLine = 64 / sizeof(T);

// What a run keeps of a step and batch entry has this many numbers for each of its fields.
template <class T>
constexpr Size padded_units(Size units) {
  return (units + kLine<T> - 1) / kLine<T> * kLine<T>;
}

// The loops of one cell, in one variant.
template <class T>
struct Loops {
  const char* cell;
  Size gates, states, kept;
  void (*forward)(const Problem<T>&, const Results<T>&, Threads&);
  void (*backward)(const Problem<T>&, const Cotangents<T>&, const Gradients<T>&, Threads&);
};

}  // namespace jaxrnn

#endif  // JAXRNN_PROBLEM_H_

// The loop over time of any cell of cells.h, forward and backward.
//
// Time is cut into chunks. For a chunk, one product projects the inputs, and one product
// for each weight adds to its gradient. What such a product reads and writes fits into the
// caches of one core.
//
// Work is divided among threads in one of two ways. Batch entries ("rows") are
// independent, so each thread takes its own rows through all steps, without waiting for
// another. If the weights are large and the rows few, a thread would spend its time on
// reading weights; then each thread takes its own units for all rows, and all wait for
// each other at each step. A *team* is the threads that share rows: several teams of one
// member, or one team of several.
//
// A mask leaves out rows at some steps. So the rows of a chunk are a list of places (step,
// row), in the order of the steps, that holds the unmasked ones only; all products and
// gates go through that list. Where a row's state is, is a pointer: to the output of its
// last unmasked step, to the first state, or to the fresh one after a reset.
#ifndef JAXRNN_LOOP_H_
#define JAXRNN_LOOP_H_

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "cells.h"
#include "problem.h"
#include "product.h"

namespace jaxrnn {
namespace VARIANT {

// Memory that begins at a cache line. Nothing is written to it before its first use, so
// the thread that uses it gets it from the operating system.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Size count) {
    const Size bytes = count * sizeof(T) + 1;
    const Size alignment = bytes < kHuge ? 64 : kHuge;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, round_up(bytes, alignment)));
    if (data_ == nullptr) throw std::bad_alloc();
    if (bytes >= kHuge) madvise(data_, round_up(bytes, alignment), MADV_HUGEPAGE);
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  operator T*() const { return data_; }

 private:
  static constexpr Size kHuge = 2 * 1024 * 1024;  // a large page: fewer to fetch and find
  T* data_ = nullptr;
};

// Where the members of a team wait for each other.
class Barrier {
 public:
  void wait(Size members) {
    if (members == 1) return;
    const Size turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (Size tries = 0; turn_.load(std::memory_order_acquire) == turn; tries++) {
      if (tries > 4000) std::this_thread::yield();
    }
  }

 private:
  std::atomic<Size> arrived_{0}, turn_{0};
};

// The columns of a matrix, as vectors, cut into panels of at most `step` of them.
template <class T>
struct Panels {
  Size total, step;

  // The first panel of a member.
  Size first(Size member, Size members) const { return count() * member / members; }

  Size count() const { return (total + step - 1) / step; }
  Size vectors(Size panel) const { return std::min(step, total - panel * step); }
  Size length(Size panel) const { return vectors(panel) * kLanes<T>; }
  Size width() const { return total * kLanes<T>; }
  // Where a panel begins in a packed matrix of `rows` rows.
  Size begin(Size panel, Size rows) const { return panel * step * kLanes<T> * rows; }
};

// What the loops need to know of a cell.
struct Traits {
  Size gates, states, kept;
  bool two_biases, reads_previous;
};

template <class Cell>
constexpr Traits traits() {
  return {Cell::kGates, Cell::kStates, Cell::kKept, Cell::kTwoBiases, Cell::kReadsPrevious};
}

// Sizes that follow from a problem. The columns of a gated matrix (., G H) are packed in
// the order (vector of units, gate, lane), so that the gates of a unit are in one panel.
template <class T>
struct Layout {
  Layout(const Problem<T>& problem, const Traits& cell)
      : cell(cell),
        inputs(problem.inputs),
        units(problem.units),
        unit_vectors((units + kLanes<T> - 1) / kLanes<T>),
        padded(unit_vectors * kLanes<T>),
        per_panel(std::max<Size>(1, kMaxVectors / cell.gates)),
        kept(cell.kept * padded_units<T>(units)),
        gates{unit_vectors * cell.gates, per_panel * cell.gates},
        input{(inputs + kLanes<T> - 1) / kLanes<T>, kMaxVectors} {}

  // Units of a vector that exist.
  Size present(Size vector) const {
    return std::min(kLanes<T>, units - vector * kLanes<T>);
  }

  const Traits cell;
  const Size inputs, units;
  const Size unit_vectors, padded;  // units as vectors, and their lanes
  const Size per_panel;             // vectors of units in a panel of the gates
  const Size kept;                  // numbers kept of a place
  const Panels<T> gates, input;
};

// Pack one panel of W (rows, G H).
template <class T>
void pack_gates(const Layout<T>& layout, const T* w, Size rows, Size panel, T* packed) {
  constexpr Size lanes = kLanes<T>;
  const Size gates = layout.cell.gates;
  const Size first = panel * layout.gates.step, vectors = layout.gates.vectors(panel);
  packed += layout.gates.begin(panel, rows);
  for (Size k = 0; k < rows; k++) {
    for (Size v = first; v < first + vectors; v++, packed += lanes) {
      const Size unit = v / gates;
      const T* from = w + (k * gates + v % gates) * layout.units + unit * lanes;
      store(packed, load_first(from, layout.present(unit)));
    }
  }
}

// Pack one panel of W^T, where W is (rows, G H): columns are rows of W, of which the
// panels begin at `start`, and rows are in the order of packed columns.
template <class T>
void pack_transposed(const Layout<T>& layout, const Panels<T>& columns, Size start,
                     const T* w, Size rows, Size panel, T* packed) {
  constexpr Size lanes = kLanes<T>;
  const Size gates = layout.cell.gates;
  const Size width = gates * layout.units, length = columns.length(panel);
  const Size first = start + panel * columns.step * lanes;
  packed += columns.begin(panel, gates * layout.padded);
  for (Size unit = 0; unit < layout.unit_vectors; unit++) {
    for (Size gate = 0; gate < gates; gate++) {
      const T* from = w + first * width + gate * layout.units + unit * lanes;
      const Size present = layout.present(unit);
      for (Size lane = 0; lane < lanes; lane++, packed += length) {
        for (Size n = 0; n < length; n++) {
          const bool exists = lane < present && first + n < rows;
          packed[n] = exists ? from[n * width + lane] : T(0);
        }
      }
    }
  }
}

// What one member of a team computes.
template <class T>
struct Share {
  Share(const Layout<T>& layout, Size member, Size members)
      : member(member),
        members(members),
        first_panel(layout.gates.first(member, members)),
        last_panel(layout.gates.first(member + 1, members)),
        first_unit(first_panel * layout.per_panel),
        last_unit(std::min(last_panel * layout.per_panel, layout.unit_vectors)),
        state{last_unit - first_unit, kMaxVectors},
        first_input(layout.input.first(member, members)),
        last_input(layout.input.first(member + 1, members)) {}

  Size member, members;
  Size first_panel, last_panel;  // of the gates
  Size first_unit, last_unit;    // the vectors of units in these panels
  Panels<T> state;               // these units, as columns of W_h^T
  Size first_input, last_input;  // panels of the inputs
};

// Rows of a team, and the places that a chunk of their steps consists of.
template <class T>
class Part {
 public:
  struct Place {
    Size time, row;  // row: in the whole batch
  };

  Part(const Problem<T>& problem, const Traits& cell, Size first, Size last)
      : problem_(problem),
        layout_(problem, cell),
        share_(layout_, 0, 1),
        first_(first),
        rows_(last - first),
        chunk_(chunk_size(layout_, problem.steps, rows_)),
        places_(chunk_ * rows_),
        begins_(chunk_ + 1) {}

  // Steps of a chunk. Its gates should fit into the second-level cache with the panels
  // that go with them; and it should have so many rows that sums of the gradients are
  // loaded and stored rarely.
  static Size chunk_size(const Layout<T>& layout, Size steps, Size rows) {
    constexpr Size kBytes = 192 * 1024, kLeast = 192, kMost = 512;
    const Size fitting = kBytes / (layout.gates.width() * sizeof(T));
    const Size wanted = std::min(std::max(fitting, kLeast), kMost);
    const Size chunk = std::max<Size>((wanted + rows / 2) / rows, 1);
    const Size chunks = (steps + chunk - 1) / chunk;
    return std::max<Size>((steps + chunks - 1) / std::max<Size>(chunks, 1), 1);
  }

 protected:
  Size time(Size step) const { return problem_.reverse ? problem_.steps - 1 - step : step; }
  Size at(Size time, Size row) const { return time * problem_.batch + row; }
  bool valid(Size time, Size row) const {
    return problem_.mask == nullptr || problem_.mask[at(time, row)];
  }
  bool reset(Size time, Size row) const {
    return problem_.resets != nullptr && problem_.resets[at(time, row)];
  }

  // List the places of some steps; call f for those that are masked.
  template <class F>
  void list_places(Size first_step, Size count, F masked) {
    num_places_ = 0;
    for (Size k = 0; k < count; k++) {
      begins_[k] = num_places_;
      const Size t = time(first_step + k);
      for (Size row = first_; row < first_ + rows_; row++) {
        if (valid(t, row)) {
          places_[num_places_++] = {t, row};
        } else {
          masked(t, row);
        }
      }
    }
    begins_[count] = num_places_;
  }

  // Copy, of a state (H), the units of this member.
  void copy_units(const T* from, T* to) const {
    const Size begin = share_.first_unit * kLanes<T>;
    const Size end = std::min(share_.last_unit * kLanes<T>, layout_.units);
    std::memcpy(to + begin, from + begin, (end - begin) * sizeof(T));
  }

  const Problem<T>& problem_;
  const Layout<T> layout_;
  Share<T> share_;
  const Size first_, rows_, chunk_;
  std::vector<Place> places_;
  std::vector<Size> begins_;  // of the places of each step of the chunk
  Size num_places_ = 0;
};

template <class T>
struct ForwardWeights {
  Buffer<T> x, h, b, b_h;
};

template <class T>
class ForwardPart : protected Part<T> {
 protected:
  using Base = Part<T>;
  using Base::chunk_, Base::places_, Base::begins_, Base::num_places_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::rows_;
  using V = Vec<T>;

 public:
  ForwardPart(const Problem<T>& problem, const Traits& cell,
              const ForwardWeights<T>& weights, const Results<T>& results, Barrier& barrier,
              Size first, Size last)
      : Base(problem, cell, first, last),
        weights_(weights),
        results_(results),
        barrier_(barrier),
        h_(rows_),
        pointers_(chunk_ * rows_),
        ax_(layout_.gates.width() * chunk_ * rows_),
        c_(layout_.cell.states > 1 ? layout_.padded * rows_ : 0) {}
  virtual ~ForwardPart() = default;

  void run(const Share<T>& share) {
    share_ = share;
    for (Size r = 0; r < rows_; r++) {
      h_[r] = problem_.h_first + (first_ + r) * layout_.units;
      copy_c(problem_.c_first, r);
    }
    for (Size step = 0; step < problem_.steps; step += chunk_) {
      const Size count = std::min(chunk_, problem_.steps - step);
      this->list_places(step, count, [&](Size time, Size row) {
        T* y = results_.ys + this->at(time, row) * layout_.units;
        if (share_.member == 0) std::memset(y, 0, layout_.units * sizeof(T));
      });
      project();
      for (Size k = 0; k < count; k++) {
        take(this->time(step + k), k);
        barrier_.wait(share_.members);
      }
    }
    for (Size r = 0; r < rows_; r++) {
      const Size at = (first_ + r) * layout_.units;
      this->copy_units(h_[r], results_.h_last + at);
      if (layout_.cell.states > 1) {
        this->copy_units(c_ + r * layout_.padded, results_.c_last + at);
      }
    }
  }

 protected:
  // The gates of the units of a panel, at one place of the chunk; `sums` are the state's
  // part of the pre-activations.
  virtual void gates(Size panel, Size n, const V* sums) = 0;

  void copy_c(const T* from, Size r) {
    if (layout_.cell.states == 1) return;
    T* c = c_ + r * layout_.padded;
    std::memset(c, 0, layout_.padded * sizeof(T));
    std::memcpy(c, from + (first_ + r) * layout_.units, layout_.units * sizeof(T));
  }

  // The input's part of the pre-activations at all places of the chunk.
  void project() {
    for (Size n = 0; n < num_places_; n++) {
      const auto& place = places_[n];
      pointers_[n] = problem_.xs + this->at(place.time, place.row) * layout_.inputs;
    }
    for (Size panel = share_.first_panel; panel < share_.last_panel; panel++) {
      const Size vectors = layout_.gates.vectors(panel);
      const T* w = weights_.x + layout_.gates.begin(panel, layout_.inputs);
      const T* b = weights_.b + layout_.gates.begin(panel, 1);
      T* ax = ax_ + layout_.gates.begin(panel, chunk_ * rows_);
      for_tiles(num_places_, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_rows(rows, vectors, pointers_.data() + first, layout_.inputs, w, sums);
        T* to = ax + first * vectors * kLanes<T>;
        for (Size i = 0; i < rows; i++) {
          for (Size j = 0; j < vectors; j++, to += kLanes<T>) {
            store(to, sums[i * vectors + j] + load(b + j * kLanes<T>));
          }
        }
      });
    }
  }

  // One step of time.
  void take(Size time, Size k) {
    if (problem_.resets != nullptr) {
      for (Size r = 0; r < rows_; r++) {
        if (!this->reset(time, first_ + r)) continue;
        h_[r] = problem_.h_fresh + (first_ + r) * layout_.units;
        copy_c(problem_.c_fresh, r);
      }
    }
    const Size begin = begins_[k], count = begins_[k + 1] - begin;
    for (Size n = 0; n < count; n++) pointers_[n] = h_[places_[begin + n].row - first_];
    for (Size panel = share_.first_panel; panel < share_.last_panel; panel++) {
      const Size vectors = layout_.gates.vectors(panel);
      const T* w = weights_.h + layout_.gates.begin(panel, layout_.units);
      for_tiles(count, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_rows(rows, vectors, pointers_.data() + first, layout_.units, w, sums);
        for (Size i = 0; i < rows; i++) gates(panel, begin + first + i, sums + i * vectors);
      });
    }
    for (Size n = begin; n < begin + count; n++) {
      const Size row = places_[n].row;
      h_[row - first_] = results_.ys + this->at(time, row) * layout_.units;
    }
  }

  const ForwardWeights<T>& weights_;
  const Results<T>& results_;
  Barrier& barrier_;
  std::vector<const T*> h_;         // of each row, the state h
  std::vector<const T*> pointers_;  // to rows that a product reads
  Buffer<T> ax_, c_;
};

// Where what is kept of a vector of units begins. It is stored by cache lines of units,
// (line, kept, unit in the line), whatever the size of a vector: so one variant can read
// what another one wrote, if the variant is changed between two calls.
template <class Cell, class T>
Size kept_begin(Size vector) {
  constexpr Size per_line = kLine<T> / kLanes<T>;
  return vector / per_line * Cell::kKept * kLine<T> + vector % per_line * kLanes<T>;
}

// The gates of one cell, forward.
template <class Cell, class T>
class ForwardGates final : public ForwardPart<T> {
  using Base = ForwardPart<T>;
  using Base::layout_, Base::problem_, Base::first_, Base::rows_, Base::chunk_;
  using Base::places_, Base::weights_, Base::results_, Base::h_, Base::ax_, Base::c_;
  using V = Vec<T>;

 public:
  using Base::Base;

 protected:
  void gates(Size panel, Size n, const V* sums) override {
    constexpr Size lanes = kLanes<T>, num_gates = Cell::kGates;
    const auto place = places_[n];
    const Size at = this->at(place.time, place.row), r = place.row - first_;
    const Size first = panel * layout_.per_panel;
    const Size last = first + layout_.gates.vectors(panel) / num_gates;
    const T* from =
        ax_ + layout_.gates.begin(panel, chunk_ * rows_) + n * layout_.gates.length(panel);
    for (Size unit = first; unit < last; unit++) {
      const Size present = layout_.present(unit);
      V ax[num_gates], ah[num_gates], kept[Cell::kKept + 1];
      for (Size g = 0; g < num_gates; g++, sums++, from += lanes) {
        ax[g] = load(from);
        ah[g] = *sums;
        if (Cell::kTwoBiases) ah[g] += load(weights_.b_h + (unit * num_gates + g) * lanes);
      }
      State<V> prev = {};
      if (Cell::kReadsPrevious) prev.h = load_first(h_[r] + unit * lanes, present);
      if (Cell::kStates > 1) prev.c = load(c_ + r * layout_.padded + unit * lanes);
      const State<V> next = Cell::template forward<T>(problem_.options, ax, ah, prev, kept);
      store_first(results_.ys + at * layout_.units + unit * lanes, next.h, present);
      if (Cell::kStates > 1) store(c_ + r * layout_.padded + unit * lanes, next.c);
      if (Cell::kKept > 0 && results_.kept != nullptr) {
        T* to = results_.kept + at * layout_.kept + kept_begin<Cell, T>(unit);
        for (Size i = 0; i < Cell::kKept; i++) store(to + i * kLine<T>, kept[i]);
      }
    }
  }
};

template <class T>
struct BackwardWeights {
  Buffer<T> x, h;  // transposed
};

// What the members of a team share in the backward pass.
template <class T>
struct BackwardTeam {
  void allocate(const Layout<T>& layout, Size places) {
    const Size width = layout.gates.width();
    da = Buffer<T>(width * places);
    if (layout.cell.two_biases) da_h = Buffer<T>(width * places);
    dw_x = Buffer<T>(width * layout.inputs), dw_h = Buffer<T>(width * layout.units);
    db = Buffer<T>(width), db_h = Buffer<T>(width);
  }

  Buffer<T> da, da_h;              // of a chunk, in panels
  Buffer<T> dw_x, dw_h, db, db_h;  // sums over the team's rows, in panels
  Barrier barrier;
};

template <class T>
class BackwardPart : protected Part<T> {
 protected:
  using Base = Part<T>;
  using Base::chunk_, Base::places_, Base::begins_, Base::num_places_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::rows_;
  using V = Vec<T>;
  static constexpr Size kFirst = 0, kFresh = 1, kStep = 2;  // values of `origins_`

 public:
  BackwardPart(const Problem<T>& problem, const Traits& cell,
               const BackwardWeights<T>& weights, const Cotangents<T>& given,
               const Gradients<T>& gradients, BackwardTeam<T>& team, Size first, Size last)
      : Base(problem, cell, first, last),
        weights_(weights),
        given_(given),
        gradients_(gradients),
        team_(team),
        origins_(problem.mask || problem.resets ? problem.steps * rows_ : 0),
        xs_(chunk_ * rows_),
        hs_(chunk_ * rows_),
        dh_(layout_.padded * rows_),
        dc_(cell.states > 1 ? layout_.padded * rows_ : 0) {
    for (Size panel = 0; panel < layout_.gates.count(); panel++) {
      const Size begin = layout_.gates.begin(panel, chunk_ * rows_);
      const Size length = layout_.gates.length(panel);
      blocks_.push_back({team.da + begin, length});
      blocks_h_.push_back({(cell.two_biases ? team.da_h : team.da) + begin, length});
    }
  }
  virtual ~BackwardPart() = default;

  void run(const Share<T>& share) {
    share_ = share;
    find_origins();
    zero(team_.dw_x, layout_.inputs), zero(team_.dw_h, layout_.units);
    zero(team_.db, 1), zero(team_.db_h, 1);
    for (Size r = 0; r < rows_; r++) {
      copy(given_.dh_last, dh_, r);
      if (layout_.cell.states > 1) copy(given_.dc_last, dc_, r);
    }
    const Size chunks = (problem_.steps + chunk_ - 1) / chunk_;
    for (Size n = chunks; n-- > 0;) {
      const Size step = n * chunk_, count = std::min(chunk_, problem_.steps - step);
      this->list_places(step, count, [&](Size time, Size row) {
        T* dx = gradients_.dxs + this->at(time, row) * layout_.inputs;
        if (share_.member == 0) std::memset(dx, 0, layout_.inputs * sizeof(T));
      });
      find_rows(step, count);
      for (Size k = count; k-- > 0;) take(this->time(step + k), k);
      accumulate();
      // The gates of the next chunk overwrite what others may still read.
      team_.barrier.wait(share_.members);
    }
    for (Size r = 0; r < rows_; r++) {
      this->copy_units(dh_ + r * layout_.padded, row(gradients_.dh_first, r));
      if (layout_.cell.states > 1) {
        this->copy_units(dc_ + r * layout_.padded, row(gradients_.dc_first, r));
      }
    }
  }

 protected:
  // The cotangents of the pre-activations at one place, and what of the state's cotangent
  // passes the product by.
  virtual void gates(Size n) = 0;

  T* row(T* states, Size r) const { return states + (first_ + r) * layout_.units; }
  void zero(T* sums, Size rows) {
    const Size begin = layout_.gates.begin(share_.first_panel, rows);
    const Size units = share_.last_unit - share_.first_unit;
    std::memset(sums + begin, 0, units * layout_.cell.gates * kLanes<T> * rows * sizeof(T));
  }
  void copy(const T* from, T* to, Size r) {
    to += r * layout_.padded;
    std::memset(to, 0, layout_.padded * sizeof(T));
    std::memcpy(to, from + (first_ + r) * layout_.units, layout_.units * sizeof(T));
  }

  // For each step and row, where the state before the step comes from: kFirst, kFresh, or
  // kStep + the step whose output it is.
  void find_origins() {
    if (origins_.empty()) return;
    for (Size r = 0; r < rows_; r++) {
      Size origin = kFirst;
      for (Size step = 0; step < problem_.steps; step++) {
        const Size time = this->time(step);
        if (this->reset(time, first_ + r)) origin = kFresh;
        origins_[step * rows_ + r] = origin;
        if (this->valid(time, first_ + r)) origin = kStep + step;
      }
    }
  }

  const T* previous(Size step, Size r) const {
    Size origin = step == 0 ? kFirst : kStep + step - 1;
    if (!origins_.empty()) origin = origins_[step * rows_ + r];
    if (origin == kFirst) return problem_.h_first + (first_ + r) * layout_.units;
    if (origin == kFresh) return problem_.h_fresh + (first_ + r) * layout_.units;
    const Size at = this->at(this->time(origin - kStep), first_ + r);
    return given_.ys + at * layout_.units;
  }

  // The inputs and the states before the step, at all places of the chunk.
  void find_rows(Size step, Size count) {
    for (Size k = 0; k < count; k++) {
      for (Size n = begins_[k]; n < begins_[k + 1]; n++) {
        const auto& place = places_[n];
        xs_[n] = problem_.xs + this->at(place.time, place.row) * layout_.inputs;
        hs_[n] = previous(step + k, place.row - first_);
      }
    }
  }

  // One step, backward.
  void take(Size time, Size k) {
    constexpr Size lanes = kLanes<T>;
    const Size begin = begins_[k], count = begins_[k + 1] - begin;
    for (Size n = begin; n < begin + count; n++) gates(n);
    team_.barrier.wait(share_.members);  // the product reads the gates of all units
    const Size width = layout_.gates.width(), start = share_.first_unit * lanes;
    for (Size panel = 0; panel < share_.state.count(); panel++) {
      const Size vectors = share_.state.vectors(panel);
      const T* w = weights_.h + start * width + share_.state.begin(panel, width);
      for_tiles(count, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_blocks(rows, vectors, blocks_h_.data(), blocks_h_.size(), begin + first, w,
                        sums);
        for (Size i = 0; i < rows; i++) {
          const Size r = places_[begin + first + i].row - first_;
          T* to = dh_ + r * layout_.padded + start + panel * share_.state.step * lanes;
          for (Size j = 0; j < vectors; j++, to += lanes) {
            store(to, load(to) + sums[i * vectors + j]);
          }
        }
      });
    }
    if (problem_.resets == nullptr) return;
    for (Size r = 0; r < rows_; r++) {
      if (!this->reset(time, first_ + r)) continue;
      move(dh_ + r * layout_.padded, row(gradients_.dh_fresh, r));
      if (layout_.cell.states > 1)
        move(dc_ + r * layout_.padded, row(gradients_.dc_fresh, r));
    }
  }

  // Before a reset no cotangent arrives: all of it goes to the fresh state.
  void move(T* from, T* to) {
    const Size end = std::min(share_.last_unit * kLanes<T>, layout_.units);
    for (Size i = share_.first_unit * kLanes<T>; i < end; i++) {
      to[i] += from[i];
      from[i] = 0;
    }
  }

  // The chunk's part of the weights' gradients, and the gradient of its inputs.
  void accumulate() {
    add_products(xs_, layout_.inputs, blocks_, team_.dw_x);
    add_products(hs_, layout_.units, blocks_h_, team_.dw_h);
    add_rows(blocks_, team_.db);
    if (layout_.cell.two_biases) add_rows(blocks_h_, team_.db_h);
    for (Size panel = share_.first_input; panel < share_.last_input; panel++) {
      const Size vectors = layout_.input.vectors(panel);
      const Size column = panel * layout_.input.step * kLanes<T>;
      const Size columns = std::min(vectors * kLanes<T>, layout_.inputs - column);
      const T* w = weights_.x + layout_.input.begin(panel, layout_.gates.width());
      for_tiles(num_places_, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_blocks(rows, vectors, blocks_.data(), blocks_.size(), first, w, sums);
        for (Size i = 0; i < rows; i++) {
          const auto& place = places_[first + i];
          const Size at = this->at(place.time, place.row);
          std::memcpy(gradients_.dxs + at * layout_.inputs + column, sums + i * vectors,
                      columns * sizeof(T));
        }
      });
    }
  }

  // sums (columns, packed gates) += A^T da, where rows[n] is the row of A at place n.
  void add_products(const std::vector<const T*>& rows, Size columns,
                    const std::vector<Block<T>>& blocks, T* sums) {
    for (Size panel = share_.first_panel; panel < share_.last_panel; panel++) {
      const Size vectors = layout_.gates.vectors(panel), length = blocks[panel].length;
      T* to = sums + layout_.gates.begin(panel, columns);
      for_tiles(columns, [&](Size first, Size height) {
        add_transposed(height, vectors, rows.data(), first, num_places_,
                       blocks[panel].first, to + first * length);
      });
    }
  }

  void add_rows(const std::vector<Block<T>>& blocks, T* sums) {
    for (Size panel = share_.first_panel; panel < share_.last_panel; panel++) {
      const auto& block = blocks[panel];
      V acc[kMaxVectors];
      const Size vectors = block.length / kLanes<T>;
      T* to = sums + layout_.gates.begin(panel, 1);
      for (Size j = 0; j < vectors; j++) acc[j] = load(to + j * kLanes<T>);
      for (Size n = 0; n < num_places_; n++) {
        for (Size j = 0; j < vectors; j++) {
          acc[j] += load(block.first + n * block.length + j * kLanes<T>);
        }
      }
      for (Size j = 0; j < vectors; j++) store(to + j * kLanes<T>, acc[j]);
    }
  }

  const BackwardWeights<T>& weights_;
  const Cotangents<T>& given_;
  const Gradients<T>& gradients_;
  BackwardTeam<T>& team_;
  std::vector<Size> origins_;
  std::vector<const T*> xs_, hs_;
  std::vector<Block<T>> blocks_, blocks_h_;
  Buffer<T> dh_, dc_;
};

// The gates of one cell, backward.
template <class Cell, class T>
class BackwardGates final : public BackwardPart<T> {
  using Base = BackwardPart<T>;
  using Base::chunk_, Base::places_, Base::given_, Base::team_, Base::hs_, Base::dh_;
  using Base::dc_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::rows_;
  using V = Vec<T>;

 public:
  using Base::Base;

 protected:
  void gates(Size n) override {
    constexpr Size lanes = kLanes<T>, num_gates = Cell::kGates;
    const auto place = places_[n];
    const Size at = this->at(place.time, place.row), r = place.row - first_;
    for (Size unit = share_.first_unit; unit < share_.last_unit; unit++) {
      const Size present = layout_.present(unit), panel = unit / layout_.per_panel;
      V kept[Cell::kKept + 1], da[num_gates], da_h[num_gates];
      const T* from = given_.kept + at * layout_.kept + kept_begin<Cell, T>(unit);
      for (Size i = 0; i < Cell::kKept; i++) kept[i] = load(from + i * kLine<T>);
      V h_prev = {}, h = {};
      if (Cell::kReadsPrevious) h_prev = load_first(hs_[n] + unit * lanes, present);
      const Size y = at * layout_.units + unit * lanes;
      if (Cell::kReadsOutput) h = load_first(given_.ys + y, present);
      T* dh = dh_ + r * layout_.padded + unit * lanes;
      T* dc = dc_ + r * layout_.padded + unit * lanes;
      State<V> d = {load(dh) + load_first(given_.dys + y, present), V{}};
      if (Cell::kStates > 1) d.c = load(dc);
      d = Cell::template backward<T>(problem_.options, kept, h_prev, h, d, da, da_h);
      store(dh, d.h);
      if (Cell::kStates > 1) store(dc, d.c);
      const Size offset = layout_.gates.begin(panel, chunk_ * rows_) +
                          n * layout_.gates.length(panel) +
                          unit % layout_.per_panel * num_gates * lanes;
      for (Size g = 0; g < num_gates; g++) {
        store(team_.da + offset + g * lanes, da[g]);
        if (Cell::kTwoBiases) store(team_.da_h + offset + g * lanes, da_h[g]);
      }
    }
  }
};

// Call f for each panel, on several threads if it is worth it.
template <class F>
void for_panels(bool parallel, Threads& threads, Size count, F f) {
  if (parallel) return threads.for_each(count, f);
  for (Size panel = 0; panel < count; panel++) f(panel);
}

// Weights larger than this, in bytes, are read by several threads together if each of them
// would have fewer rows than this to itself.
constexpr double kLargeWeights = 1.5e6, kFewRows = 24;

// How the threads divide the work: several teams of one member, or one of several.
struct Division {
  Size teams, members;
};

template <class T>
Division divide(const Problem<T>& problem, const Traits& cell, Size threads) {
  const double rows = double(problem.batch), units = double(problem.units);
  const double sums = double(cell.gates) * units;  // products of one row and one input
  // Each thread should have something to do for about 20 microseconds.
  const double run = double(problem.steps) * rows * sums * (double(problem.inputs) + units);
  if (threads < 2 || run < 1e6) return {1, 1};
  // Weights that do not fit into the caches of a core, for a step worth waiting for.
  const bool large = sums * units * sizeof(T) > kLargeWeights;
  const bool few = rows < kFewRows * double(threads), long_step = rows * sums * units > 2e6;
  if (large && few && long_step) return {1, threads};
  return {std::min(threads, problem.batch), 1};
}

template <class Cell, class T>
void forward(const Problem<T>& problem, const Results<T>& results, Threads& threads) {
  constexpr Traits cell = traits<Cell>();
  const Layout<T> layout(problem, cell);
  const Size width = layout.gates.width();
  const Division division = divide(problem, cell, threads.count());
  ForwardWeights<T> weights{Buffer<T>(width * layout.inputs),
                            Buffer<T>(width * layout.units), Buffer<T>(width),
                            Buffer<T>(width)};
  auto pack = [&](Size panel) {
    pack_gates(layout, problem.w_x, layout.inputs, panel, +weights.x);
    pack_gates(layout, problem.w_h, layout.units, panel, +weights.h);
    pack_gates(layout, problem.b, 1, panel, +weights.b);
    if (cell.two_biases) pack_gates(layout, problem.b_h, 1, panel, +weights.b_h);
  };
  Barrier barrier;
  std::deque<ForwardGates<Cell, T>> parts;
  const Size count = division.teams * division.members;
  for (Size n = 0; n < count; n++) {
    const Size team = n / division.members;
    parts.emplace_back(problem, cell, weights, results, barrier,
                       problem.batch * team / division.teams,
                       problem.batch * (team + 1) / division.teams);
  }
  if (division.members > 1) {
    threads.together(division.members, [&](Size member, Size members) {
      const Share<T> share(layout, member, members);
      for (Size panel = share.first_panel; panel < share.last_panel; panel++) pack(panel);
      parts[member].run(share);
    });
  } else {
    for_panels(count > 1, threads, layout.gates.count(), pack);
    threads.for_each(count, [&](Size n) { parts[n].run(Share<T>(layout, 0, 1)); });
  }
}

// Put the columns of one panel of gradients into their order, and sum the teams.
template <class T>
void unpack(const Layout<T>& layout, const std::vector<const T*>& packed, Size rows,
            Size panel, T* to) {
  constexpr Size lanes = kLanes<T>;
  const Size gates = layout.cell.gates;
  const Size first = panel * layout.gates.step, vectors = layout.gates.vectors(panel);
  Size from = layout.gates.begin(panel, rows);
  for (Size k = 0; k < rows; k++) {
    for (Size v = first; v < first + vectors; v++, from += lanes) {
      Vec<T> total = load(packed[0] + from);
      for (Size n = 1; n < packed.size(); n++) total += load(packed[n] + from);
      const Size unit = v / gates;
      store_first(to + (k * gates + v % gates) * layout.units + unit * lanes, total,
                  layout.present(unit));
    }
  }
}

template <class Cell, class T>
void backward(const Problem<T>& problem, const Cotangents<T>& given,
              const Gradients<T>& gradients, Threads& threads) {
  constexpr Traits cell = traits<Cell>();
  const Layout<T> layout(problem, cell);
  const Size width = layout.gates.width(), state = problem.batch * problem.units;
  const Division division = divide(problem, cell, threads.count());
  BackwardWeights<T> weights{Buffer<T>(width * layout.input.width()),
                             Buffer<T>(width * layout.padded)};
  auto pack_x = [&](Size panel) {
    pack_transposed(layout, layout.input, 0, problem.w_x, layout.inputs, panel, +weights.x);
  };
  auto pack_h = [&](const Share<T>& share, Size panel) {
    const Size start = share.first_unit * kLanes<T>;
    pack_transposed(layout, share.state, start, problem.w_h, layout.units, panel,
                    weights.h + start * width);
  };
  if (problem.resets != nullptr) {
    std::memset(gradients.dh_fresh, 0, state * sizeof(T));
    if (cell.states > 1) std::memset(gradients.dc_fresh, 0, state * sizeof(T));
  }

  std::vector<BackwardTeam<T>> teams(division.teams);
  std::deque<BackwardGates<Cell, T>> parts;
  const Size count = division.teams * division.members;
  for (Size n = 0; n < count; n++) {
    const Size team = n / division.members;
    const Size first = problem.batch * team / division.teams;
    const Size last = problem.batch * (team + 1) / division.teams;
    if (n % division.members == 0) {
      const Size rows = last - first;
      const Size chunk = Part<T>::chunk_size(layout, problem.steps, rows);
      teams[team].allocate(layout, chunk * rows);
    }
    parts.emplace_back(problem, cell, weights, given, gradients, teams[team], first, last);
  }
  if (division.members > 1) {
    threads.together(division.members, [&](Size member, Size members) {
      const Share<T> share(layout, member, members);
      for (Size panel = share.first_input; panel < share.last_input; panel++) pack_x(panel);
      for (Size panel = 0; panel < share.state.count(); panel++) pack_h(share, panel);
      parts[member].run(share);
    });
  } else {
    const Share<T> all(layout, 0, 1);
    for_panels(count > 1, threads, layout.input.count(), pack_x);
    for_panels(count > 1, threads, all.state.count(),
               [&](Size panel) { pack_h(all, panel); });
    threads.for_each(count, [&](Size n) { parts[n].run(all); });
  }

  std::vector<const T*> dw_x, dw_h, db, db_h;
  for (const auto& team : teams) {
    dw_x.push_back(team.dw_x), dw_h.push_back(team.dw_h);
    db.push_back(team.db), db_h.push_back(team.db_h);
  }
  for_panels(count > 1, threads, layout.gates.count(), [&](Size panel) {
    unpack(layout, dw_x, layout.inputs, panel, gradients.dw_x);
    unpack(layout, dw_h, layout.units, panel, gradients.dw_h);
    unpack(layout, db, 1, panel, gradients.db);
    if (cell.two_biases) unpack(layout, db_h, 1, panel, gradients.db_h);
  });
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_LOOP_H_

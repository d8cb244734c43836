// Who computes what. Work is divided among threads in one of two ways. Batch entries
// ("rows") are independent, so each thread takes its own rows through all steps, without
// waiting for another. If the weights are large and the rows few, a thread would spend its
// time on reading weights; then each thread takes its own units for all rows, and all wait
// for each other at each step. A *team* is the threads that share rows: several teams of
// one member, or one team of several.
#ifndef JAXRNN_TEAM_H_
#define JAXRNN_TEAM_H_

#include <atomic>
#include <thread>
#include <vector>

#include "layout.h"

namespace jaxrnn {
namespace VARIANT {

// How the threads divide the work.
struct Division {
  Size teams, members;
};

// Weights larger than this, in bytes, are read by several threads together if each of them
// would have fewer rows than this to itself.
constexpr double kLargeWeights = 1.5e6, kFewRows = 24;

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

// What one member of a team computes: some units, and some inputs of W_x^T.
template <class T>
struct Share {
  Share(const Layout<T>& layout, Size member, Size members)
      : member(member),
        members(members),
        first_unit(unit(layout, member, members)),
        last_unit(unit(layout, member + 1, members)),
        state{last_unit - first_unit, kMaxVectors},
        first_input(layout.input.count() * member / members),
        last_input(layout.input.count() * (member + 1) / members) {}

  // The panels of some columns that hold these units.
  Size first_panel(const Columns<T>& columns) const {
    return first_unit / columns.per_panel;
  }
  Size last_panel(const Columns<T>& columns) const {
    return (last_unit + columns.per_panel - 1) / columns.per_panel;
  }

  Size member, members;
  Size first_unit, last_unit;    // vectors of units
  Panels<T> state;               // these units, as columns of W_h^T
  Size first_input, last_input;  // panels

 private:
  // Shares end where the panels of all columns end: these hold 1, 2 or 4 vectors of units.
  static Size unit(const Layout<T>& layout, Size member, Size members) {
    const Size blocks = (layout.unit_vectors + kMaxVectors - 1) / kMaxVectors;
    return std::min(blocks * member / members * kMaxVectors, layout.unit_vectors);
  }
};

// Rows of a team, and the places (step, row) that a chunk of their steps consists of. A
// mask leaves out rows at some steps: the places are the unmasked ones only, in the order
// of the steps, and all products and gates go through that list.
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
        capacity_(chunk_ * rows_),
        places_(capacity_),
        begins_(chunk_ + 1) {}

  // Steps of a chunk. Its gates should fit into the second-level cache with the panels
  // that go with them; and it should have so many rows that sums of the gradients are
  // loaded and stored rarely.
  static Size chunk_size(const Layout<T>& layout, Size steps, Size rows) {
    constexpr Size kBytes = Size{192} * 1024, kLeast = 192, kLarge = 384, kMost = 512;
    const Size fitting = kBytes / (layout.x.panels.width() * sizeof(T));
    const Size height = layout.inputs + layout.units;  // of the gradients
    const Size least = std::clamp(height * 2 / 3, kLeast, kLarge);
    const Size wanted = std::min(std::max(fitting, least), kMost);
    const Size chunk = std::max<Size>((wanted + rows / 2) / rows, 1);
    const Size chunks = (steps + chunk - 1) / chunk;
    return std::max<Size>((steps + chunks - 1) / std::max<Size>(chunks, 1), 1);
  }

 protected:
  Size time(Size step) const { return problem_.reverse ? problem_.steps - 1 - step : step; }
  Size at(Size time, Size row) const { return time * problem_.batch + row; }
  Size at(const Place& place) const { return at(place.time, place.row); }
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

  // Row r of the team in states (B, H).
  template <class Pointer>
  Pointer row(Pointer states, Size r) const {
    return states + (first_ + r) * layout_.units;
  }

  // Copy, of a state (H), the units of this member.
  void copy_units(const T* from, T* to) const {
    const Size begin = share_.first_unit * kLanes<T>;
    const Size end = std::min(share_.last_unit * kLanes<T>, layout_.units);
    if (begin < end) std::memcpy(to + begin, from + begin, (end - begin) * sizeof(T));
  }

  // Copy a state (H) to one that is padded with zeros.
  void copy_padded(const T* from, T* to) const {
    std::memset(to, 0, layout_.padded * sizeof(T));
    std::memcpy(to, from, layout_.units * sizeof(T));
  }

  const Problem<T>& problem_;
  const Layout<T> layout_;
  Share<T> share_;
  const Size first_, rows_;  // rows of the batch: the first one, and how many
  const Size chunk_;         // steps
  const Size capacity_;      // places of a chunk, if none is masked
  std::vector<Place> places_;
  std::vector<Size> begins_;  // of the places of each step of the chunk
  Size num_places_ = 0;
};

// Call f(n) for n = 0, 1, ... count - 1, on several threads if it is worth it.
template <class F>
void for_each(bool parallel, Threads& threads, Size count, F f) {
  if (parallel) return threads.for_each(count, f);
  for (Size n = 0; n < count; n++) f(n);
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_TEAM_H_

// The forward pass of any cell of cells.h.
#ifndef JAXRNN_FORWARD_H_
#define JAXRNN_FORWARD_H_

#include <deque>

#include "cells.h"
#include "team.h"

namespace jaxrnn {
namespace VARIANT {

template <class T>
struct ForwardWeights {
  Buffer<T> x, b;          // packed as layout.x
  Buffer<T> h[2], b_h[2];  // packed as layout.h
};

// What the members of a team share in the forward pass.
template <class T>
struct ForwardTeam {
  Buffer<T> q;  // what the second product reads instead of the state: (rows, padded)
  Barrier barrier;
};

template <class T>
class ForwardPart : protected Part<T> {
 protected:
  using Base = Part<T>;
  using Base::chunk_, Base::capacity_, Base::places_, Base::begins_, Base::num_places_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::rows_;
  using V = Vec<T>;

 public:
  ForwardPart(const Problem<T>& problem, const Traits& cell,
              const ForwardWeights<T>& weights, const Results<T>& results,
              ForwardTeam<T>& team, Size first, Size last)
      : Base(problem, cell, first, last),
        weights_(weights),
        results_(results),
        team_(team),
        h_(rows_),
        pointers_(capacity_),
        ax_(layout_.x.panels.width() * capacity_),
        c_(layout_.cell.states > 1 ? layout_.padded * rows_ : 0),
        z_(layout_.cell.two_products ? layout_.padded * rows_ : 0) {}
  virtual ~ForwardPart() = default;

  void run(const Share<T>& share) {
    share_ = share;
    for (Size r = 0; r < rows_; r++) set_state(r, problem_.h_first, problem_.c_first);
    for (Size step = 0; step < problem_.steps; step += chunk_) {
      const Size count = std::min(chunk_, problem_.steps - step);
      this->list_places(step, count, [&](Size time, Size row) {
        T* y = results_.ys + this->at(time, row) * layout_.units;
        if (share_.member == 0) std::memset(y, 0, layout_.units * sizeof(T));
      });
      project();
      for (Size k = 0; k < count; k++) take(this->time(step + k), k);
    }
    for (Size r = 0; r < rows_; r++) {
      this->copy_units(h_[r], this->row(results_.h_last, r));
      if (layout_.cell.states > 1) {
        this->copy_units(c_ + r * layout_.padded, this->row(results_.c_last, r));
      }
    }
  }

 protected:
  // The gates of the units of a panel, at one place of the chunk, after one of the
  // recurrent products. `sums` are the state's part of the pre-activations.
  virtual void gates(Size product, Size panel, Size n, const V* sums) = 0;

  void set_state(Size r, const T* h, const T* c) {
    h_[r] = this->row(h, r);
    if (layout_.cell.states > 1) {
      this->copy_padded(this->row(c, r), c_ + r * layout_.padded);
    }
  }

  // The input's part of the pre-activations at all places of the chunk.
  void project() {
    const Panels<T>& panels = layout_.x.panels;
    for (Size n = 0; n < num_places_; n++) {
      pointers_[n] = problem_.xs + this->at(places_[n]) * layout_.inputs;
    }
    for (Size p = share_.first_panel(layout_.x); p < share_.last_panel(layout_.x); p++) {
      const Size vectors = panels.vectors(p);
      const T* w = weights_.x + panels.begin(p, layout_.inputs);
      const T* b = weights_.b + panels.begin(p, 1);
      T* ax = ax_ + panels.begin(p, capacity_);
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
    for (Size r = 0; r < rows_; r++) {
      if (this->reset(time, first_ + r)) {
        set_state(r, problem_.h_fresh, problem_.c_fresh);
      }
    }
    const Size begin = begins_[k], count = begins_[k + 1] - begin;
    for (Size product = 0; product < layout_.products; product++) {
      for (Size n = 0; n < count; n++) {
        const Size r = places_[begin + n].row - first_;
        pointers_[n] = product == 0 ? h_[r] : team_.q + r * layout_.padded;
      }
      multiply(product, begin, count);
      // The next product reads what all members have computed.
      team_.barrier.wait(share_.members);
    }
    for (Size n = begin; n < begin + count; n++) {
      const Size row = places_[n].row;
      h_[row - first_] = results_.ys + this->at(time, row) * layout_.units;
    }
  }

  void multiply(Size product, Size begin, Size count) {
    const Columns<T>& columns = layout_.h[product];
    for (Size p = share_.first_panel(columns); p < share_.last_panel(columns); p++) {
      const Size vectors = columns.panels.vectors(p);
      const T* w = weights_.h[product] + columns.panels.begin(p, layout_.units);
      for_tiles(count, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_rows(rows, vectors, pointers_.data() + first, layout_.units, w, sums);
        for (Size i = 0; i < rows; i++) {
          gates(product, p, begin + first + i, sums + i * vectors);
        }
      });
    }
  }

  const ForwardWeights<T>& weights_;
  const Results<T>& results_;
  ForwardTeam<T>& team_;
  std::vector<const T*> h_;         // of each row, the state h
  std::vector<const T*> pointers_;  // to rows that a product reads
  Buffer<T> ax_, c_;
  Buffer<T> z_;  // what the gates after the first product leave to those after the second
};

// The gates of one cell, forward.
template <class Cell, class T>
class ForwardGates final : public ForwardPart<T> {
  using Base = ForwardPart<T>;
  using Base::layout_, Base::problem_, Base::first_, Base::capacity_, Base::places_;
  using Base::weights_, Base::results_, Base::team_, Base::h_, Base::ax_, Base::c_;
  using Base::z_;
  using V = Vec<T>;
  static constexpr Size lanes = kLanes<T>;

 public:
  using Base::Base;

 protected:
  void gates(Size product, Size panel, Size n, const V* sums) override {
    const auto& place = places_[n];
    const Size at = this->at(place), r = place.row - first_;
    const Columns<T>& columns = layout_.h[product];
    const Size num_gates = Cell::kTwoProducts ? columns.gates : Cell::kGates;
    const Size first = panel * columns.per_panel;
    const Size last = std::min(first + columns.per_panel, layout_.unit_vectors);
    for (Size unit = first; unit < last; unit++, sums += num_gates) {
      const Size present = layout_.present(unit),
                 offset = r * layout_.padded + unit * lanes;
      const T* b_h = weights_.b_h[product] + columns.at(unit, 0, 1);
      V ax[Cell::kGates] = {}, ah[Cell::kGates] = {}, kept[Cell::kKept + 1] = {};
      for (Size g = 0; g < num_gates; g++) {
        const Size gate = columns.first + g;
        ax[gate] = load(ax_ + layout_.x.at(unit, n, capacity_) + gate * lanes);
        ah[gate] = sums[g];
        if (Cell::kTwoBiases) ah[gate] += load(b_h + g * lanes);
      }
      State<V> prev = {};
      if (Cell::kReadsPrevious) prev.h = load_first(h_[r] + unit * lanes, present);
      if (Cell::kStates > 1) prev.c = load(c_ + offset);
      T* record = nullptr;
      if (Cell::kKept > 0 && results_.kept != nullptr) {
        record = results_.kept + at * layout_.kept + kept_begin<Cell, T>(unit);
      }
      if constexpr (Cell::kTwoProducts) {
        if (product == 0) {
          V z;
          const V q = Cell::template gates<T>(ax, ah, prev.h, kept, &z);
          store(team_.q + offset, q);
          store(z_ + offset, z);
          keep(record, kept, 0, Cell::kKept - 1);
          continue;
        }
      }
      const V z = Cell::kTwoProducts ? load(z_ + offset) : V{};
      const State<V> next =
          Cell::template forward<T>(problem_.option, ax, ah, prev, z, kept);
      store_first(results_.ys + at * layout_.units + unit * lanes, next.h, present);
      if (Cell::kStates > 1) store(c_ + offset, next.c);
      keep(record, kept, Cell::kTwoProducts ? Cell::kKept - 1 : 0, Cell::kKept);
    }
  }

  static void keep(T* record, const V* kept, Size first, Size last) {
    if (record == nullptr) return;
    for (Size i = first; i < last; i++) store(record + i * kLine<T>, kept[i]);
  }
};

template <class Cell, class T>
void forward(const Problem<T>& problem, const Results<T>& results, Threads& threads) {
  constexpr Traits cell = traits<Cell>();
  const Layout<T> layout(problem, cell);
  const Division division = divide(problem, cell, threads.count());
  ForwardWeights<T> weights;
  weights.x = Buffer<T>(layout.x.panels.width() * layout.inputs);
  weights.b = Buffer<T>(layout.x.panels.width());
  for (Size product = 0; product < layout.products; product++) {
    const Size width = layout.h[product].panels.width();
    weights.h[product] = Buffer<T>(width * layout.units);
    weights.b_h[product] = Buffer<T>(width);
  }
  // Pack the panels of the units of a share.
  auto pack = [&](const Share<T>& share) {
    for (Size p = share.first_panel(layout.x); p < share.last_panel(layout.x); p++) {
      pack_gates(layout, layout.x, problem.w_x, layout.inputs, p, +weights.x);
      pack_gates(layout, layout.x, problem.b, 1, p, +weights.b);
    }
    for (Size product = 0; product < layout.products; product++) {
      const Columns<T>& columns = layout.h[product];
      for (Size p = share.first_panel(columns); p < share.last_panel(columns); p++) {
        pack_gates(layout, columns, problem.w_h, layout.units, p, +weights.h[product]);
        if (!cell.two_biases) continue;
        pack_gates(layout, columns, problem.b_h, 1, p, +weights.b_h[product]);
      }
    }
  };

  std::vector<ForwardTeam<T>> teams(division.teams);
  std::deque<ForwardGates<Cell, T>> parts;
  const Size count = division.teams * division.members;
  for (Size n = 0; n < count; n++) {
    const Size team = n / division.members;
    const Size first = problem.batch * team / division.teams;
    const Size last = problem.batch * (team + 1) / division.teams;
    if (cell.two_products && n % division.members == 0) {
      teams[team].q = Buffer<T>((last - first) * layout.padded);
    }
    parts.emplace_back(problem, cell, weights, results, teams[team], first, last);
  }
  if (division.members > 1) {
    threads.together(division.members, [&](Size member, Size members) {
      const Share<T> share(layout, member, members);
      pack(share);
      parts[member].run(share);
    });
  } else {
    for_each(count > 1, threads, count, [&](Size n) { pack(Share<T>(layout, n, count)); });
    threads.for_each(count, [&](Size n) { parts[n].run(Share<T>(layout, 0, 1)); });
  }
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_FORWARD_H_

// The backward pass of any cell of cells.h.
#ifndef JAXRNN_BACKWARD_H_
#define JAXRNN_BACKWARD_H_

#include <deque>

#include "cells.h"
#include "team.h"

namespace jaxrnn {
namespace VARIANT {

template <class T>
struct BackwardWeights {
  Buffer<T> x, h[2];  // transposed
};

// What the members of a team share in the backward pass.
template <class T>
struct BackwardTeam {
  void allocate(const Layout<T>& layout, Size places) {
    da = Buffer<T>(layout.x.panels.width() * places);
    dw_x = Buffer<T>(layout.x.panels.width() * layout.inputs);
    db = Buffer<T>(layout.x.panels.width());
    for (Size product = 0; product < layout.products; product++) {
      const Size width = layout.h[product].panels.width();
      if (layout.apart()) da_h[product] = Buffer<T>(width * places);
      dw_h[product] = Buffer<T>(width * layout.units);
      db_h[product] = Buffer<T>(width);
    }
    if (layout.cell.two_products) q = Buffer<T>(layout.padded * places);
  }

  Buffer<T> da, da_h[2];                 // of a chunk, in panels
  Buffer<T> q;                           // what the second product read, (places, padded)
  Buffer<T> dw_x, dw_h[2], db, db_h[2];  // sums over the team's rows, in panels
  Barrier barrier;
};

template <class T>
class BackwardPart : protected Part<T> {
 protected:
  using Base = Part<T>;
  using Base::chunk_, Base::capacity_, Base::places_, Base::begins_, Base::num_places_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::rows_;
  using V = Vec<T>;
  using Blocks = std::vector<Block<T>>;
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
        xs_(capacity_),
        hs_(capacity_),
        qs_(cell.two_products ? capacity_ : 0),
        blocks_(blocks(layout_.x, team.da)),
        dh_(layout_.padded * rows_),
        dc_(cell.states > 1 ? layout_.padded * rows_ : 0),
        dq_(cell.two_products ? layout_.padded * rows_ : 0),
        strips_(std::max(layout_.inputs, layout_.units) * capacity_) {
    for (Size product = 0; product < layout_.products; product++) {
      const Buffer<T>& da = layout_.apart() ? team.da_h[product] : team.da;
      blocks_h_[product] = blocks(layout_.h[product], da);
    }
    for (Size n = 0; n < qs_.size(); n++) qs_[n] = team.q + n * layout_.padded;
  }
  virtual ~BackwardPart() = default;

  void run(const Share<T>& share) {
    share_ = share;
    find_origins();
    zero(layout_.x, team_.dw_x, layout_.inputs);
    zero(layout_.x, team_.db, 1);
    for (Size product = 0; product < layout_.products; product++) {
      zero(layout_.h[product], team_.dw_h[product], layout_.units);
      zero(layout_.h[product], team_.db_h[product], 1);
    }
    for (Size r = 0; r < rows_; r++) {
      this->copy_padded(this->row(given_.dh_last, r), dh_ + r * layout_.padded);
      if (layout_.cell.states > 1) {
        this->copy_padded(this->row(given_.dc_last, r), dc_ + r * layout_.padded);
      }
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
      this->copy_units(dh_ + r * layout_.padded, this->row(gradients_.dh_first, r));
      if (layout_.cell.states > 1) {
        this->copy_units(dc_ + r * layout_.padded, this->row(gradients_.dc_first, r));
      }
    }
  }

 protected:
  // The cotangents of the gates of one recurrent product, at one place, and what of the
  // state's cotangent passes the product by.
  virtual void gates(Size product, Size n) = 0;

  // The panels of packed cotangents, as blocks of columns.
  Blocks blocks(const Columns<T>& columns, const T* da) const {
    Blocks all;
    for (Size p = 0; p < columns.panels.count(); p++) {
      all.push_back({da + columns.panels.begin(p, capacity_), columns.panels.length(p)});
    }
    return all;
  }

  void zero(const Columns<T>& columns, T* sums, Size rows) {
    for (Size p = share_.first_panel(columns); p < share_.last_panel(columns); p++) {
      T* panel = sums + columns.panels.begin(p, rows);
      std::memset(panel, 0, columns.panels.length(p) * rows * sizeof(T));
    }
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
    if (origin == kFirst) return this->row(problem_.h_first, r);
    if (origin == kFresh) return this->row(problem_.h_fresh, r);
    const Size at = this->at(this->time(origin - kStep), first_ + r);
    return given_.ys + at * layout_.units;
  }

  // The inputs and the states before the step, at all places of the chunk.
  void find_rows(Size step, Size count) {
    for (Size k = 0; k < count; k++) {
      for (Size n = begins_[k]; n < begins_[k + 1]; n++) {
        xs_[n] = problem_.xs + this->at(places_[n]) * layout_.inputs;
        hs_[n] = previous(step + k, places_[n].row - first_);
      }
    }
  }

  // One step, backward.
  void take(Size time, Size k) {
    for (Size product = layout_.products; product-- > 0;) {
      for (Size n = begins_[k]; n < begins_[k + 1]; n++) gates(product, n);
      team_.barrier.wait(share_.members);  // the product reads the gates of all units
      multiply(product, begins_[k], begins_[k + 1] - begins_[k]);
    }
    for (Size r = 0; r < rows_; r++) {
      if (!this->reset(time, first_ + r)) continue;
      move(dh_ + r * layout_.padded, this->row(gradients_.dh_fresh, r));
      if (layout_.cell.states > 1) {
        move(dc_ + r * layout_.padded, this->row(gradients_.dc_fresh, r));
      }
    }
  }

  // Pull cotangents back through a recurrent product: add them to the state's cotangent,
  // or store them as those of what the second product read.
  void multiply(Size product, Size begin, Size count) {
    const Size width = layout_.h[product].panels.width();
    const Size start = share_.first_unit * kLanes<T>;
    const Blocks& da = blocks_h_[product];
    for (Size p = 0; p < share_.state.count(); p++) {
      const Size vectors = share_.state.vectors(p);
      const T* w = weights_.h[product] + start * width + share_.state.begin(p, width);
      const Size column = start + p * share_.state.step * kLanes<T>;
      for_tiles(count, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_blocks(rows, vectors, da.data(), da.size(), begin + first, w, sums);
        for (Size i = 0; i < rows; i++) {
          const Size r = places_[begin + first + i].row - first_;
          T* to = (product == 0 ? dh_ : dq_) + r * layout_.padded + column;
          for (Size j = 0; j < vectors; j++, to += kLanes<T>) {
            const V sum = sums[i * vectors + j];
            store(to, product == 0 ? load(to) + sum : sum);
          }
        }
      });
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
    add_products(layout_.x, xs_, layout_.inputs, blocks_, team_.dw_x);
    add_rows(layout_.x, blocks_, team_.db);
    for (Size product = 0; product < layout_.products; product++) {
      const Columns<T>& columns = layout_.h[product];
      const Blocks& da = blocks_h_[product];
      add_products(columns, product == 0 ? hs_ : qs_, layout_.units, da,
                   team_.dw_h[product]);
      if (layout_.cell.two_biases) add_rows(columns, da, team_.db_h[product]);
    }
    for (Size p = share_.first_input; p < share_.last_input; p++) {
      const Size vectors = layout_.input.vectors(p);
      const Size column = p * layout_.input.step * kLanes<T>;
      const Size columns = std::min(vectors * kLanes<T>, layout_.inputs - column);
      const T* w = weights_.x + layout_.input.begin(p, layout_.x.panels.width());
      for_tiles(num_places_, [&](Size first, Size rows) {
        V sums[kMaxRows * kMaxVectors];
        multiply_blocks(rows, vectors, blocks_.data(), blocks_.size(), first, w, sums);
        for (Size i = 0; i < rows; i++) {
          T* dx = gradients_.dxs + this->at(places_[first + i]) * layout_.inputs + column;
          std::memcpy(dx, sums + i * vectors, columns * sizeof(T));
        }
      });
    }
  }

  // sums (height, packed columns) += A^T da, where rows[n] is the row of A at place n. A is
  // copied to strips as wide as a tile is high, which all panels then read in order.
  void add_products(const Columns<T>& columns, const std::vector<const T*>& rows,
                    Size height, const Blocks& da, T* sums) {
    for_tiles(height, [&](Size first, Size count) {
      T* strip = strips_ + first * num_places_;
      for (Size n = 0; n < num_places_; n++) {
        for (Size i = 0; i < count; i++) *strip++ = rows[n][first + i];
      }
    });
    for (Size p = share_.first_panel(columns); p < share_.last_panel(columns); p++) {
      const Size vectors = columns.panels.vectors(p), length = columns.panels.length(p);
      T* to = sums + columns.panels.begin(p, height);
      for_tiles(height, [&](Size first, Size count) {
        add_transposed(count, vectors, strips_ + first * num_places_, num_places_,
                       da[p].first, to + first * length);
      });
    }
  }

  void add_rows(const Columns<T>& columns, const Blocks& da, T* sums) {
    for (Size p = share_.first_panel(columns); p < share_.last_panel(columns); p++) {
      const Size vectors = columns.panels.vectors(p);
      T* to = sums + columns.panels.begin(p, 1);
      V acc[kMaxVectors];
      for (Size j = 0; j < vectors; j++) acc[j] = load(to + j * kLanes<T>);
      for (Size n = 0; n < num_places_; n++) {
        const T* row = da[p].first + n * da[p].length;
        for (Size j = 0; j < vectors; j++) acc[j] += load(row + j * kLanes<T>);
      }
      for (Size j = 0; j < vectors; j++) store(to + j * kLanes<T>, acc[j]);
    }
  }

  const BackwardWeights<T>& weights_;
  const Cotangents<T>& given_;
  const Gradients<T>& gradients_;
  BackwardTeam<T>& team_;
  std::vector<Size> origins_;
  std::vector<const T*> xs_, hs_, qs_;  // rows that the products read, at each place
  Blocks blocks_, blocks_h_[2];
  Buffer<T> dh_, dc_, dq_;
  Buffer<T> strips_;  // of the rows that a gradient multiplies
};

// The gates of one cell, backward.
template <class Cell, class T>
class BackwardGates final : public BackwardPart<T> {
  using Base = BackwardPart<T>;
  using Base::dq_;
  using Base::layout_, Base::problem_, Base::share_, Base::first_, Base::capacity_;
  using Base::places_, Base::given_, Base::team_, Base::hs_, Base::dh_, Base::dc_;
  using V = Vec<T>;
  static constexpr Size lanes = kLanes<T>;

 public:
  using Base::Base;

 protected:
  void gates(Size product, Size n) override {
    const auto& place = places_[n];
    const Size at = this->at(place), r = place.row - first_;
    const Columns<T>& columns = layout_.h[product];
    for (Size unit = share_.first_unit; unit < share_.last_unit; unit++) {
      const Size present = layout_.present(unit),
                 offset = r * layout_.padded + unit * lanes;
      V kept[Cell::kKept + 1] = {}, da[Cell::kGates] = {}, da_h[Cell::kGates] = {};
      const T* record = given_.kept + at * layout_.kept + kept_begin<Cell, T>(unit);
      for (Size i = 0; i < Cell::kKept; i++) kept[i] = load(record + i * kLine<T>);
      V h_prev = {}, h = {};
      if (Cell::kReadsPrevious) h_prev = load_first(hs_[n] + unit * lanes, present);
      const Size y = at * layout_.units + unit * lanes;
      if (Cell::kReadsOutput) h = load_first(given_.ys + y, present);
      State<V> d = {load(dh_ + offset), V{}};
      if (product + 1 == layout_.products) d.h += load_first(given_.dys + y, present);
      if (Cell::kStates > 1) d.c = load(dc_ + offset);
      if constexpr (Cell::kTwoProducts) {
        if (product == 1) {
          V q;
          da[Cell::kGates - 1] = Cell::template candidate<T>(kept, h_prev, d.h, &q);
          store(team_.q + n * layout_.padded + unit * lanes, q);
        } else {
          d.h = Cell::template backward<T>(kept, h_prev, d.h, load(dq_ + offset), da);
        }
      } else {
        d = Cell::template backward<T>(problem_.option, kept, h_prev, h, d, da, da_h);
      }
      store(dh_ + offset, d.h);
      if (Cell::kStates > 1) store(dc_ + offset, d.c);
      T* to = team_.da + layout_.x.at(unit, n, capacity_) + columns.first * lanes;
      for (Size g = 0; g < columns.gates; g++) {
        store(to + g * lanes, da[columns.first + g]);
      }
      if (!Cell::kTwoBiases && !Cell::kTwoProducts) continue;
      const V* own = Cell::kTwoProducts ? da : da_h;
      to = team_.da_h[product] + columns.at(unit, n, capacity_);
      for (Size g = 0; g < columns.gates; g++) {
        store(to + g * lanes, own[columns.first + g]);
      }
    }
  }
};

template <class Cell, class T>
void backward(const Problem<T>& problem, const Cotangents<T>& given,
              const Gradients<T>& gradients, Threads& threads) {
  constexpr Traits cell = traits<Cell>();
  const Layout<T> layout(problem, cell);
  const Size state = problem.batch * problem.units;
  const Division division = divide(problem, cell, threads.count());
  BackwardWeights<T> weights;
  weights.x = Buffer<T>(layout.x.panels.width() * layout.input.width());
  for (Size product = 0; product < layout.products; product++) {
    const Size width = layout.h[product].panels.width();
    weights.h[product] = Buffer<T>(width * layout.padded);
  }
  auto pack_x = [&](Size panel) {
    pack_transposed(layout, layout.x, layout.input, 0, problem.w_x, layout.inputs, panel,
                    +weights.x);
  };
  auto pack_h = [&](const Share<T>& share, Size panel) {
    const Size start = share.first_unit * kLanes<T>;
    for (Size product = 0; product < layout.products; product++) {
      const Columns<T>& columns = layout.h[product];
      pack_transposed(layout, columns, share.state, start, problem.w_h, layout.units, panel,
                      weights.h[product] + start * columns.panels.width());
    }
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
      teams[team].allocate(layout, Part<T>::chunk_size(layout, problem.steps, rows) * rows);
    }
    parts.emplace_back(problem, cell, weights, given, gradients, teams[team], first, last);
  }
  if (division.members > 1) {
    threads.together(division.members, [&](Size member, Size members) {
      const Share<T> share(layout, member, members);
      for (Size p = share.first_input; p < share.last_input; p++) pack_x(p);
      for (Size p = 0; p < share.state.count(); p++) pack_h(share, p);
      parts[member].run(share);
    });
  } else {
    const Share<T> all(layout, 0, 1);
    for_each(count > 1, threads, layout.input.count(), pack_x);
    for_each(count > 1, threads, all.state.count(), [&](Size p) { pack_h(all, p); });
    threads.for_each(count, [&](Size n) { parts[n].run(all); });
  }

  // Sum the teams, and put the columns back into their order.
  std::vector<const T*> dw_x, db, dw_h[2], db_h[2];
  for (const auto& team : teams) {
    dw_x.push_back(team.dw_x), db.push_back(team.db);
    for (Size product = 0; product < layout.products; product++) {
      dw_h[product].push_back(team.dw_h[product]);
      db_h[product].push_back(team.db_h[product]);
    }
  }
  for_each(count > 1, threads, layout.x.panels.count(), [&](Size p) {
    unpack_gates(layout, layout.x, dw_x, layout.inputs, p, gradients.dw_x);
    unpack_gates(layout, layout.x, db, 1, p, gradients.db);
  });
  for (Size product = 0; product < layout.products; product++) {
    const Columns<T>& columns = layout.h[product];
    for_each(count > 1, threads, columns.panels.count(), [&](Size p) {
      unpack_gates(layout, columns, dw_h[product], layout.units, p, gradients.dw_h);
      if (!cell.two_biases) return;
      unpack_gates(layout, columns, db_h[product], 1, p, gradients.db_h);
    });
  }
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_BACKWARD_H_

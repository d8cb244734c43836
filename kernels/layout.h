// Memory, and how matrices are laid out in it.
#ifndef JAXRNN_LAYOUT_H_
#define JAXRNN_LAYOUT_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

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
#ifdef MADV_HUGEPAGE
    if (bytes >= kHuge) madvise(data_, round_up(bytes, alignment), MADV_HUGEPAGE);
#endif
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
  static constexpr Size kHuge =
      Size{2} * 1024 * 1024;  // a large page: fewer to fetch and find
  T* data_ = nullptr;
};

// The columns of a matrix, as vectors, cut into panels of at most `step` of them.
template <class T>
struct Panels {
  Size total, step;

  Size count() const { return (total + step - 1) / step; }
  Size vectors(Size panel) const { return std::min(step, total - panel * step); }
  Size length(Size panel) const { return vectors(panel) * kLanes<T>; }
  Size width() const { return total * kLanes<T>; }
  // Where a panel begins in a packed matrix of `rows` rows.
  Size begin(Size panel, Size rows) const { return panel * step * kLanes<T> * rows; }
};

// Some neighbouring gates of a matrix (., G H), as packed columns. They are in the order
// (vector of units, gate, lane), so that the gates of a unit are in one panel.
template <class T>
struct Columns {
  Columns(Size first, Size gates, Size unit_vectors)
      : first(first),
        gates(gates),
        per_panel(std::max<Size>(1, kMaxVectors / std::max<Size>(gates, 1))),
        panels{unit_vectors * gates, per_panel * std::max<Size>(gates, 1)} {}

  // Where the gates of a vector of units begin in row n of a packed matrix of `rows` rows.
  Size at(Size unit, Size n, Size rows) const {
    const Size panel = unit / per_panel;
    return panels.begin(panel, rows) + n * panels.length(panel) +
           unit % per_panel * gates * kLanes<T>;
  }

  Size first, gates;  // the first gate, and how many there are
  Size per_panel;     // vectors of units in a panel
  Panels<T> panels;
};

// What the loops need to know of a cell.
struct Traits {
  Size gates, states, kept;
  bool two_biases, two_products;
};

template <class Cell>
constexpr Traits traits() {
  return {Cell::kGates, Cell::kStates, Cell::kKept, Cell::kTwoBiases, Cell::kTwoProducts};
}

// Sizes that follow from a problem.
template <class T>
struct Layout {
  Layout(const Problem<T>& problem, const Traits& cell)
      : cell(cell),
        inputs(problem.inputs),
        units(problem.units),
        unit_vectors((units + kLanes<T> - 1) / kLanes<T>),
        padded(unit_vectors * kLanes<T>),
        kept(cell.kept * padded_units<T>(units)),
        products(cell.two_products ? 2 : 1),
        x(0, cell.gates, unit_vectors),
        h{{0, cell.gates - (products - 1), unit_vectors},
          {cell.gates - 1, products - 1, unit_vectors}},
        input{(inputs + kLanes<T> - 1) / kLanes<T>, kMaxVectors} {}

  // Units of a vector that exist.
  Size present(Size vector) const {
    return std::min(kLanes<T>, units - vector * kLanes<T>);
  }
  // Whether the cotangents of the two parts of the pre-activations are stored apart.
  bool apart() const { return cell.two_biases || cell.two_products; }

  const Traits cell;
  const Size inputs, units;
  const Size unit_vectors, padded;  // units as vectors, and their lanes
  const Size kept;                  // numbers kept of a place
  const Size products;              // products with the recurrent weights in a step
  const Columns<T> x;               // all gates: the product of the input
  const Columns<T> h[2];            // the gates of each recurrent product
  const Panels<T> input;            // the inputs, as columns of W_x^T
};

// Pack one panel of some gates of W (rows, G H).
template <class T>
void pack_gates(const Layout<T>& layout, const Columns<T>& columns, const T* w, Size rows,
                Size panel, T* packed) {
  constexpr Size lanes = kLanes<T>;
  const Size begin = panel * columns.panels.step, vectors = columns.panels.vectors(panel);
  packed += columns.panels.begin(panel, rows);
  for (Size k = 0; k < rows; k++) {
    const T* row = w + (k * layout.cell.gates + columns.first) * layout.units;
    for (Size v = begin; v < begin + vectors; v++, packed += lanes) {
      const Size unit = v / columns.gates;
      const T* from = row + v % columns.gates * layout.units + unit * lanes;
      store(packed, load_first(from, layout.present(unit)));
    }
  }
}

// The inverse of pack_gates, which sums several packed matrices.
template <class T>
void unpack_gates(const Layout<T>& layout, const Columns<T>& columns,
                  const std::vector<const T*>& packed, Size rows, Size panel, T* w) {
  constexpr Size lanes = kLanes<T>;
  const Size begin = panel * columns.panels.step, vectors = columns.panels.vectors(panel);
  Size from = columns.panels.begin(panel, rows);
  for (Size k = 0; k < rows; k++) {
    T* row = w + (k * layout.cell.gates + columns.first) * layout.units;
    for (Size v = begin; v < begin + vectors; v++, from += lanes) {
      Vec<T> total = load(packed[0] + from);
      for (Size n = 1; n < packed.size(); n++) total += load(packed[n] + from);
      const Size unit = v / columns.gates;
      T* to = row + v % columns.gates * layout.units + unit * lanes;
      store_first(to, total, layout.present(unit));
    }
  }
}

// Pack one panel of the transpose of some gates of W (rows, G H). Its columns are the rows
// of W, of which the panels begin at `start`; its rows are packed columns of W.
template <class T>
void pack_transposed(const Layout<T>& layout, const Columns<T>& columns,
                     const Panels<T>& panels, Size start, const T* w, Size rows, Size panel,
                     T* packed) {
  constexpr Size lanes = kLanes<T>;
  const Size width = layout.cell.gates * layout.units, length = panels.length(panel);
  const Size first = start + panel * panels.step * lanes;
  packed += panels.begin(panel, columns.panels.width());
  for (Size unit = 0; unit < layout.unit_vectors; unit++) {
    for (Size gate = columns.first; gate < columns.first + columns.gates; gate++) {
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

// Where what is kept of a vector of units begins. It is stored by cache lines of units,
// (line, kept, unit in the line), whatever the size of a vector: so one variant can read
// what another one wrote, if the variant is changed between two calls.
template <class Cell, class T>
Size kept_begin(Size vector) {
  constexpr Size per_line = kLine<T> / kLanes<T>;
  return vector / per_line * Cell::kKept * kLine<T> + vector % per_line * kLanes<T>;
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_LAYOUT_H_

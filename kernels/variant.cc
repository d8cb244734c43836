// One variant: all cells of cells.h, compiled for one set of instructions.
#include "backward.h"
#include "forward.h"
#include "variants.h"

namespace jaxrnn {
namespace VARIANT {
namespace {

template <class T, class Cell>
constexpr Loops<T> loops(const char* name) {
  return {name,        Cell::kGates,      Cell::kStates,
          Cell::kKept, &forward<Cell, T>, &backward<Cell, T>};
}

template <class T>
const std::vector<Loops<T>>& cells() {
  static const std::vector<Loops<T>> all = {
      loops<T, Lstm>("lstm"),
      loops<T, CoupledLstm>("coupled_lstm"),
      loops<T, Janet>("janet"),
      loops<T, Gru>("gru"),
      loops<T, GruBefore>("gru_before"),
      loops<T, Mgu>("mgu"),
      loops<T, Elman<Tanh>>("elman_tanh"),
      loops<T, Elman<Relu>>("elman_relu"),
      loops<T, Elman<LeakyRelu>>("elman_leaky_relu"),
      loops<T, Elman<Identity>>("elman_identity"),
  };
  return all;
}

}  // namespace

const std::vector<Loops<float>>& cells_float() { return cells<float>(); }
const std::vector<Loops<double>>& cells_double() { return cells<double>(); }

}  // namespace VARIANT
}  // namespace jaxrnn

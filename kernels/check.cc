// A small case of each cell with known values, which each variant has to reproduce before
// it is used. The values are those of the cells in JAX, in float64;
// tests/native/test_library.py compares.
#include "check.h"

#include <cmath>

namespace jaxrnn {
namespace {

constexpr Size kSteps = 5, kBatch = 3, kInputs = 2, kUnits = 7;

class OneThread : public Threads {
 public:
  Size count() const override { return 1; }
  void for_each(Size count, const std::function<void(Size)>& task) override {
    for (Size n = 0; n < count; n++) task(n);
  }
  void together(Size, const std::function<void(Size, Size)>& task) override { task(0, 1); }
};

// Numbers between -1/2 and 1/2 that every format holds exactly.
template <class T>
T number(Size n, Size seed) {
  return T(int((n * 37 + seed * 101) % 64) - 32) / T(64);
}

template <class T>
std::vector<T> numbers(Size count, Size seed) {
  std::vector<T> all(count);
  for (Size n = 0; n < count; n++) all[n] = number<T>(n, seed);
  return all;
}

template <class T>
double checksum(const std::vector<T>& values, Size seed) {
  double sum = 0;
  for (Size n = 0; n < values.size(); n++)
    sum += double(values[n]) * number<double>(n, seed);
  return sum;
}

// The checksum of all results and gradients of a run with mask, resets and clipping.
template <class T>
double run(const Loops<T>& loops) {
  const Size width = loops.gates * kUnits, state = kBatch * kUnits;
  const Size places = kSteps * kBatch;
  const auto xs = numbers<T>(places * kInputs, 1), w_x = numbers<T>(kInputs * width, 2);
  const auto w_h = numbers<T>(kUnits * width, 3), b = numbers<T>(width, 4);
  const auto b_h = numbers<T>(width, 5), h = numbers<T>(state, 6), c = numbers<T>(state, 7);
  const auto h_fresh = numbers<T>(state, 8), c_fresh = numbers<T>(state, 9);
  const auto dys = numbers<T>(places * kUnits, 10);
  const auto dh = numbers<T>(state, 11), dc = numbers<T>(state, 12);
  bool mask[places], resets[places];
  for (Size n = 0; n < places; n++) mask[n] = n % 4 != 1, resets[n] = n % 5 == 2;

  Problem<T> p = {};
  p.steps = kSteps, p.batch = kBatch, p.inputs = kInputs, p.units = kUnits;
  p.option = 0.5;
  p.xs = xs.data(), p.w_x = w_x.data(), p.w_h = w_h.data(), p.b = b.data();
  p.b_h = b_h.data(), p.h_first = h.data(), p.c_first = c.data();
  p.h_fresh = h_fresh.data(), p.c_fresh = c_fresh.data(), p.mask = mask, p.resets = resets;
  std::vector<T> ys(places * kUnits), h_last(state), c_last(state);
  std::vector<T> kept(places * loops.kept * padded_units<T>(kUnits) + 1);
  OneThread threads;
  loops.forward(p, {ys.data(), h_last.data(), c_last.data(), kept.data()}, threads);
  std::vector<T> dxs(places * kInputs), dw_x(kInputs * width), dw_h(kUnits * width);
  std::vector<T> db(width), db_h(width);
  std::vector<T> dh_first(state), dc_first(state), dh_fresh(state), dc_fresh(state);
  loops.backward(p, {ys.data(), kept.data(), dys.data(), dh.data(), dc.data()},
                 {dxs.data(), dw_x.data(), dw_h.data(), db.data(), db_h.data(),
                  dh_first.data(), dc_first.data(), dh_fresh.data(), dc_fresh.data()},
                 threads);
  double sum = 0;
  Size seed = 20;
  for (const auto* values : {&ys, &h_last, &c_last, &dxs, &dw_x, &dw_h, &db, &db_h,
                             &dh_first, &dc_first, &dh_fresh, &dc_fresh}) {
    sum += checksum(*values, seed++);
  }
  return sum;
}

struct Known {
  const char* cell;
  double sum;
};
constexpr Known kKnown[] = {
    {"lstm", -0.28331934331698194},           {"coupled_lstm", 0.007450015738672433},
    {"janet", -0.34776592885002966},          {"gru", -0.7028647697091999},
    {"gru_before", -0.7538542765860364},      {"mgu", -0.5144937106416294},
    {"elman_tanh", -0.66983515286795},        {"elman_relu", 1.5644667742890306},
    {"elman_leaky_relu", 1.5527172410585477}, {"elman_identity", -0.7119563188171014},
};

template <class T>
bool right(const std::vector<Loops<T>>& cells, double tolerance) {
  if (cells.size() != std::size(kKnown)) return false;
  for (Size n = 0; n < cells.size(); n++) {
    // Not a NaN either.
    if (!(std::abs(run(cells[n]) - kKnown[n].sum) < tolerance)) return false;
  }
  return true;
}

}  // namespace

bool check(const Variant& variant) {
  return right(variant.cells_float(), 1e-4) && right(variant.cells_double(), 1e-12);
}

double checksum_of(const Variant& variant, Size cell) {
  return run(variant.cells_double().at(cell));
}

}  // namespace jaxrnn

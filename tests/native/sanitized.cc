// Runs the kernels without Python, for sanitizers and emulators: the known values, and
// runs of many sizes on real threads, compared with the same runs on one thread.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "check.h"
#include "parallel.h"

namespace {

using namespace jaxrnn;

// A pool with the interface of XLA's: every task is a thread of its own.
class Pool {
 public:
  explicit Pool(int count) : count_(count) {}
  ~Pool() {
    for (auto& thread : threads_) thread.join();
  }
  std::int64_t num_threads() const { return count_; }
  template <class F>
  void Schedule(F task) {
    threads_.emplace_back(task);
  }

 private:
  const int count_;
  std::vector<std::thread> threads_;
};

template <class T>
using Arrays = std::vector<std::vector<T>>;

// All results of one run, forward and backward.
template <class T>
Arrays<T> run(const Loops<T>& loops, Size steps, Size batch, Size inputs, Size units,
              bool flags, int num_threads) {
  std::mt19937 draw(1);
  std::normal_distribution<T> normal(0, T(0.5));
  const Size width = loops.gates * units, state = batch * units, places = steps * batch;
  auto numbers = [&](Size count) {
    std::vector<T> all(count);
    for (auto& each : all) each = normal(draw);
    return all;
  };
  const auto xs = numbers(places * inputs), w_x = numbers(inputs * width);
  const auto w_h = numbers(units * width), b = numbers(width), b_h = numbers(width);
  const auto h = numbers(state), c = numbers(state);
  const auto h_fresh = numbers(state), c_fresh = numbers(state);
  const auto dys = numbers(places * units), dh = numbers(state), dc = numbers(state);
  std::vector<char> mask(places), resets(places);
  for (Size n = 0; n < places; n++) mask[n] = n % 4 != 1, resets[n] = n % 5 == 2;
  Problem<T> p = {};
  p.steps = steps, p.batch = batch, p.inputs = inputs, p.units = units;
  p.reverse = flags, p.xs = xs.data(), p.w_x = w_x.data(), p.w_h = w_h.data();
  p.b = b.data(), p.b_h = b_h.data(), p.h_first = h.data(), p.c_first = c.data();
  if (flags) {
    p.h_fresh = h_fresh.data(), p.c_fresh = c_fresh.data();
    p.mask = reinterpret_cast<const bool*>(mask.data());
    p.resets = reinterpret_cast<const bool*>(resets.data());
  }
  Arrays<T> out;
  auto array = [&](Size count) { return out.emplace_back(count).data(); };
  out.reserve(16);
  const Size size = loops.kept * padded_units<T>(units);
  Results<T> results{array(places * units), array(state), array(state), nullptr};
  std::vector<T> kept(places * size + 1);
  results.kept = kept.data();
  {
    Pool pool(num_threads);
    PoolThreads<Pool> threads(pool);
    loops.forward(p, results, threads);
  }
  const Cotangents<T> given{results.ys, kept.data(), dys.data(), dh.data(), dc.data()};
  const Gradients<T> gradients{
      array(places * inputs), array(inputs * width), array(units * width),
      array(width),           array(width),          array(state),
      array(state),           array(state),          array(state)};
  Pool pool(num_threads);
  PoolThreads<Pool> threads(pool);
  loops.backward(p, given, gradients, threads);
  return out;
}

template <class T>
bool same_on_all_threads(const std::vector<Loops<T>>& cells) {
  const Size sizes[][4] = {{1, 1, 1, 1},   {3, 2, 5, 7},    {40, 13, 17, 33},
                           {9, 8, 64, 64}, {2, 3, 30, 400}, {5, 1, 3, 500}};
  for (const auto& loops : cells) {
    for (const auto& s : sizes) {
      for (bool flags : {false, true}) {
        const auto one = run(loops, s[0], s[1], s[2], s[3], flags, 1);
        const auto two = run(loops, s[0], s[1], s[2], s[3], flags, 3);
        for (Size n = 0; n < one.size(); n++) {
          for (Size i = 0; i < one[n].size(); i++) {
            const double scale = 1 + std::abs(double(one[n][i]));
            const double bound = sizeof(T) == 4 ? 1e-3 : 1e-11;
            if (!(std::abs(double(one[n][i] - two[n][i])) < bound * scale)) {
              std::printf("%s: array %zu differs at %zu\n", loops.cell, n, i);
              return false;
            }
          }
        }
      }
    }
  }
  return true;
}

}  // namespace

int main() {
  for (const auto& variant : variants()) {
    if (!variant.runs_here()) continue;
    const bool right = check(variant) && same_on_all_threads(variant.cells_float()) &&
                       same_on_all_threads(variant.cells_double());
    std::printf("%s %s\n", variant.name, right ? "right" : "WRONG");
    if (!right) return 1;
  }
  return 0;
}

#include "variants.h"

#include <atomic>
#include <cstring>

namespace jaxrnn {
namespace {

std::atomic<const Variant*> chosen{nullptr};

const std::vector<Loops<float>>& cells_of(const Variant& variant, float) {
  return variant.cells_float();
}
const std::vector<Loops<double>>& cells_of(const Variant& variant, double) {
  return variant.cells_double();
}

}  // namespace

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
#if defined(__x86_64__)
      {"avx512",
       [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("fma");
       },
       avx512::cells_float, avx512::cells_double},
      {"avx2",
       [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
       avx2::cells_float, avx2::cells_double},
      {"sse2", [] { return true; }, baseline::cells_float, baseline::cells_double},
#else
      {"neon", [] { return true; }, baseline::cells_float, baseline::cells_double},
#endif
  };
  return all;
}

const Variant* selected() { return chosen.load(); }

bool select(const char* name) {
  for (const Variant& variant : variants()) {
    if (std::strcmp(variant.name, name) != 0 || !variant.runs_here()) continue;
    chosen.store(&variant);
    return true;
  }
  return false;
}

template <class T>
const Loops<T>* find(const Variant& variant, const char* cell, Size length) {
  for (const Loops<T>& loops : cells_of(variant, T())) {
    if (std::strlen(loops.cell) == length && std::memcmp(loops.cell, cell, length) == 0) {
      return &loops;
    }
  }
  return nullptr;
}

template const Loops<float>* find(const Variant&, const char*, Size);
template const Loops<double>* find(const Variant&, const char*, Size);

}  // namespace jaxrnn

// The custom calls of XLA: arrays and attributes in, arrays out.
#include <algorithm>
#include <cstdint>
#include <new>
#include <string>

#include "check.h"
#include "parallel.h"
#include "variants.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {
namespace {

namespace ffi = xla::ffi;
using ffi::Error, ffi::ErrorCode;

// Positions of the operands, and of the results after those that both calls share.
enum Operand { kXs, kWx, kWh, kB, kBh, kH, kC, kHFresh, kCFresh, kMask, kResets, kCommon };
enum Given { kYs = kCommon, kKept, kDys, kDhLast, kDcLast, kBackwardOperands };
enum Result { kRYs, kRHLast, kRCLast, kRKept, kForwardResults };
enum Gradient { kDxs, kDwx, kDwh, kDb, kDbh, kDh, kDc, kDhFresh, kDcFresh, kGradients };

template <class T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::F32 : ffi::F64;

// Reads buffers, and notes the first one that is not as it has to be.
class Reader {
 public:
  Reader(ffi::RemainingArgs& args, ffi::RemainingRets& rets) : args_(args), rets_(rets) {}

  template <class T>
  const T* operand(Size index, Size count) {
    auto buffer = args_.get<ffi::AnyBuffer>(index);
    if (!buffer.has_value()) return fail<T>("operand", index);
    return check<T>("operand", index, *buffer, count);
  }

  template <class T>
  T* result(Size index, Size count) {
    auto buffer = rets_.get<ffi::AnyBuffer>(index);
    if (!buffer.has_value()) return fail<T>("result", index);
    return check<T>("result", index, **buffer, count);
  }

  const std::string& error() const { return error_; }

 private:
  template <class T>
  T* check(const char* kind, Size index, ffi::AnyBuffer buffer, Size count) {
    const bool typed = sizeof(T) == 1 ? buffer.element_type() == ffi::PRED
                                      : buffer.element_type() == kType<T>;
    if (!typed || buffer.element_count() != count) return fail<T>(kind, index);
    return count == 0 ? nullptr : static_cast<T*>(buffer.untyped_data());
  }

  template <class T>
  T* fail(const char* kind, Size index) {
    if (error_.empty()) {
      error_ =
          std::string(kind) + " " + std::to_string(index) + " has another type or size";
    }
    return nullptr;
  }

  ffi::RemainingArgs& args_;
  ffi::RemainingRets& rets_;
  std::string error_;
};

struct Attributes {
  std::string_view cell;
  bool reverse;
  double option;
};

// The problem that the operands describe. Absent arrays have no elements.
template <class T>
Problem<T> read_problem(Reader& reader, ffi::RemainingArgs& args, const Loops<T>& loops,
                        const Attributes& attributes) {
  Problem<T> p = {};
  auto xs = args.get<ffi::AnyBuffer>(kXs);
  auto w_h = args.get<ffi::AnyBuffer>(kWh);
  auto mask = args.get<ffi::AnyBuffer>(kMask);
  auto resets = args.get<ffi::AnyBuffer>(kResets);
  auto b_h = args.get<ffi::AnyBuffer>(kBh);
  if (!xs.has_value() || xs->dimensions().size() != 3 || !w_h.has_value() ||
      w_h->dimensions().size() != 2 || !mask.has_value() || !resets.has_value() ||
      !b_h.has_value()) {
    reader.operand<T>(kXs, 0);
    reader.operand<T>(kCommon, 0);  // there is none: notes an error
    return p;
  }
  p.steps = Size(xs->dimensions()[0]);
  p.batch = Size(xs->dimensions()[1]);
  p.inputs = Size(xs->dimensions()[2]);
  p.units = Size(w_h->dimensions()[0]);
  p.reverse = attributes.reverse;
  p.option = attributes.option;
  const Size width = loops.gates * p.units, state = p.batch * p.units;
  const Size second = loops.states > 1 ? state : 0;
  const Size places = p.steps * p.batch;
  const bool has_resets = resets->element_count() > 0;
  p.xs = reader.operand<T>(kXs, places * p.inputs);
  p.w_x = reader.operand<T>(kWx, p.inputs * width);
  p.w_h = reader.operand<T>(kWh, p.units * width);
  p.b = reader.operand<T>(kB, width);
  p.b_h = reader.operand<T>(kBh, b_h->element_count() > 0 ? width : 0);
  p.h_first = reader.operand<T>(kH, state);
  p.c_first = reader.operand<T>(kC, second);
  p.h_fresh = reader.operand<T>(kHFresh, has_resets ? state : 0);
  p.c_fresh = reader.operand<T>(kCFresh, has_resets ? second : 0);
  p.mask = reader.operand<bool>(kMask, mask->element_count() > 0 ? places : 0);
  p.resets = reader.operand<bool>(kResets, has_resets ? places : 0);
  return p;
}

Error invalid(const std::string& what) {
  return Error(ErrorCode::kInvalidArgument, "jaxrnn: " + what);
}

// Find the loops of the cell, read the problem, and call run(loops, problem, reader), which
// reads the other arrays and returns a function that computes.
template <class T, class Run>
Error run_loops(ffi::ThreadPool& pool, const Attributes& attributes,
                ffi::RemainingArgs& args, ffi::RemainingRets& rets, Run run) {
  const Variant* variant = selected();
  if (variant == nullptr) return Error(ErrorCode::kInternal, "jaxrnn: no variant");
  const auto* loops = find<T>(*variant, attributes.cell.data(), attributes.cell.size());
  if (loops == nullptr) return invalid("no cell " + std::string(attributes.cell));
  Reader reader(args, rets);
  const Problem<T> problem = read_problem<T>(reader, args, *loops, attributes);
  const auto compute = run(*loops, problem, reader);
  if (!reader.error().empty()) return invalid(reader.error());
  PoolThreads<ffi::ThreadPool> threads(pool);
  try {
    compute(threads);
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kResourceExhausted, "jaxrnn: out of memory in a kernel");
  }
  return Error::Success();
}

template <class T>
Error run_forward(ffi::ThreadPool pool, const Attributes& attributes,
                  ffi::RemainingArgs args, ffi::RemainingRets rets) {
  auto kept = rets.get<ffi::AnyBuffer>(kRKept);
  const bool keep = kept.has_value() && (*kept)->dimensions().size() == 3;
  auto run = [keep](const Loops<T>& loops, const Problem<T>& p, Reader& reader) {
    const Size state = p.batch * p.units, places = p.steps * p.batch;
    const Size record = keep ? loops.kept * padded_units<T>(p.units) : 0;
    Results<T> r = {};
    r.ys = reader.result<T>(kRYs, places * p.units);
    r.h_last = reader.result<T>(kRHLast, state);
    r.c_last = reader.result<T>(kRCLast, loops.states > 1 ? state : 0);
    r.kept = reader.result<T>(kRKept, places * record);
    return [&loops, &p, r](Threads& threads) { loops.forward(p, r, threads); };
  };
  return run_loops<T>(pool, attributes, args, rets, run);
}

template <class T>
Error run_backward(ffi::ThreadPool pool, const Attributes& attributes,
                   ffi::RemainingArgs args, ffi::RemainingRets rets) {
  auto run = [](const Loops<T>& loops, const Problem<T>& p, Reader& reader) {
    const Size state = p.batch * p.units, places = p.steps * p.batch;
    const Size second = loops.states > 1 ? state : 0, width = loops.gates * p.units;
    const bool has_resets = p.resets != nullptr;
    Cotangents<T> c = {};
    c.ys = reader.operand<T>(kYs, places * p.units);
    c.kept = reader.operand<T>(kKept, places * loops.kept * padded_units<T>(p.units));
    c.dys = reader.operand<T>(kDys, places * p.units);
    c.dh_last = reader.operand<T>(kDhLast, state);
    c.dc_last = reader.operand<T>(kDcLast, second);
    Gradients<T> g = {};
    g.dxs = reader.result<T>(kDxs, places * p.inputs);
    g.dw_x = reader.result<T>(kDwx, p.inputs * width);
    g.dw_h = reader.result<T>(kDwh, p.units * width);
    g.db = reader.result<T>(kDb, width);
    g.db_h = reader.result<T>(kDbh, p.b_h != nullptr ? width : 0);
    g.dh_first = reader.result<T>(kDh, state);
    g.dc_first = reader.result<T>(kDc, second);
    g.dh_fresh = reader.result<T>(kDhFresh, has_resets ? state : 0);
    g.dc_fresh = reader.result<T>(kDcFresh, has_resets ? second : 0);
    return [&loops, &p, c, g](Threads& threads) { loops.backward(p, c, g, threads); };
  };
  return run_loops<T>(pool, attributes, args, rets, run);
}

bool is_double(ffi::RemainingArgs& args) {
  auto xs = args.get<ffi::AnyBuffer>(kXs);
  return xs.has_value() && xs->element_type() == ffi::F64;
}

Error forward_handler(ffi::ThreadPool pool, std::string_view cell, bool reverse,
                      double option, ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Attributes attributes{cell, reverse, option};
  return is_double(args) ? run_forward<double>(pool, attributes, args, rets)
                         : run_forward<float>(pool, attributes, args, rets);
}

Error backward_handler(ffi::ThreadPool pool, std::string_view cell, bool reverse,
                       double option, ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Attributes attributes{cell, reverse, option};
  return is_double(args) ? run_backward<double>(pool, attributes, args, rets)
                         : run_backward<float>(pool, attributes, args, rets);
}

}  // namespace
}  // namespace jaxrnn

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxrnn_forward, jaxrnn::forward_handler,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Attr<std::string_view>("cell")
                                  .Attr<bool>("reverse")
                                  .Attr<double>("option")
                                  .RemainingArgs()
                                  .RemainingRets());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxrnn_backward, jaxrnn::backward_handler,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Attr<std::string_view>("cell")
                                  .Attr<bool>("reverse")
                                  .Attr<double>("option")
                                  .RemainingArgs()
                                  .RemainingRets());

extern "C" {

// Names of the variants that this processor can run, the fastest first, with spaces.
const char* jaxrnn_variants() {
  static const std::string names = [] {
    std::string all;
    for (const auto& variant : jaxrnn::variants()) {
      if (variant.runs_here()) all += std::string(all.empty() ? "" : " ") + variant.name;
    }
    return all;
  }();
  return names.c_str();
}

int jaxrnn_select(const char* variant) { return jaxrnn::select(variant) ? 1 : 0; }

// Whether a variant, which the processor can run, computes rightly.
int jaxrnn_check(const char* name) {
  for (const auto& variant : jaxrnn::variants()) {
    if (std::string(variant.name) == name) {
      return variant.runs_here() && jaxrnn::check(variant) ? 1 : 0;
    }
  }
  return 0;
}

double jaxrnn_checksum(const char* name, int cell) {
  for (const auto& variant : jaxrnn::variants()) {
    if (std::string(variant.name) == name && variant.runs_here()) {
      return jaxrnn::checksum_of(variant, jaxrnn::Size(cell));
    }
  }
  return 0;
}

// The version of XLA's interface for calls that this library is made for.
int jaxrnn_ffi_version() { return 1000 * XLA_FFI_API_MAJOR + XLA_FFI_API_MINOR; }

// INTERFACE in jaxrnn/_native/library.py.
int jaxrnn_interface() { return 1; }

}  // extern "C"

#pragma GCC visibility pop

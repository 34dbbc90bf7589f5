// Checks of a call's buffers against each other, before anything is read: whoever calls, no shape reaches beyond memory.
#ifndef JAXRNN_SHAPES_H_
#define JAXRNN_SHAPES_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "arrays.h"
#include "cells.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {

namespace ffi = xla::ffi;

using Shape = ffi::AnyBuffer::Dimensions;

// Whether a buffer has to be there; one that is absent is empty, of shape (0,) behind the axes of models.
enum class Presence { kNeeded, kOptional, kAbsent };
constexpr Presence NeededIf(bool needed) { return needed ? Presence::kNeeded : Presence::kAbsent; }
constexpr Presence OptionalIf(bool known) { return known ? Presence::kOptional : Presence::kAbsent; }

// Sizes that the code holds in an int, some of them times four or more.
constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max() - 2;
constexpr int64_t kMaxInputs = 1 << 30;
constexpr int64_t kMaxUnits = 1 << 27;
constexpr double kMaxElements = double(int64_t{1} << 62);  // of an array, or what would be one if it were not absent

// The sizes of a call, and the first of its buffers that has another shape.
class ShapeCheck {
 public:
  // Takes the sizes from the arrays that have them: `inputs` (models.., batch, time, input), `weight_hh`'s last axis and
  // the first of `h_targets`.
  ShapeCheck(const char* call, int num_gates, Shape inputs, Shape weight_hh, Shape h_targets)
      : call_(call), inputs_(inputs), weight_hh_(weight_hh) {
    if (inputs.size() < 3) {
      Refuse("inputs", inputs, "(batch, time, input), behind any axes of models");
      return;
    }
    models_ = inputs.first(inputs.size() - 3);
    const Shape own = inputs.last(3);
    sizes_ = {1, own[1], own[0], own[2], 0, 0};
    if (weight_hh.size() != models_.size() + 2 || weight_hh.back() < 1) {
      Refuse("weight_hh", weight_hh, "(gates, units), at least one unit, behind the inputs' axes of models");
      return;
    }
    sizes_.hidden = weight_hh.back();
    if (!IsAbsent(h_targets)) {
      if (h_targets.size() != models_.size() + 3) {
        Refuse("h_targets", h_targets, "(targets, batch, units), behind the inputs' axes of models, or (0,) there");
        return;
      }
      sizes_.targets = h_targets[models_.size()];
    }
    double models = 1;
    for (const int64_t axis : models_) models *= axis;
    const double width = double(num_gates + 1) * (sizes_.hidden + kLanes), pairs = double(own[0]) * own[1];
    const double most = std::max({pairs * std::max<double>(width, own[2]), width * (double(own[2]) + width),
                                  (double(sizes_.targets) + 1) * own[0] * width});
    if (std::max(own[0], own[1]) > kMaxCount || own[2] > kMaxInputs || sizes_.hidden > kMaxUnits ||
        sizes_.targets > kMaxCount || models > kMaxCount || std::max(models, 1.0) * most > kMaxElements) {
      Refuse("inputs", inputs, "fewer models, steps, rows, inputs or units than that: indices would not hold them");
      return;
    }
    sizes_.models = int64_t(models);
  }

  bool IsAbsent(Shape shape) const { return Has(shape, {0}); }

  // Refuses a buffer, unless it has a shape behind the axes of models, or may be absent and is.
  template <size_t n>
  void Check(const char* name, Shape got, const int64_t (&wanted)[n], Presence presence = Presence::kNeeded) {
    if (presence != Presence::kAbsent && Has(got, wanted)) return;
    if (presence != Presence::kNeeded && IsAbsent(got)) return;
    Refuse(name, got, presence, Shape(wanted, n));
  }

  const Sizes& sizes() const { return sizes_; }
  bool ok() const { return message_.empty(); }
  ffi::Error error() const { return ok() ? ffi::Error::Success() : ffi::Error::InvalidArgument(message_); }

 private:
  // Plain loops, which the compiler unrolls: a call of one step takes a few microseconds, and checks dozens of shapes.
  template <size_t n>
  bool Has(Shape shape, const int64_t (&own)[n]) const {
    const size_t axes = models_.size();
    if (shape.size() != axes + n) return false;
    for (size_t i = 0; i < n; ++i) {
      if (shape[axes + i] != own[i]) return false;
    }
    for (size_t i = 0; i < axes; ++i) {
      if (shape[i] != models_[i]) return false;
    }
    return true;
  }

  __attribute__((noinline)) void Refuse(const char* name, Shape got, Presence presence, Shape wanted) {
    if (!ok()) return;  // the first one is told
    const int64_t zero[] = {0};
    const std::string none = BehindModels(Shape(zero, 1));
    std::string expected = presence == Presence::kAbsent ? none + ", as it has no part in this call"
                                                         : BehindModels(wanted);
    if (presence == Presence::kOptional) expected += ", or " + none + " for none";
    Refuse(name, got, expected);
  }
  void Refuse(const std::string& name, Shape got, const std::string& expected) {
    sizes_ = {};  // nothing is computed from them
    message_ = std::string(call_) + ": " + name + " has shape " + Text(got) + ", expected " + expected +
               "; inputs are " + Text(inputs_) + ", weight_hh is " + Text(weight_hh_);
  }

  std::string BehindModels(Shape own) const {
    std::vector<int64_t> whole(models_.begin(), models_.end());
    whole.insert(whole.end(), own.begin(), own.end());
    return Text(whole);
  }
  static std::string Text(Shape shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (shape.size() == 1 ? ",)" : ")");
  }

  const char* call_;
  Shape inputs_, weight_hh_, models_;
  Sizes sizes_{};
  std::string message_;
};

}  // namespace jaxrnn

#endif  // JAXRNN_SHAPES_H_

#include "graph/side_by_side.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <utility>

namespace s2s {
namespace {

// Asked by the caller, whose thread the call's own interruption is for.
class Asking final : public Interruption {
 public:
  explicit Asking(Interruption* call) : call_(call) {}
  bool asked() noexcept override {
    if (call_ != nullptr && call_->asked()) told.store(true, std::memory_order_relaxed);
    return told.load(std::memory_order_relaxed);
  }

  std::atomic<bool> told = false;

 private:
  Interruption* call_;
};

// Asked by any other member.
class Told final : public Interruption {
 public:
  explicit Told(const Asking& caller) : caller_(caller) {}
  bool asked() noexcept override { return caller_.told.load(std::memory_order_relaxed); }

 private:
  const Asking& caller_;
};

class SideBySide final : public Op {
 public:
  explicit SideBySide(std::vector<std::unique_ptr<Layer>> layers) : layers_(std::move(layers)) {}

  // A layer asks for a member but once; its steps would do so again and again. They are shared in
  // place of layers where more members than there are layers would be of use to them.
  void run(const Context& context) const noexcept override {
    const auto count = static_cast<int64_t>(layers_.size());
    int members = 1;
    int64_t promised = 0;
    if (context.team != nullptr) {
      int64_t bytes = 0, position_bytes = 0;
      for (const auto& layer : layers_) {
        const int64_t of_position = layer->position_bytes(context.frame);
        position_bytes = std::max(position_bytes, of_position);
        bytes += of_position * layer->positions(context.frame);
      }
      if (context.team->worth(position_bytes) <= count) {
        promised = bytes;
        context.team->promise(promised, 1);
        members = context.team->members_for(bytes);
      }
    }
    if (members == 1) {
      if (promised > 0) context.team->promise(promised, -1);  // each layer promises its own
      for (const auto& layer : layers_) layer->run(context);
      return;
    }
    Asking caller(context.interruption);
    Told others(caller);
    context.team->run(count, members, [&](int64_t number, int member) noexcept {
      Context own = context;
      own.team = nullptr;
      own.interruption = &others;
      if (member == 0) own.interruption = &caller;
      layers_[static_cast<std::size_t>(number)]->run(own);
    });
  }

 private:
  std::vector<std::unique_ptr<Layer>> layers_;
};

bool is_layer(const Step& step) {
  return step.level == Level::sentence && dynamic_cast<const Layer*>(step.op.get()) != nullptr;
}

// Takes out of `steps` the layers behind `first` that may run beside it.
std::vector<Step> beside(std::vector<Step>& steps, std::size_t first) {
  std::set<SlotId> written(steps[first].writes.begin(), steps[first].writes.end());
  std::vector<Step> found;
  for (std::size_t n = first + 1; n < steps.size();) {
    Step& step = steps[n];
    const bool waits = std::any_of(step.reads.begin(), step.reads.end(),
                                   [&](SlotId slot) { return written.contains(slot); });
    written.insert(step.writes.begin(), step.writes.end());
    if (waits || !is_layer(step)) {
      ++n;
      continue;
    }
    found.push_back(std::move(step));
    steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(n));
  }
  return found;
}

std::unique_ptr<Layer> layer_of(Step& step) {
  return std::unique_ptr<Layer>(static_cast<Layer*>(step.op.release()));
}

}  // namespace

std::vector<Step> side_by_side(std::vector<Step> steps) {
  for (std::size_t n = 0; n < steps.size(); ++n) {
    Step& step = steps[n];
    if (!is_layer(step)) continue;
    std::vector<Step> others = beside(steps, n);
    if (others.empty()) continue;
    std::vector<std::unique_ptr<Layer>> layers;
    layers.push_back(layer_of(step));
    for (Step& other : others) {
      layers.push_back(layer_of(other));
      step.reads.insert(step.reads.end(), other.reads.begin(), other.reads.end());
      step.writes.insert(step.writes.end(), other.writes.begin(), other.writes.end());
      step.node += " + " + other.node;
    }
    step.op = std::make_unique<SideBySide>(std::move(layers));
  }
  return steps;
}

}  // namespace s2s

// When a call has to end: its deadline, a token that somebody cancels, a signal for Python.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <utility>

#include "core/interruption.h"

namespace s2s::python {

// Cancels the calls that it is given to, from any thread and for good.
class CancelToken {
 public:
  // Cancelled with its parent, if there is one, as well; the parent lives longer.
  explicit CancelToken(const CancelToken* parent) : parent_(parent) {}
  void cancel() noexcept { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const noexcept {
    return cancelled_.load(std::memory_order_acquire) ||
           (parent_ != nullptr && parent_->cancelled());
  }

  // For tests: called at every check; a number that it returns is taken for the seconds that the
  // call has run.
  pybind11::object on_check = pybind11::none();
  const pybind11::object& hook() const noexcept {
    return parent_ == nullptr ? on_check : parent_->hook();
  }

 private:
  const CancelToken* parent_;
  std::atomic<bool> cancelled_ = false;
};

enum class Stopped { no, timeout, cancelled, error };

inline const char* word_of(Stopped stopped) {
  return stopped == Stopped::timeout ? "timeout" : "cancelled";
}

// Watches over one call, on one thread. It is made and asked for its end with Python's lock held,
// and asked in between without.
class Watch final : public Interruption {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  static inline std::atomic<unsigned long> main_thread = 0;

  Watch(const CancelToken* token, double seconds)
      : token_(token),
        hooked_(token != nullptr && !token->hook().is_none()),
        main_(PyThread_get_thread_ident() == main_thread),
        timed_(seconds < kNever),
        seconds_(seconds) {
    if (timed_) start_ = Clock::now();
  }

  bool asked() noexcept override {
    if (stopped_ != Stopped::no) return true;
    double passed = -1.0;
    if (hooked_) call_hook(passed);
    if (stopped_ != Stopped::no) return true;
    if (token_ != nullptr && token_->cancelled()) {
      stopped_ = Stopped::cancelled;
    } else if (timed_ || main_) {
      const Clock::time_point now = Clock::now();
      if (timed_ && passed < 0.0) passed = std::chrono::duration<double>(now - start_).count();
      if (timed_ && passed >= seconds_)
        stopped_ = Stopped::timeout;
      else if (main_)
        look_for_signals(now);
    }
    return stopped_ != Stopped::no;
  }

  // How the call ended; throws what a signal's handler raised.
  Stopped end() {
    if (error_) throw std::move(*error_);
    return stopped_;
  }

 private:
  // Python's lock may have to be waited for: looking takes at most a tenth of the time, and is not
  // worth while more often than every 50 us. A call that is done sooner never looks: Python does.
  void look_for_signals(Clock::time_point now) noexcept {
    constexpr Clock::duration kPause = std::chrono::microseconds(50);
    if (next_look_ == Clock::time_point()) next_look_ = now + kPause;
    if (!hooked_ && now < next_look_) return;
    const pybind11::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) keep_error();
    const Clock::time_point after = Clock::now();
    next_look_ = after + std::max(9 * (after - now), kPause);
  }

  void call_hook(double& passed) noexcept {
    const pybind11::gil_scoped_acquire lock;
    PyObject* result = PyObject_CallNoArgs(token_->hook().ptr());
    if (result == nullptr) return keep_error();
    if (PyFloat_Check(result)) passed = PyFloat_AsDouble(result);
    Py_DECREF(result);
  }

  void keep_error() noexcept {
    error_ = std::make_unique<pybind11::error_already_set>();
    stopped_ = Stopped::error;
  }

  const CancelToken* token_;
  bool hooked_, main_, timed_;
  double seconds_;
  Clock::time_point start_;
  Clock::time_point next_look_;
  Stopped stopped_ = Stopped::no;
  std::unique_ptr<pybind11::error_already_set> error_;
};

}  // namespace s2s::python

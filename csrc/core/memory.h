// Aligned memory that only grows: the one place of the core that allocates numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace s2s {

inline constexpr std::size_t kAlignment = 64;

// Zeroed, 64-byte aligned bytes. `reserve` keeps nothing of the old content.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes) { reserve(bytes); }
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { release(); }

  void reserve(std::size_t bytes) {
    if (bytes <= size_) return;
    void* fresh = ::operator new(bytes, std::align_val_t{kAlignment});
    release();
    std::memset(fresh, 0, bytes);
    data_ = fresh;
    size_ = bytes;
  }
  std::size_t size() const noexcept { return size_; }
  std::byte* bytes() const noexcept { return static_cast<std::byte*>(data_); }
  float* floats() const noexcept { return static_cast<float*>(data_); }

 private:
  void release() noexcept { ::operator delete(data_, std::align_val_t{kAlignment}); }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace s2s

// Aligned memory that only grows: the one place of the core that allocates numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#include <sys/mman.h>
#define S2S_MAPS_MEMORY 1
#else
#define S2S_MAPS_MEMORY 0
#endif

namespace s2s {

inline constexpr std::size_t kAlignment = 64;

// Zeroed, 64-byte aligned bytes. `reserve` keeps nothing of the old content. What is large is
// mapped (but for the address sanitizer, which watches the heap): its pages come zeroed, all at
// once, and go back to the system as soon as they are released, whatever else lies in the heap.
// From 4 MiB on it asks for huge pages: what no cache holds is read up to a tenth faster.
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
    void* fresh = zeroed(bytes);
    release();
    data_ = fresh;
    size_ = bytes;
  }
  std::size_t size() const noexcept { return size_; }
  std::byte* bytes() const noexcept { return static_cast<std::byte*>(data_); }
  float* floats() const noexcept { return static_cast<float*>(data_); }

 private:
  static constexpr std::size_t kMapped = std::size_t{1} << 17, kHuge = std::size_t{1} << 22;

  static bool maps(std::size_t bytes) noexcept { return S2S_MAPS_MEMORY != 0 && bytes >= kMapped; }

  static void* zeroed(std::size_t bytes) {
#if S2S_MAPS_MEMORY
    if (maps(bytes)) {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (bytes < kHuge ? MAP_POPULATE : 0);
      void* fresh = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (fresh == MAP_FAILED) throw std::bad_alloc();
      if (bytes >= kHuge) {
        ::madvise(fresh, bytes, MADV_HUGEPAGE);  // where the system grants them
        auto* page = static_cast<volatile char*>(fresh);
        for (std::size_t at = 0; at < bytes; at += 4096) page[at] = 0;
      }
      return fresh;
    }
#endif
    void* fresh = ::operator new(bytes, std::align_val_t{kAlignment});
    std::memset(fresh, 0, bytes);
    return fresh;
  }

  void release() noexcept {
#if S2S_MAPS_MEMORY
    if (maps(size_)) {
      ::munmap(data_, size_);
      return;
    }
#endif
    ::operator delete(data_, std::align_val_t{kAlignment});
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace s2s

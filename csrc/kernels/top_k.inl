// The best of a row. Numbers are kept in `best`; blocks with nothing above the worst of them are
// skipped with a few compares.

// a before b in the result. Never asked about NaN.
inline bool before(const Candidate& a, const Candidate& b) noexcept {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Keeps best[0 ... count-1] sorted. Candidates come in the order of their ids, so that an equal one
// stays behind.
struct SortedList {
  Candidate* best;
  int64_t count;

  void insert(int64_t held, Candidate candidate) const noexcept {
    int64_t at = held;
    for (; at > 0 && best[at - 1].value < candidate.value; --at) best[at] = best[at - 1];
    best[at] = candidate;
  }
  float worst() const noexcept { return best[count - 1].value; }
  void add(int64_t held, Candidate candidate) const noexcept { insert(held, candidate); }
  void full() const noexcept {}
  void replace(Candidate candidate) const noexcept { insert(count - 1, candidate); }
  void finish() const noexcept {}
};

// For many candidates: a heap whose root is the worst, sorted at the end.
struct Heap {
  Candidate* best;
  int64_t count;

  void sift(int64_t size, Candidate candidate) const noexcept { sift(size, 0, candidate); }
  void sift(int64_t size, int64_t at, Candidate candidate) const noexcept {
    for (int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && before(best[child], best[child + 1])) ++child;
      if (!before(candidate, best[child])) break;
      best[at] = best[child];
      at = child;
    }
    best[at] = candidate;
  }
  float worst() const noexcept { return best[0].value; }
  void add(int64_t held, Candidate candidate) const noexcept { best[held] = candidate; }
  void full() const noexcept { heapify(count); }
  void heapify(int64_t size) const noexcept {
    for (int64_t at = size / 2 - 1; at >= 0; --at) sift(size, at, best[at]);
  }
  void replace(Candidate candidate) const noexcept { sift(count, candidate); }
  void finish() const noexcept { sort(count); }
  void sort(int64_t size) const noexcept {
    for (int64_t last = size - 1; last > 0; --last) {
      const Candidate worst = best[0];
      sift(last, best[last]);
      best[last] = worst;
    }
  }
};

// Bit j: x[j] > bound, for j < 64. NaN is not above anything.
[[gnu::always_inline]] inline uint64_t above(const float* x, V bound) noexcept {
  constexpr int count = 64 / kWidth;
  M found[count];
#pragma GCC unroll 16
  for (int v = 0; v < count; ++v) found[v] = less(bound, load(x + v * kWidth));
  M any = found[0];
#pragma GCC unroll 16
  for (int v = 1; v < count; ++v) any = either(any, found[v]);
  if (bits(any) == 0) return 0;
  uint64_t all = 0;
#pragma GCC unroll 16
  for (int v = 0; v < count; ++v) all |= uint64_t(bits(found[v])) << (v * kWidth);
  return all;
}

template <class Best>
inline void top_k_with(const float* x, int64_t size, int64_t count, Best best) noexcept {
  int64_t held = 0;
  int64_t i = 0;
  for (; i < size && held < count; ++i) {
    if (x[i] == x[i]) best.add(held++, {x[i], int32_t(i)});
  }
  if (held == count) {
    best.full();
    float worst = best.worst();
    for (; i + 64 <= size; i += 64) {
      for (uint64_t found = above(x + i, set(worst)); found != 0; found &= found - 1) {
        const int64_t at = i + __builtin_ctzll(found);
        if (!(x[at] > worst)) continue;
        best.replace({x[at], int32_t(at)});
        worst = best.worst();
      }
    }
    for (; i < size; ++i) {
      if (!(x[i] > worst)) continue;
      best.replace({x[i], int32_t(i)});
      worst = best.worst();
    }
    return best.finish();
  }
  // Fewer numbers than asked for: NaN after them, in the order of the ids.
  if constexpr (requires { best.heapify(held); }) {
    best.heapify(held);
    best.sort(held);
  }
  for (i = 0; held < count; ++i) {
    if (x[i] != x[i]) best.best[held++] = {x[i], int32_t(i)};
  }
}

void top_k(const float* x, int64_t size, int64_t count, Candidate* best) noexcept {
  if (count <= 0) return;
  if (count <= 64) {
    top_k_with(x, size, count, SortedList{best, count});
  } else {
    top_k_with(x, size, count, Heap{best, count});
  }
}

// The best of a row. A few are found without a branch that depends on the numbers: of the lanes'
// maxima the count-th is a bound that few numbers reach. Otherwise numbers are kept in `best`, and
// blocks with nothing above the worst of them are skipped with a few compares.

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

// The largest of each lane; of a lane with a NaN, any of its elements.
[[gnu::always_inline]] inline void lane_maxima(const float* x, int64_t size,
                                               V (&most)[kVectors]) noexcept {
  const V lowest = set(-kInfinity);
  times<kVectors>([&](int v) noexcept { most[v] = lowest; });
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    times<kVectors>([&](int v) noexcept { most[v] = max(most[v], load(x + i + v * kWidth)); });
  if (i < size)
    times<kVectors>(
        [&](int v) noexcept { most[v] = max(most[v], load_tail(x + i, v, size - i, lowest)); });
}

// Bit j: lane j of n registers is above a number.
template <int n>
[[gnu::always_inline]] inline uint32_t above(const V (&lanes)[n], V bound) noexcept {
  uint32_t found = 0;
  times<n>([&](int v) noexcept { found |= uint32_t(bits(less(bound, lanes[v]))) << (v * kWidth); });
  return found;
}

// The bits that are set; no library's function on any processor.
inline int32_t count_of(uint32_t x) noexcept {
  x -= (x >> 1) & 0x55555555U;
  x = (x & 0x33333333U) + ((x >> 2) & 0x33333333U);
  return int32_t((((x + (x >> 4)) & 0x0F0F0F0FU) * 0x01010101U) >> 24);
}

// The count-th largest of n registers' lanes, of equal ones each by itself.
template <int n>
[[gnu::always_inline]] inline float bound_of(const V (&lanes)[n], int64_t count) noexcept {
  alignas(64) float values[n * kWidth];
  times<n>([&](int v) noexcept { store(values + v * kWidth, lanes[v]); });
  float bound = kInfinity;
  for (int64_t j = 0; j < n * kWidth; ++j) {
    const bool leads = count_of(above(lanes, set(values[j]))) < count;
    bound = leads && !(bound < values[j]) ? values[j] : bound;
  }
  return bound;
}

// The number right below a finite one.
inline float below(float x) noexcept {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t next = x > 0.0F ? bits - 1 : x < 0.0F ? bits + 1 : 0x80000001U;
  return __builtin_bit_cast(float, next);
}

// For at most 16 of at least 32: false, with nothing written, unless so many numbers reach the
// bound, and at most 32. Every lane's maximum is an element of its own, so that only a NaN among
// them, or many equal numbers, make it false.
inline bool few_of_many(const float* x, int64_t size, int64_t count, Candidate* best) noexcept {
  V lanes[kVectors];
  lane_maxima(x, size, lanes);
  float bound;
  if (count <= 8) {  // half as many lanes do
    V half[kVectors / 2];
    times<kVectors / 2>([&](int v) noexcept { half[v] = max(lanes[v], lanes[v + kVectors / 2]); });
    bound = bound_of(half, count);
  } else {
    bound = bound_of(lanes, count);
  }
  if (!(bound > -kInfinity && bound < kInfinity)) return false;
  const V floor = set(below(bound));
  alignas(64) float values[kLanes];
  int32_t ids[kLanes];
  int64_t held = 0;
  for (int64_t i = 0; i < size; i += 64) {
    const int64_t left = size - i;
    uint64_t found = 0;
    if (left >= 64) {
      found = above(x + i, floor);
    } else {
      for (int64_t j = 0; j < left; j += kWidth)
        found |= uint64_t(bits(less(floor, load_part(x + i + j, left - j, floor)))) << j;
    }
    for (; found != 0; found &= found - 1) {
      if (held == kLanes) return false;
      ids[held] = int32_t(i + __builtin_ctzll(found));
      values[held] = x[ids[held]];
      ++held;
    }
  }
  if (held < count) return false;
  for (int64_t n = held; n < kLanes; ++n) values[n] = -kInfinity;
  times<kVectors>([&](int v) noexcept { lanes[v] = load(values + v * kWidth); });
  Candidate sorted[kLanes];
  for (int64_t n = 0; n < held; ++n) {
    // Its place: as many as are larger, and those as large before it.
    const uint32_t larger = above(lanes, set(values[n]));
    const uint32_t reach = above(lanes, set(below(values[n])));
    const uint32_t equal = reach & ~larger & ((uint32_t(1) << n) - 1);
    sorted[count_of(larger) + count_of(equal)] = {values[n], ids[n]};
  }
  for (int64_t n = 0; n < count; ++n) best[n] = sorted[n];
  return true;
}

void top_k(const float* x, int64_t size, int64_t count, Candidate* best) noexcept {
  if (count <= 0) return;
  if (1 < count && count <= 16 && size >= kLanes && few_of_many(x, size, count, best)) return;
  if (count <= 64) {
    top_k_with(x, size, count, SortedList{best, count});
  } else {
    top_k_with(x, size, count, Heap{best, count});
  }
}

// Operations on features. Except for copy, whole rows of padded(size) floats are written.

void copy(const Copy& a) noexcept {
  const V scale = set(a.scale);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = row_of(a.x, r);
    float* out = row_of(a.out, r);
    int64_t i = 0;
    for (; i + kWidth <= a.size; i += kWidth) store(out + i, mul(load(x + i), scale));
    const int64_t left = a.size - i;
    if (left > 0) store_part(out + i, mul(load_part(x + i, left, zero()), scale), left);
  }
}

// One row of an operand: a scalar is repeated in `room` and read again and again.
struct Cursor {
  const float* data;
  int64_t step;
};

inline Cursor cursor_of(const Operand& operand, int64_t r, float (&room)[kWidth]) noexcept {
  const float* x = row_of(operand.x, r);
  if (!operand.scalar) return {x, 1};
  store(room, set(x[0]));
  return {room, 0};
}

template <class Combine>
inline void binary_with(const BinaryMap& a, Combine combine) noexcept {
  const int64_t size = padded(a.size);
  float room[2][kWidth];
  for (int64_t r = 0; r < a.rows; ++r) {
    const Cursor x = cursor_of(a.a, r, room[0]);
    const Cursor y = cursor_of(a.b, r, room[1]);
    float* out = row_of(a.out, r);
    for (int64_t i = 0; i < size; i += kWidth) {
      store(out + i, combine(load(x.data + i * x.step), load(y.data + i * y.step)));
    }
  }
}

void binary(const BinaryMap& a) noexcept {
  if (a.kind == Binary::add) {
    binary_with(a, [](V x, V y) noexcept { return add(x, y); });
  } else {
    binary_with(a, [](V x, V y) noexcept { return mul(x, y); });
  }
}

[[gnu::always_inline]] inline V mix(V gate, V x, V y) noexcept {
  return fma(gate, x, mul(sub(set(1.0F), gate), y));
}

void interpolate(const Interpolate& a) noexcept {
  const int64_t size = padded(a.size);
  float room[3][kWidth];
  for (int64_t r = 0; r < a.rows; ++r) {
    const Cursor gate = cursor_of(a.gate, r, room[0]);
    const Cursor x = cursor_of(a.a, r, room[1]);
    const Cursor y = cursor_of(a.b, r, room[2]);
    float* out = row_of(a.out, r);
    for (int64_t i = 0; i < size; i += kWidth) {
      store(out + i, mix(load(gate.data + i * gate.step), load(x.data + i * x.step),
                         load(y.data + i * y.step)));
    }
  }
}

void map(const Map& a) noexcept {
  const int64_t size = padded(a.size);
  with_activation(a.activation, [&a, size](auto activation) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      const float* x = row_of(a.x, r);
      float* out = row_of(a.out, r);
      for (int64_t i = 0; i < size; i += kWidth) store(out + i, activation(load(x + i)));
    }
  });
}

template <class Combine>
inline void pool_with(const PoolRows& a, Combine combine) noexcept {
  const bool mean = a.kind == Pool::mean;
  const V count = set(float(a.count));
  for (int64_t i = 0; i < a.size; i += kWidth) {
    V sum = a.count > 0 ? load(row_of(a.x, 0) + i) : zero();
    for (int64_t r = 1; r < a.count; ++r) sum = combine(sum, load(row_of(a.x, r) + i));
    store_part(a.out + i, mean ? div(sum, count) : sum, a.size - i);
  }
}

void pool(const PoolRows& a) noexcept {
  if (a.kind == Pool::max) {
    pool_with(a, [](V most, V x) noexcept {
      // max gives x where either is NaN; a NaN already found must stay.
      return select(less(most, set(kInfinity)), max(most, x), add(most, max(most, x)));
    });
  } else {
    pool_with(a, [](V sum, V x) noexcept { return add(sum, x); });
  }
}

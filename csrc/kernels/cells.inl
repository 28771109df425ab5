// State updates from gate sums. Whole rows of padded(size) floats are read and written; registers
// are independent of each other, so several chains of exp are always in flight. Where an activation
// takes what another has made, a row is walked twice: in one pass, chains of both fill schedulers.

// The pairs real models use have loops of their own.
template <class Body>
inline void with_cell_activations(Activation inner, Activation gate, Body body) noexcept {
  if (inner == Activation::tanh && gate == Activation::sigmoid) {
    body(Fixed<Activation::tanh>{}, Fixed<Activation::sigmoid>{});
  } else if (inner == Activation::tanh && gate == Activation::hard_sigmoid) {
    body(Fixed<Activation::tanh>{}, Fixed<Activation::hard_sigmoid>{});
  } else {
    body(Chosen{inner}, Chosen{gate});
  }
}

// `peephole` and `clip` are rare: the plain loop must not pay for them.
template <bool plain, class Inner, class Gate>
inline void lstm_row(const LstmGates& a, int64_t r, Inner inner, Gate gate) noexcept {
  const int64_t size = padded(a.size);
  const float* gates = row_of(a.gates, r);
  const float* c = a.c.data != nullptr ? row_of(a.c, r) : nullptr;
  float* c_next = row_of(a.c_next, r);
  float* h_next = row_of(a.h_next, r);
  const float* peephole = plain ? nullptr : a.peephole;
  for (int64_t j = 0; j < size; j += kWidth) {
    V i = load(gates + j), f = load(gates + size + j);
    const V kept = c != nullptr ? load(c + j) : zero();
    if (peephole != nullptr) {
      i = fma(load(peephole + j), kept, i);
      f = fma(load(peephole + size + j), kept, f);
    }
    V cell = fma(gate(f), kept, mul(gate(i), inner(load(gates + 2 * size + j))));
    if (!plain && a.clip > 0.0F) cell = min(set(a.clip), max(set(-a.clip), cell));
    store(c_next + j, cell);
  }
  for (int64_t j = 0; j < size; j += kWidth) {
    const V cell = load(c_next + j);
    V o = load(gates + 3 * size + j);
    if (peephole != nullptr) o = fma(load(peephole + 2 * size + j), cell, o);
    store(h_next + j, mul(gate(o), inner(cell)));
  }
}

void lstm_gates(const LstmGates& a) noexcept {
  const bool plain = a.peephole == nullptr && a.clip == 0.0F;
  with_cell_activations(a.activation, a.gate_activation, [&](auto inner, auto gate) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      if (plain)
        lstm_row<true>(a, r, inner, gate);
      else
        lstm_row<false>(a, r, inner, gate);
    }
  });
}

void gru_gates(const GruGates& a) noexcept {
  const int64_t size = padded(a.size);
  with_cell_activations(a.activation, a.gate_activation, [&](auto inner, auto gate) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      const float* gates = row_of(a.gates, r);
      const float* candidate = row_of(a.candidate, r);
      const float* hidden = a.hidden.data != nullptr ? row_of(a.hidden, r) : nullptr;
      const float* h = a.h.data != nullptr ? row_of(a.h, r) : nullptr;
      float* h_next = row_of(a.h_next, r);
      if (hidden != nullptr) {
        for (int64_t j = 0; j < size; j += kWidth)
          store(h_next + j, fma(gate(load(gates + j)), load(hidden + j), load(candidate + j)));
        candidate = h_next;
      }
      for (int64_t j = 0; j < size; j += kWidth) {
        const V z = gate(load(gates + size + j));
        store(h_next + j, mix(z, h != nullptr ? load(h + j) : zero(), inner(load(candidate + j))));
      }
    }
  });
}

void gru_reset(const GruReset& a) noexcept {
  const int64_t size = padded(a.size);
  with_activation(a.gate_activation, [&a, size](auto gate) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      const float* gates = row_of(a.gates, r);
      const float* h = a.h.data != nullptr ? row_of(a.h, r) : nullptr;
      float* out = row_of(a.out, r);
      for (int64_t j = 0; j < size; j += kWidth) {
        store(out + j, mul(gate(load(gates + j)), h != nullptr ? load(h + j) : zero()));
      }
    }
  });
}

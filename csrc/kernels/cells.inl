// State updates from gate sums. Whole rows of padded(size) floats are read and written; registers
// are independent of each other, so several chains of exp are always in flight.

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

void lstm_gates(const LstmGates& a) noexcept {
  const int64_t size = padded(a.size);
  with_cell_activations(a.activation, a.gate_activation, [&](auto inner, auto gate) noexcept {
    for (int64_t r = 0; r < a.rows; ++r) {
      const float* gates = row_of(a.gates, r);
      const float* c = a.c.data != nullptr ? row_of(a.c, r) : nullptr;
      float* c_next = row_of(a.c_next, r);
      float* h_next = row_of(a.h_next, r);
      for (int64_t j = 0; j < size; j += kWidth) {
        const V fresh = mul(gate(load(gates + j)), inner(load(gates + 2 * size + j)));
        const V kept = c != nullptr ? load(c + j) : zero();
        const V cell = fma(gate(load(gates + size + j)), kept, fresh);
        const V o = gate(load(gates + 3 * size + j));
        store(c_next + j, cell);
        store(h_next + j, mul(o, inner(cell)));
      }
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
      for (int64_t j = 0; j < size; j += kWidth) {
        V n = load(candidate + j);
        if (hidden != nullptr) n = fma(gate(load(gates + j)), load(hidden + j), n);
        const V z = gate(load(gates + size + j));
        store(h_next + j, mix(z, h != nullptr ? load(h + j) : zero(), inner(n)));
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

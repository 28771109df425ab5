// Cases of the kernels that are no products (kernel_cases.h).
#pragma once

#include "kernel_cases.h"

namespace cases {

// One value for each element of `rows` rows.
template <class Value>
std::vector<double> each(int64_t rows, int64_t size, Value value) {
  std::vector<double> values;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i) values.push_back(value(r, i));
  return values;
}

inline std::shared_ptr<Table> table(Random& random, int64_t rows, int64_t size,
                                    float range = 2.0F) {
  return std::make_shared<Table>(random, rows, size, range);
}

inline Case copy_case(Random& random) {
  const int64_t rows = 1 + random.below(4), size = random.size();
  const float scale = random.number();
  const auto x = table(random, rows, size);
  return {"copy",
          [=](const Kernels& kernels) {
            Output output(rows, size);
            kernels.copy({x->rows(), output.rows(), rows, size, scale});
            return output.checked();
          },
          [=] { return each(rows, size, [&](auto r, auto i) { return x->seen(r, i) * scale; }); }};
}

inline Case binary_case(Random& random) {
  const int64_t rows = 1 + random.below(4), size = random.size();
  const bool scalar = random.coin(), product = random.coin();
  const auto a = table(random, rows, size), b = table(random, rows, scalar ? 1 : size);
  return {"binary",
          [=](const Kernels& kernels) {
            Output output(rows, size);
            kernels.binary({product ? Binary::multiply : Binary::add,
                            {a->rows(), false},
                            {b->rows(), scalar},
                            output.rows(),
                            rows,
                            size});
            return output.checked();
          },
          [=] {
            return each(rows, size, [&](auto r, auto i) {
              const float x = a->seen(r, i), y = b->seen(r, scalar ? 0 : i);
              return product ? x * y : x + y;
            });
          }};
}

inline Case interpolate_case(Random& random) {
  const int64_t rows = 1 + random.below(4), size = random.size();
  const bool scalar = random.coin();
  const auto gate = table(random, rows, scalar ? 1 : size);
  const auto a = table(random, rows, size), b = table(random, rows, size);
  return {"interpolate",
          [=](const Kernels& kernels) {
            Output output(rows, size);
            kernels.interpolate({{gate->rows(), scalar},
                                 {a->rows(), false},
                                 {b->rows(), false},
                                 output.rows(),
                                 rows,
                                 size});
            return output.checked();
          },
          [=] {
            return each(rows, size, [&](auto r, auto i) {
              const float g = gate->seen(r, scalar ? 0 : i);
              return std::fma(g, a->seen(r, i), (1.0F - g) * b->seen(r, i));
            });
          }};
}

inline Case map_case(Random& random) {
  const int64_t rows = 1 + random.below(4), size = random.size();
  const Activation kind = any_activation(random);
  const auto x = table(random, rows, size, random.coin() ? 3.0F : 60.0F);
  return {
      "map",
      [=](const Kernels& kernels) {
        Output output(rows, size);
        kernels.map({kind, x->rows(), output.rows(), rows, size});
        return output.checked();
      },
      [=] { return each(rows, size, [&](auto r, auto i) { return exact(kind, x->seen(r, i)); }); },
      bound_of(kind)};
}

// Every activation at the ends of its range, infinities and NaN: the levels must agree.
inline Case edges_case(Random& random) {
  const Activation kind = any_activation(random);
  const auto x = std::make_shared<Floats>();
  for (const float edge : {0.0F, 9.0F, 9.1F, 10.0F, 17.0F, 87.3365F, 87.33655F, 88.7228F, 88.7229F,
                           104.0F, 3e38F, kInfinity, 1e-45F, 1e-39F, 1.17549435e-38F, 2.5F})
    for (const float sign : {1.0F, -1.0F}) x->push_back(sign * edge);
  for (int i = 0; i < 64; ++i) x->push_back(random.number(100.0F));
  x->insert(x->end(), 32, kNaN);
  return {"map at the edges",
          [=](const Kernels& kernels) {
            Output output(1, 128);
            kernels.map({kind, {x->data(), 0, nullptr}, output.rows(), 1, 128});
            return output.checked();
          },
          {}};
}

inline Case softmax_case(Random& random) {
  const int64_t rows = 1 + random.below(3), size = random.size();
  const auto x = table(random, rows, size, 9.0F);
  return {"softmax",
          [=](const Kernels& kernels) {
            Output output(rows, size);
            kernels.softmax({x->rows(), output.rows(), rows, size});
            return output.checked();
          },
          [=] {
            std::vector<double> values;
            for (int64_t r = 0; r < rows; ++r) {
              const auto row =
                  softmax_of(each(1, size, [&](auto, auto i) { return double(x->seen(r, i)); }));
              values.insert(values.end(), row.begin(), row.end());
            }
            return values;
          },
          1e-6};
}

inline Case normaliser_case(Random& random) {
  const int64_t size = random.size();
  const auto x = table(random, 1, size, 9.0F);
  return {"normaliser",
          [=](const Kernels& kernels) {
            const Normaliser32 found = kernels.normaliser(x->data.data(), size);
            return Floats{found.maximum, found.sum};
          },
          [=] {
            double most = -kInfinity, sum = 0.0;
            for (int64_t i = 0; i < size; ++i) most = std::max<double>(most, x->at(0, i));
            for (int64_t i = 0; i < size; ++i) sum += std::exp(x->at(0, i) - most);
            return std::vector<double>{most, sum};
          },
          2e-6};
}

inline Case pool_case(Random& random) {
  const int64_t count = random.below(7), size = random.size();
  const Pool kind = count == 0 ? Pool::sum : Pool(random.below(3));
  const auto x = table(random, std::max<int64_t>(count, 1), size);
  return {"pool",
          [=](const Kernels& kernels) {
            Floats out(static_cast<std::size_t>(padded(size)));
            kernels.pool({kind, x->rows(), count, size, out.data()});
            out.resize(static_cast<std::size_t>(size));
            return out;
          },
          [=] {
            return each(1, size, [&](auto, auto i) {
              float value = count > 0 ? x->seen(0, i) : 0.0F;
              for (int64_t r = 1; r < count; ++r)
                value = kind == Pool::max ? std::max(value, x->seen(r, i)) : value + x->seen(r, i);
              return kind == Pool::mean ? value / static_cast<float>(count) : value;
            });
          }};
}

inline Case layer_norm_case(Random& random) {
  const int64_t rows = 1 + random.below(3), size = 2 + random.size();
  const auto x = table(random, rows, size), weight = table(random, 1, size),
             bias = table(random, 1, size);
  const bool affine = random.coin();
  return {"layer_norm",
          [=](const Kernels& kernels) {
            Output output(rows, size);
            kernels.layer_norm({x->rows(), output.rows(), rows, size, 1e-5F,
                                affine ? weight->data.data() : nullptr,
                                affine ? bias->data.data() : nullptr});
            return output.checked();
          },
          [=] {
            return each(rows, size, [&](auto r, auto i) {
              double mean = 0.0, variance = 0.0;
              for (int64_t k = 0; k < size; ++k) mean += x->seen(r, k);
              mean /= static_cast<double>(size);
              for (int64_t k = 0; k < size; ++k)
                variance += (x->seen(r, k) - mean) * (x->seen(r, k) - mean);
              const double value =
                  (x->seen(r, i) - mean) / std::sqrt(variance / static_cast<double>(size) + 1e-5);
              return affine ? value * weight->at(0, i) + bias->at(0, i) : value;
            });
          },
          1e-4};  // rows of two nearly equal elements divide by a small deviation
}

inline Case lstm_case(Random& random) {
  const int64_t rows = 1 + random.below(3), size = random.size(), wide = padded(size);
  const Activation kind = random.coin() ? Activation::tanh : any_activation(random);
  const Activation gate = random.coin() ? Activation::sigmoid : Activation::hard_sigmoid;
  const bool peepholes = random.coin(), has_cell = random.coin();
  const float clip = random.coin() ? 0.5F : 0.0F;
  const auto gates = table(random, rows, 4 * wide), cell = table(random, rows, wide),
             peephole = table(random, 1, 3 * wide);
  return {"lstm_gates",
          [=](const Kernels& kernels) {
            Output c(rows, size), h(rows, size);
            kernels.lstm_gates({gates->rows(), has_cell ? cell->rows() : ConstRows{}, c.rows(),
                                h.rows(), rows, size, kind, gate,
                                peepholes ? peephole->data.data() : nullptr, clip});
            Floats values = c.checked();
            const Floats more = h.checked();
            values.insert(values.end(), more.begin(), more.end());
            return values;
          },
          [=] {
            std::vector<double> cells, states;
            each(rows, size, [&](auto r, auto j) {
              const double kept = has_cell ? cell->seen(r, j) : 0.0;
              const auto bent = [&](int64_t block, double value) {
                return value + (peepholes ? peephole->at(0, block * wide + j) : 0.0) * kept;
              };
              const double i = exact(gate, bent(0, gates->seen(r, j)));
              const double f = exact(gate, bent(1, gates->seen(r, wide + j)));
              double next = f * kept + i * exact(kind, gates->seen(r, 2 * wide + j));
              if (clip > 0.0F) next = std::clamp<double>(next, -clip, clip);
              const double o = gates->seen(r, 3 * wide + j) +
                               (peepholes ? peephole->at(0, 2 * wide + j) : 0.0) * next;
              cells.push_back(next);
              states.push_back(exact(gate, o) * exact(kind, next));
              return 0.0;
            });
            cells.insert(cells.end(), states.begin(), states.end());
            return cells;
          },
          4e-6};
}

inline Case gru_case(Random& random) {
  const int64_t rows = 1 + random.below(3), size = random.size(), wide = padded(size);
  const Activation kind = random.coin() ? Activation::tanh : any_activation(random);
  const bool after = random.coin(), has_state = random.coin();
  const auto gates = table(random, rows, 2 * wide), candidate = table(random, rows, wide),
             hidden = table(random, rows, wide), state = table(random, rows, wide);
  return {
      "gru_gates",
      [=](const Kernels& kernels) {
        Output h(rows, size);
        kernels.gru_gates({gates->rows(), candidate->rows(), after ? hidden->rows() : ConstRows{},
                           has_state ? state->rows() : ConstRows{}, h.rows(), rows, size, kind,
                           Activation::sigmoid});
        return h.checked();
      },
      [=] {
        return each(rows, size, [&](auto r, auto j) {
          double n = candidate->seen(r, j);
          if (after) n += exact(Activation::sigmoid, gates->seen(r, j)) * hidden->seen(r, j);
          const double z = exact(Activation::sigmoid, gates->seen(r, wide + j));
          return z * (has_state ? state->seen(r, j) : 0.0) + (1.0 - z) * exact(kind, n);
        });
      },
      4e-6};
}

inline Case gru_reset_case(Random& random) {
  const int64_t rows = 1 + random.below(3), size = random.size();
  const Activation gate = any_activation(random);
  const auto gates = table(random, rows, padded(size)), state = table(random, rows, padded(size));
  return {"gru_reset",
          [=](const Kernels& kernels) {
            Output out(rows, size);
            kernels.gru_reset({gates->rows(), state->rows(), out.rows(), rows, size, gate});
            return out.checked();
          },
          [=] {
            return each(rows, size, [&](auto r, auto j) {
              return exact(gate, gates->seen(r, j)) * state->seen(r, j);
            });
          },
          1e-6};
}

inline Case attention_case(Random& random) {
  const int64_t count = random.below(4) == 0 ? random.below(3) : 1 + random.below(20);
  const int64_t key_size = random.size(), value_size = random.size();
  const int64_t form = random.below(3);  // dot, additive, given
  const bool softmax = random.coin(), focused = random.coin();
  const Activation kind = random.coin() ? Activation::tanh : any_activation(random);
  const Activation energy_kind = random.coin() ? Activation::identity : Activation::sigmoid;
  const float bias = random.coin() ? 0.25F : 0.0F, centre = random.number(6.0F);
  const int64_t rows = std::max<int64_t>(count, 1);
  const auto query = table(random, 1, key_size), v = table(random, 1, key_size),
             keys = table(random, rows, key_size), scores = table(random, rows, 1),
             values = table(random, rows, value_size);
  return {"attention",
          [=](const Kernels& kernels) {
            Floats weights(static_cast<std::size_t>(count) + 1, -7.0F);
            Floats context(static_cast<std::size_t>(value_size) + 1, -7.0F);
            Attention call;
            if (form < 2) call.query = query->data.data();
            if (form == 1) call.v = v->data.data();
            call.keys = keys->rows();
            call.scores = scores->rows();
            call.values = values->rows();
            call.count = count;
            call.key_size = key_size;
            call.value_size = value_size;
            call.scale = 0.5F;
            call.activation = kind;
            call.normaliser = softmax ? Normaliser::softmax : Normaliser::none;
            call.weights = weights.data();
            call.context = context.data();
            call.energy_bias = bias;
            call.energy_activation = energy_kind;
            call.centre = centre;
            call.sigma = focused ? 2.5F : 0.0F;
            kernels.attention(call);
            if (weights.back() != -7.0F || context.back() != -7.0F) return Floats{};
            weights.pop_back();
            context.pop_back();
            weights.insert(weights.end(), context.begin(), context.end());
            return weights;
          },
          [=] {
            std::vector<double> weights;
            for (int64_t j = 0; j < count; ++j) {
              double e = form == 2 ? scores->seen(j, 0) : 0.0;
              for (int64_t i = 0; form < 2 && i < key_size; ++i)
                e += form == 0 ? double(query->at(0, i)) * keys->seen(j, i)
                               : v->at(0, i) * exact(kind, query->at(0, i) + keys->seen(j, i));
              weights.push_back(exact(energy_kind, 0.5 * e + bias));
            }
            if (softmax && count > 0) weights = softmax_of(weights);
            for (int64_t j = 0; focused && j < count; ++j)
              weights[static_cast<std::size_t>(j)] *=
                  std::exp(-(double(j) - centre) * (double(j) - centre) / (2.0 * 2.5 * 2.5));
            std::vector<double> values_of = weights;
            for (int64_t i = 0; i < value_size; ++i) {
              double sum = 0.0;
              for (int64_t j = 0; j < count; ++j)
                sum += weights[static_cast<std::size_t>(j)] * values->seen(j, i);
              values_of.push_back(sum);
            }
            return values_of;
          },
          1e-4};  // energies of 200 terms, rounded 200 times, through exp
}

inline Case top_k_case(Random& random) {
  const int64_t size = random.size() + (random.coin() ? 300 : 0);
  const int64_t count = 1 + random.below(std::min<int64_t>(size, random.coin() ? 8 : 120));
  const bool ties = random.coin(), holes = random.coin();
  const auto x = table(random, 1, size);
  for (int64_t i = 0; i < size; ++i) {
    if (ties) x->at(0, i) = std::trunc(x->at(0, i) * 2.0F);
    if (holes && random.below(3) == 0) x->at(0, i) = kNaN;
  }
  return {"top_k",
          [=](const Kernels& kernels) {
            std::vector<Candidate> best(static_cast<std::size_t>(count));
            kernels.top_k(x->data.data(), size, count, best.data());
            Floats values;
            for (const Candidate& one : best) {
              values.push_back(static_cast<float>(one.id));
              values.push_back(one.value);
            }
            return values;
          },
          [=] {
            std::vector<int64_t> ids(static_cast<std::size_t>(size));
            std::iota(ids.begin(), ids.end(), 0);
            std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) {
              const float p = x->at(0, a), q = x->at(0, b);
              return std::isnan(q) ? !std::isnan(p) : p > q;
            });
            std::vector<double> values;
            for (int64_t n = 0; n < count; ++n) {
              values.push_back(static_cast<double>(ids[static_cast<std::size_t>(n)]));
              values.push_back(x->at(0, ids[static_cast<std::size_t>(n)]));
            }
            return values;
          }};
}

inline Case enclose_case(Random& random) {
  const int64_t panels = 1 + random.below(6), size = panels * kLanes;
  const auto estimate = std::make_shared<Floats>(random.numbers(size));
  const auto parts = std::make_shared<Floats>(random.numbers(2 * size));
  for (float& part : *parts) part = std::fabs(part);
  const float by_deviation = std::fabs(random.number()), by_norm = std::fabs(random.number());
  const float by_estimate = std::fabs(random.number(1e-5F));
  return {"enclose",
          [=](const Kernels& kernels) {
            Floats found(static_cast<std::size_t>(2 * panels));
            kernels.enclose({.estimate = estimate->data(),
                             .deviation = parts->data(),
                             .norm = parts->data() + size,
                             .by_deviation = by_deviation,
                             .by_norm = by_norm,
                             .by_estimate = by_estimate,
                             .least = 0x1p-100F,
                             .panels = panels,
                             .lower = found.data(),
                             .upper = found.data() + panels});
            return found;
          },
          [=] {
            std::vector<double> found(static_cast<std::size_t>(2 * panels), -HUGE_VAL);
            for (int64_t i = 0; i < size; ++i) {
              const auto at = static_cast<std::size_t>(i), panel = at / kLanes;
              const float value = (*estimate)[at];
              float error = std::fma(std::fabs(value), by_estimate, 0x1p-100F);
              error = std::fma((*parts)[at + static_cast<std::size_t>(size)], by_norm, error);
              error = std::fma((*parts)[at], by_deviation, error);
              double& lower = found[panel];
              double& upper = found[panel + static_cast<std::size_t>(panels)];
              lower = std::max<double>(lower, value - error);
              upper = std::max<double>(upper, value + error);
            }
            return found;
          }};
}

// `rounds` cases of every kernel.
inline std::vector<Case> all(int rounds, uint64_t seed) {
  std::vector<Case> made;
  Random random(seed);
  for (int round = 0; round < rounds; ++round) {
    for (const Weights type : {Weights::floats, Weights::words, Weights::bytes})
      made.push_back(product_case(random, type));
    for (const auto& make : {copy_case, binary_case, interpolate_case, map_case, edges_case,
                             softmax_case, normaliser_case, pool_case, layer_norm_case, lstm_case,
                             gru_case, gru_reset_case, attention_case, top_k_case, enclose_case})
      made.push_back(make(random));
  }
  return made;
}

}  // namespace cases

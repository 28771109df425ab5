// What is known of values by their estimates: of each panel, the largest bound on either side.
void enclose(const Enclosures& a) noexcept {
  const V least = set(a.least), by_estimate = set(a.by_estimate);
  const V by_norm = set(a.by_norm), by_deviation = set(a.by_deviation);
  for (int64_t panel = 0; panel < a.panels; ++panel) {
    V lower[kVectors], upper[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int64_t i = panel * kLanes + v * kWidth;
      const V estimate = load(a.estimate + i);
      V error = fma(abs(estimate), by_estimate, least);
      error = fma(load(a.norm + i), by_norm, error);
      error = fma(load(a.deviation + i), by_deviation, error);
      lower[v] = sub(estimate, error);
      upper[v] = add(estimate, error);
    }
    a.lower[panel] = fold_max(lower);
    a.upper[panel] = fold_max(upper);
  }
}

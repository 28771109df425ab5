#include "ops/product.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "core/isa.h"

namespace s2s {
namespace {

// Tables above this many floats cost more memory than their product costs time.
constexpr int64_t kFoldLimit = int64_t{1} << 20;
// Columns that are packed at once: a cache line of an output's weights.
constexpr int64_t kRun = 16;

// An embedding at the front that this operation reads as it stands: ids of its own items or
// positions, few enough of them.
bool folds(const Value& first, Level level, Along along, int64_t width) {
  return first.embedding.ids >= 0 && first.level == level && first.along == along &&
         first.embedding.vocabulary * width <= kFoldLimit;
}

// Whether rounding to bfloat16 changes no weight: their low halves are zero.
bool exact_in_bfloat16(const Matrix& m) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < m.blocks * m.block_size && (bits & 0xFFFF) == 0; ++i) {
    const float* row = m.row(0, i);
    for (int64_t k = 0; k < m.used; ++k) bits |= std::bit_cast<uint32_t>(row[k]);
  }
  return (bits & 0xFFFF) == 0;
}

// The largest |x| that is a number; bits of floats of one sign have the floats' order.
float largest_of(const float* x, int64_t count) {
  int32_t largest = 0;
  for (int64_t k = 0; k < count; ++k) {
    const auto bits = std::bit_cast<int32_t>(x[k]) & 0x7FFFFFFF;
    largest = std::max(largest, bits > 0x7F800000 ? 0 : bits);
  }
  return std::bit_cast<float>(largest);
}

// The integer nearest to x, ties to even, for |x| < 2^22; 0 for a NaN. A sum that begins with
// 1.5 * 2^23 has it in its last bits.
int32_t nearest_integer(float x) {
  constexpr float kShift = 0x1.8p23F;
  const auto bits = std::bit_cast<int32_t>(x + kShift);
  return (bits & 0x7FFFFFFF) > 0x7F800000 ? 0 : bits - std::bit_cast<int32_t>(kShift);
}

// Those of x times a factor, as bytes; gives their sum.
int32_t rounded(const float* x, float factor, int64_t count, int8_t* bytes) {
  int32_t sum = 0;
  for (int64_t k = 0; k < count; ++k) {
    const int32_t byte = nearest_integer(x[k] * factor);
    bytes[k] = static_cast<int8_t>(byte);
    sum += byte;
  }
  return sum;
}

// The nearest bfloat16, ties to even; for finite weights, which may become infinite.
uint16_t nearest_bfloat16(float weight) {
  const auto bits = std::bit_cast<uint32_t>(weight);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

template <class Weight>
std::size_t grouped_bytes(int64_t panels, int64_t depth) {
  const int64_t groups = (panels + kGroup<Weight> - 1) / kGroup<Weight>;
  return static_cast<std::size_t>(groups * depth * kGroupLine<Weight>) * sizeof(Weight);
}

}  // namespace

std::vector<float> padded_blocks(const float* first, const float* second, int64_t block_size,
                                 int64_t blocks) {
  std::vector<float> out(static_cast<std::size_t>(blocks * padded(block_size)), 0.0F);
  for (int64_t b = 0; b < blocks; ++b) {
    float* block = out.data() + b * padded(block_size);
    for (int64_t i = 0; i < block_size; ++i) {
      const int64_t from = b * block_size + i;
      block[i] =
          (first != nullptr ? first[from] : 0.0F) + (second != nullptr ? second[from] : 0.0F);
    }
  }
  return out;
}

Join::Join(Call& call, const std::vector<Value>& values, Along along, bool folded) {
  for (std::size_t n = folded ? 1 : 0; n < values.size(); ++n)
    readers_.push_back(call.read(values[n], along));
}

int64_t Join::fill(const Context& context, Segment* segments) const noexcept {
  int64_t count = 0;
  for (const Reader& reader : readers_) segments[count++] = {reader.rows(context), reader.size()};
  return count;
}

// Calls pack(weights, panel, lane, first, count) for each output and run of columns: what a run of
// a panel's outputs writes lies near.
template <typename Pack>
void Product::pack_rows(const Matrix& m, int64_t run, const Pack& pack) {
  const int64_t block_panels = padded(m.block_size) / kLanes;
  for (int64_t panel = 0; panel < panels_; ++panel) {
    const int64_t begin = panel % block_panels * kLanes;
    const int64_t end = std::min(begin + kLanes, m.block_size);
    for (int64_t k = 0; k < depth_; k += run)
      for (int64_t i = begin; i < end; ++i)
        pack(m.row(panel / block_panels, i) + k, panel, i - begin, k, std::min(run, depth_ - k));
  }
}

Product::Product(const Matrix& m)
    : type_(m.type), depth_(m.used), panels_(m.blocks * padded(m.block_size) / kLanes) {
  if (type_ == ComputeType::float32 && exact_in_bfloat16(m)) type_ = ComputeType::bfloat16;
  if (type_ == ComputeType::float32) pack_floats(m);
  if (type_ == ComputeType::bfloat16) pack_words(m);
  if (type_ == ComputeType::int8) pack_bytes(m);
}

Product::Product(Call& call, const Matrix& m, Along along) : Product(m) {
  if (depth_ == 0) return;
  if (m.type == ComputeType::int8 && depth_ > kMaxBytesDepth)
    call.fail("a product in int8 has at most " + std::to_string(kMaxBytesDepth) + " columns");
  call.layout().multiplied.insert(m.weight);
  if (call.run_level() == Level::row) call.layout().step_bytes += weight_.size();
  if (m.type == ComputeType::int8) scratch_ = call.scratch(along, quantised_stride(depth_));
}

void Product::pack_floats(const Matrix& m) {
  weight_.reserve(grouped_bytes<float>(panels_, depth_));
  float* weight = weight_.floats();
  pack_rows(m, kRun, [&](const float* row, int64_t panel, int64_t lane, int64_t k, int64_t count) {
    float* line = weight + grouped<float>(panel, depth_) + k * kGroupLine<float> + lane;
    for (int64_t j = 0; j < count; ++j) line[j * kGroupLine<float>] = row[j];
  });
}

void Product::pack_words(const Matrix& m) {
  weight_.reserve(grouped_bytes<uint16_t>(panels_, depth_));
  auto* words = reinterpret_cast<uint16_t*>(weight_.bytes());
  pack_rows(m, kRun, [&](const float* row, int64_t panel, int64_t lane, int64_t k, int64_t count) {
    const int64_t word = lane < 16 ? 2 * lane : 2 * lane - 31;
    uint16_t* line = words + grouped<uint16_t>(panel, depth_) + k * kGroupLine<uint16_t> + word;
    for (int64_t j = 0; j < count; ++j) line[j * kGroupLine<uint16_t>] = nearest_bfloat16(row[j]);
  });
}

void Product::pack_bytes(const Matrix& m) {
  const int64_t depth = depth_, groups = (depth + 3) / 4;
  weight_.reserve(grouped_bytes<int8_t>(panels_, groups));
  scale_.reserve(static_cast<std::size_t>(width()) * sizeof(float));
  offset_.reserve(static_cast<std::size_t>(width()) * sizeof(int32_t));
  auto* weight = reinterpret_cast<int8_t*>(weight_.bytes());
  auto* offset = reinterpret_cast<int32_t*>(offset_.bytes());
  std::vector<int8_t> whole(static_cast<std::size_t>(groups * 4), 0);
  pack_rows(m, depth, [&](const float* row, int64_t panel, int64_t lane, int64_t, int64_t) {
    const int64_t output = panel * kLanes + lane;
    const float largest = largest_of(row, depth);
    scale_.floats()[output] = largest / 127.0F;
    const float inverse = largest >= 0x1p-100F ? 127.0F / largest : 0.0F;
    offset[output] = -128 * rounded(row, inverse, depth, whole.data());
    int8_t* bytes = weight + grouped<int8_t>(panel, groups) + lane * 4;
    for (int64_t k = 0; k < groups; ++k)
      std::memcpy(bytes + k * kGroupLine<int8_t>, whole.data() + k * 4, 4);
  });
}

int8_t Product::byte(int64_t output, int64_t k) const noexcept {
  const int64_t line =
      grouped<int8_t>(output / kLanes, (depth_ + 3) / 4) + k / 4 * kGroupLine<int8_t>;
  return static_cast<int8_t>(weight_.bytes()[line + output % kLanes * 4 + k % 4]);
}

Linear Product::call_of(const Context& context, std::span<const Segment> segments, int64_t rows,
                        ConstRows init, Rows out, Activation activation) const noexcept {
  const bool large = weight_.size() > Context::kLarge;
  Linear call{.segments = segments.data(),
              .segment_count = static_cast<int64_t>(segments.size()),
              .depth = depth_,
              .init = init,
              .out = out,
              .rows = rows,
              .panels = panels_,
              .activation = activation,
              .ahead = !context.far && weight_.size() <= Context::kFar && !(context.near && large),
              .back = context.back && large};
  if (type_ == ComputeType::float32) call.weight = weight_.floats();
  if (type_ == ComputeType::bfloat16)
    call.words = reinterpret_cast<const uint16_t*>(weight_.bytes());
  if (type_ == ComputeType::int8 && depth_ > 0)
    call.bytes = {.weight = reinterpret_cast<const int8_t*>(weight_.bytes()),
                  .scale = scale_.floats(),
                  .offset = reinterpret_cast<const int32_t*>(offset_.bytes()),
                  .scratch = context.floats(scratch_)};
  return call;
}

void Product::run(const Context& context, std::span<const Segment> segments, int64_t rows,
                  ConstRows init, Rows out, Activation activation,
                  const Tail& tail) const noexcept {
  Linear call = call_of(context, segments, rows, init, out, activation);
  const int members = context.team != nullptr ? context.team->members_for(cost(rows)) : 1;
  if (call.bytes.weight != nullptr && (members > 1 || tail.panel < panels_)) {
    context.kernels.quantise(call);
    call.bytes.quantised = true;
  }
  if (members > 1)
    share(context, call, tail, members);
  else
    run_parts(context.kernels, call, tail, 0, panels_);
}

// Panels first ... first+count-1; those of the tail apart.
void Product::run_parts(const Kernels& kernels, Linear call, const Tail& tail, int64_t first,
                        int64_t count) noexcept {
  narrow(call, first, count);
  const int64_t head = std::clamp<int64_t>(tail.panel - first, 0, count);
  if (head == count) return kernels.linear(call);
  Linear rest = call;
  narrow(rest, head, count - head);
  rest.init = tail.init;
  rest.init.data += (first + head - tail.panel) * kLanes;
  call.panels = head;
  if (head > 0 && !call.back) kernels.linear(call);
  kernels.linear(rest);
  if (head > 0 && call.back) kernels.linear(call);
}

// A few rows stream the weights at one speed; with more, multiplications take the time.
int64_t Product::cost(int64_t rows) const noexcept {
  const int64_t size = type_ == ComputeType::float32 ? 4 : type_ == ComputeType::bfloat16 ? 2 : 1;
  return size * width() * depth_ * std::max<int64_t>(rows / 4, 1);
}

// Members take some panels each: every output is computed as it is by one thread.
void Product::share(const Context& context, const Linear& call, const Tail& tail,
                    int members) const noexcept {
  constexpr int64_t kParts = 4, kTile = 4;          // parts of a member; panels that a tile wants
  constexpr int64_t kPartBytes = int64_t{1} << 18;  // what is longer makes others wait at the end
  int64_t size = (panels_ + kParts * members - 1) / (kParts * members);
  size = std::min(size, kPartBytes * panels_ / static_cast<int64_t>(weight_.size()));
  size = size < kTile ? std::min(kTile, (panels_ + members - 1) / members)
                      : (size + kTile - 1) / kTile * kTile;
  size += size % 2;
  // All that a member needs lies in one place.
  std::array<Segment, 3> segments;
  const auto count = static_cast<std::size_t>(call.segment_count);
  if (count <= segments.size()) std::copy_n(call.segments, count, segments.begin());
  const auto part = [call, tail, segments, size, count, &kernels = context.kernels](int64_t number,
                                                                                    int) noexcept {
    const int64_t panel = number * size;
    Linear mine = call;
    if (count <= segments.size()) mine.segments = segments.data();
    run_parts(kernels, mine, tail, panel, std::min(size, call.panels - panel));
  };
  context.team->run((panels_ + size - 1) / size, members, part);
}

// To panels first ... first+count-1 of those that it computes.
void Product::narrow(Linear& call, int64_t first, int64_t count) noexcept {
  const int64_t column = first * kLanes;
  call.first += first;
  call.panels = count;
  call.out.data += column;
  if (call.init.data != nullptr) call.init.data += column;
  if (call.bytes.weight != nullptr) {
    call.bytes.scale += column;
    call.bytes.offset += column;
  }
}

void Product::run_panels(const Context& context, std::span<const Segment> segments,
                         const float* init, float* out, int64_t first,
                         int64_t count) const noexcept {
  Linear call =
      call_of(context, segments, 1, {init, 0, nullptr}, {out, 0, nullptr}, Activation::identity);
  narrow(call, first, count);
  context.kernels.linear(call);
}

InputProduct::InputProduct(std::span<const float> padded_bias)
    : start_(padded_bias.size_bytes()), width_(static_cast<int64_t>(padded_bias.size())) {
  std::memcpy(start_.bytes(), padded_bias.data(), padded_bias.size_bytes());
}

InputProduct::InputProduct(Call& call, const std::vector<Value>& x, const Matrix& whole,
                           std::span<const float> padded_bias)
    : InputProduct(padded_bias) {
  along_ = call.along(x);
  const bool folded = !x.empty() && folds(x.front(), call.run_level(), along_, width_);
  call.front_folded = folded;
  Matrix rest = whole;
  rest.used = whole.depth;
  for (const Value& value : call.start) {
    if (padded(value.type.size) != width_) call.fail("start is " + to_string(value.type));
    added_.push_back(call.read(value, along_));
  }
  if (folded) {
    const EmbeddingSource& embedding = x.front().embedding;
    rest.first = x.front().type.size;
    rest.used = whole.depth - rest.first;
    call.reads.push_back(embedding.ids);
    call.layout().tables[whole.weight] = rest.first;
    fold(embedding, whole, padded_bias);
  }
  join_ = Join(call, x, along_, folded);
  product_ = Product(call, rest, along_);
}

void InputProduct::fold(const EmbeddingSource& embedding, const Matrix& whole,
                        std::span<const float> bias) {
  const Kernels& kernels = kernels_for(available_isas().back());
  const int64_t size = embedding.size;
  Matrix front = whole;
  front.used = size;
  front.type = ComputeType::float32;
  const Product product(front);
  std::vector<float> scaled(static_cast<std::size_t>(size * embedding.vocabulary), 0.0F);
  for (int64_t id = 0; id < embedding.vocabulary; ++id) {
    float* row = scaled.data() + id * size;
    if (embedding.weight == nullptr) row[id] = 1.0F;  // one-hot
    for (int64_t i = 0; embedding.weight != nullptr && i < size; ++i)
      row[i] = embedding.weight[id * size + i] * embedding.scale;
  }
  Memory table(static_cast<std::size_t>((embedding.vocabulary + 1) * width_) * sizeof(float));
  std::memcpy(table.bytes(), bias.data(), bias.size_bytes());
  const Segment segment = {{scaled.data(), size, nullptr}, size};
  const Frame none;
  product.run({kernels, none, none, nullptr}, {&segment, 1}, embedding.vocabulary, bias_rows(),
              {table.floats() + width_, width_, nullptr}, Activation::identity);
  start_ = std::move(table);
  table_ids_ = embedding.ids;
}

ConstRows InputProduct::start_rows(const Context& context) const noexcept {
  if (table_ids_ < 0) return bias_rows();
  return {start_.floats() + width_, width_, context.ids(table_ids_)};
}

ConstRows InputProduct::ready(const Context& context) const noexcept {
  return product_.depth() == 0 && added_.empty() ? start_rows(context) : ConstRows{};
}

void InputProduct::run(const Context& context, Rows out, Activation activation) const noexcept {
  Segment segments[kMaxSegments];
  const int64_t count = join_.fill(context, segments);
  const int64_t rows = context.frame.count(along_);
  ConstRows init = start_rows(context);
  for (const Reader& added : added_) {
    context.kernels.binary(
        {Binary::add, {init, false}, {added.rows(context), false}, out, rows, width_});
    init = {out.data, out.stride, out.index};
  }
  product_.run(context, {segments, static_cast<std::size_t>(count)}, rows, init, out, activation);
}

}  // namespace s2s

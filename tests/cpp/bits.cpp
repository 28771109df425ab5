// Prints what one instruction set computes, as one line of hash for each kernel case and each
// decode: two machines agree where the lines are the same (scripts/test-neon.sh).
//   bits <instruction set> <rounds of kernel cases> [model file ...]
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string>

#include "core/isa.h"
#include "engine/session.h"
#include "model_file.h"
#include "more_kernel_cases.h"

namespace {

class Hash {  // FNV-1a of 64 bits
 public:
  void add(uint64_t word) {
    for (int i = 0; i < 8; ++i) value_ = (value_ ^ (word >> (8 * i) & 0xFF)) * 0x100000001b3U;
  }
  // All NaN are one: processors disagree about their bits, and the promise is about numbers.
  void add(float x) { add(uint64_t{std::isnan(x) ? 0x7FC00000U : std::bit_cast<uint32_t>(x)}); }
  void add(double x) { add(std::bit_cast<uint64_t>(x)); }
  unsigned long long value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325U;
};

void print_kernels(const s2s::Kernels& kernels, int rounds) {
  std::size_t number = 0;
  for (const cases::Case& one : cases::all(rounds, 2)) {
    Hash hash;
    for (const float value : one.run(kernels)) hash.add(value);
    std::printf("%zu %s %016llx\n", number++, one.name.c_str(), hash.value());
  }
}

// Sources that are the same on every machine, one to a length.
struct Sources {
  Sources(const s2s::Plan& plan, int count) {
    cases::Random random(3);
    ids.reserve(1000);
    floats.reserve(1000);
    for (int s = 0; s < count; ++s) {
      std::vector<s2s::SourceInput>& source = inputs.emplace_back();
      for (const s2s::PlanInput& input : plan.inputs) {
        s2s::SourceInput& given = source.emplace_back();
        const bool one = input.type.kind == s2s::Kind::vector;
        given.length = one ? 1 : s + 1;
        if (input.type.kind == s2s::Kind::ids) {
          auto& values = ids.emplace_back();
          for (int64_t i = 0; i < given.length; ++i)
            values.push_back(static_cast<int32_t>(random.below(input.type.size)));
          given.ids = values.data();
        } else {
          given.features =
              floats.emplace_back(random.numbers(given.length * input.type.size)).data();
        }
      }
    }
    for (const auto& source : inputs) views.emplace_back(source);
  }
  std::vector<std::vector<int32_t>> ids;
  std::vector<cases::Floats> floats;
  std::vector<std::vector<s2s::SourceInput>> inputs;
  std::vector<s2s::Source> views;
};

void print_model(const std::string& isa, const std::string& path, s2s::ComputeType type) {
  const model_file::File file = model_file::read(path, type);
  const auto model = std::make_shared<s2s::Model>(file.spec, s2s::TargetRule{file.start, file.end});
  s2s::Session session(model, isa);
  const Sources sources(model->plan(), 12);
  const std::vector<int32_t> limits(sources.views.size(), 20);
  const std::string name = path.substr(path.find_last_of('/') + 1);
  for (const int32_t beam : {1, 5}) {
    s2s::DecodeRequest request;
    request.beam_size = request.num_hypotheses = beam;
    request.alignment = model->plan().alignment.slot >= 0;
    const s2s::SearchResults& results = session.decode(sources.views, request, limits);
    for (int32_t s = 0; s < results.size(); ++s) {
      Hash hash;
      for (const s2s::Hypothesis& hypothesis : results.sentence(s)) {
        for (const int32_t id : hypothesis.ids) hash.add(static_cast<uint64_t>(id));
        for (const float value : hypothesis.token_log_probs) hash.add(value);
        for (const float value : hypothesis.alignment) hash.add(value);
        hash.add(hypothesis.score);
      }
      std::printf("%s %s beam %d sentence %d: %zu hypotheses, %zu ids, %016llx\n", name.c_str(),
                  s2s::to_string(type).c_str(), beam, s, results.sentence(s).size(),
                  results.sentence(s).empty() ? 0 : results.sentence(s)[0].ids.size(),
                  hash.value());
    }
  }
}

}  // namespace

int main(int count, char** arguments) try {
  if (count < 3) {
    for (const std::string& isa : s2s::available_isas()) std::printf("%s\n", isa.c_str());
    return 0;
  }
  const std::string isa = arguments[1];
  print_kernels(s2s::kernels_for(isa), std::stoi(arguments[2]));
  for (int n = 3; n < count; ++n)
    for (const auto type :
         {s2s::ComputeType::float32, s2s::ComputeType::bfloat16, s2s::ComputeType::int8})
      print_model(isa, arguments[n], type);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

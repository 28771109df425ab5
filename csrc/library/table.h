// The library as this package's own Python module calls it: C++ functions behind one exported name.
// Private to the package: both sides are built together, from the same headers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/cpus.h"
#include "core/isa.h"
#include "engine/batch.h"
#include "engine/decoder_state.h"
#include "engine/measure.h"
#include "engine/session.h"
#include "include/s2s_engine.h"
#include "library/handover.h"

namespace s2s {

// Objects are made here and shared, so that their last owner, whoever it is, ends them here too.
struct Table {
  decltype(&s2s::available_isas) available_isas;
  decltype(&s2s::kernels_for) kernels_for;
  decltype(&s2s::usable_cpus) usable_cpus;
  decltype(&s2s::assume_cpus) assume_cpus;
  decltype(&s2s::group_quota) group_quota;
  decltype(&s2s::usable) usable;
  decltype(&s2s::time_product) time_product;
  decltype(&s2s::profile) profile;
  std::string (*name_of)(ComputeType);
  decltype(&s2s::compute_type_of) compute_type_of;

  std::shared_ptr<Model> (*make_model)(const ModelSpec&, TargetRule);
  s2s_engine* (*hand_over)(Handover);

  std::shared_ptr<Session> (*make_session)(std::shared_ptr<const Model>, const std::string& isa,
                                           int threads, int64_t member_bytes, int64_t max_bytes);
  decltype(&Session::set_threads) set_threads;
  decltype(&Session::workspace_bytes_for) workspace_bytes_for;
  decltype(&Session::decode) decode;
  decltype(&Session::score) score;
  decltype(&Session::encode) encode;
  decltype(&Session::output) output;
  decltype(&Session::label) label;
  decltype(&Session::score_labels) score_labels;
  decltype(&Session::forced_logits) forced_logits;
  decltype(&Session::warm_up) warm_up;

  std::shared_ptr<Batch> (*make_batch)(Session&, const DecodeRequest&);
  decltype(&Batch::join) join;
  decltype(&Batch::run) run;
  decltype(&Batch::interrupt) interrupt;
  decltype(&Batch::take) take;
  decltype(&Batch::certain) certain;

  std::shared_ptr<DecoderState> (*make_state)(Session&, const Source&, Interruption*);
  decltype(&DecoderState::feed) feed;
  decltype(&DecoderState::states) states;
  decltype(&DecoderState::restore) restore;
};

// What both sides must agree on: sources, compiler, and the sizes that flags could change.
inline std::string build_stamp() {
  return S2S_BUILD " " __VERSION__ " " + std::to_string(sizeof(Table)) + " " +
         std::to_string(sizeof(Session)) + " " + std::to_string(sizeof(DecodeRequest)) + " " +
         std::to_string(sizeof(Handover));
}

}  // namespace s2s

#include "library/table.h"

#include <utility>

#include "core/entry.h"
#include "library/engine.h"

namespace s2s {
namespace {

std::shared_ptr<Model> make_model(const ModelSpec& spec, TargetRule target) {
  return std::make_shared<Model>(spec, std::move(target));
}

std::shared_ptr<Session> make_session(std::shared_ptr<const Model> model, const std::string& isa,
                                      int threads, int64_t member_bytes, int64_t max_bytes) {
  return std::make_shared<Session>(std::move(model), isa, threads, member_bytes, max_bytes);
}

std::shared_ptr<Batch> make_batch(Session& session, const DecodeRequest& request) {
  return std::make_shared<Batch>(session, request);
}

std::shared_ptr<DecoderState> make_state(Session& session, const Source& source,
                                         Interruption* interruption) {
  return std::make_shared<DecoderState>(session, source, interruption);
}

std::string name_of(ComputeType type) { return to_string(type); }

constexpr Table kTable = {
    .available_isas = &available_isas,
    .kernels_for = &kernels_for,
    .usable_cpus = &usable_cpus,
    .assume_cpus = &assume_cpus,
    .group_quota = &group_quota,
    .usable = &usable,
    .time_product = &time_product,
    .profile = &profile,
    .name_of = &name_of,
    .compute_type_of = &compute_type_of,
    .make_model = &make_model,
    .hand_over = &hand_over,
    .make_session = &make_session,
    .set_threads = &Session::set_threads,
    .workspace_bytes_for = &Session::workspace_bytes_for,
    .decode = &Session::decode,
    .score = &Session::score,
    .encode = &Session::encode,
    .output = &Session::output,
    .label = &Session::label,
    .score_labels = &Session::score_labels,
    .forced_logits = &Session::forced_logits,
    .warm_up = &Session::warm_up,
    .make_batch = &make_batch,
    .join = &Batch::join,
    .run = &Batch::run,
    .interrupt = &Batch::interrupt,
    .take = &Batch::take,
    .certain = &Batch::certain,
    .make_state = &make_state,
    .feed = &DecoderState::feed,
    .states = &DecoderState::states,
    .restore = &DecoderState::restore,
};

}  // namespace
}  // namespace s2s

extern "C" {

// NULL for a module of another build.
const void* s2s_private_table(const char* build) {
  return build == s2s::build_stamp() ? &s2s::kTable : nullptr;
}

int s2s_entry_depth(void) { return s2s::entry_depth; }
}

/* The C interface of libs2s_engine: sessions that decode ids, without Python objects. Everything
 * that the library exports is declared here.
 *
 * An engine is loaded in Python and handed over (s2s_engine/capi.pyx); sessions are made from it,
 * one for each thread. A call that can fail gives a code, and s2s_message() tells what was wrong.
 * Structs begin with their size as the caller knows it, so that a program built with an older
 * header goes on working: what it does not know takes its default, and what it cannot read is not
 * written. Nothing here may be called with a NULL where it is not said.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S2S_API __attribute__((visibility("default")))

enum {
  S2S_ABI_VERSION = 0x10000, /* the major number times 65536, plus the minor number */

  /* What a call gives back. After S2S_TIMEOUT and S2S_CANCELLED there are results, of what had been
     found. */
  S2S_OK = 0,
  S2S_TIMEOUT = 1,
  S2S_CANCELLED = 2,
  S2S_INPUT = 3,          /* a token, a length or an option is out of range */
  S2S_INPUT_TOO_LONG = 4, /* a source is longer than the engine or its model takes */
  S2S_NUMERICAL = 5,      /* a step gave a NaN or an infinity */
  S2S_BUSY = 6,           /* another thread is inside this session */
  S2S_MEMORY = 7,
  S2S_VERSION = 8, /* the caller was built for a newer library, or for another major version */
  S2S_FAILED = 9,  /* anything else; s2s_message() tells */

  /* How a hypothesis came to its end. */
  S2S_FINISH_EOS = 0,
  S2S_FINISH_LENGTH = 1,
  S2S_FINISH_TIMEOUT = 2,
  S2S_FINISH_CANCELLED = 3
};

typedef struct s2s_engine s2s_engine;   /* an immutable model with its rules: shared by threads */
typedef struct s2s_session s2s_session; /* a decode in progress: for one thread at a time */

/* s2s_options_init() writes the options that the engine was handed over with. */
typedef struct s2s_options {
  size_t size;
  int32_t beam_size;      /* 1 ... 1024 */
  int32_t num_hypotheses; /* 1 ... beam_size */
  int32_t max_length; /* ids that may be generated, the end token included; 0: the engine's rule */
  int32_t attention;  /* not 0: keep attention weights */
  int32_t prepared;   /* not 0: the model's source rule is not applied */
  double timeout;     /* seconds; INFINITY: none */
  const int32_t* cancel; /* NULL, or a number that another thread sets to end the call */
} s2s_options;

/* Views, valid until the next call on the session that is not s2s_hypothesis_at() or
 * s2s_num_hypotheses(). */
typedef struct s2s_hypothesis {
  size_t size;
  const int32_t* ids; /* [length], without start and end */
  int64_t length;
  const float* token_log_probs; /* [steps]: natural logarithms, the end token's as well */
  int64_t steps;
  const float* attention; /* [steps, source_length, heads], or NULL */
  int64_t source_length;  /* prepared positions; 0 without attention */
  int32_t heads;
  int32_t finish_reason; /* S2S_FINISH_... */
  double log_prob;       /* the sum of token_log_probs */
  double score;          /* what hypotheses are ranked by */
} s2s_hypothesis;

S2S_API uint32_t s2s_abi_version(void);
/* S2S_OK where this library serves a caller built with S2S_ABI_VERSION `built_with`, else
 * S2S_VERSION. */
S2S_API int32_t s2s_check_version(uint32_t built_with);
/* What was wrong with the last call on this thread that failed; valid until the next one that
 * fails. */
S2S_API const char* s2s_message(void);

/* An engine lives while it is counted. Sessions count theirs. NULL is nothing to release. */
S2S_API s2s_engine* s2s_engine_retain(s2s_engine* engine);
S2S_API void s2s_engine_release(s2s_engine* engine);
/* Ids of a source, and of a target, are below these. */
S2S_API int64_t s2s_source_vocabulary(const s2s_engine* engine);
S2S_API int64_t s2s_target_vocabulary(const s2s_engine* engine);

/* Writes a new session to *session, or NULL. */
S2S_API int32_t s2s_session_new(s2s_engine* engine, s2s_session** session);
S2S_API void s2s_session_free(s2s_session* session);

/* Takes all memory that sources of up to source_length ids need under a beam of up to beam_size,
 * batch_size of them together, and touches it. Decodes within these bounds, on an engine of one
 * thread, make no heap call, take no lock and make no system call from then on, as long as they do
 * not fail. */
S2S_API int32_t s2s_warm_up(s2s_session* session, int64_t source_length, int32_t beam_size,
                            int32_t batch_size);

/* `size` is sizeof(s2s_options) of the caller. */
S2S_API int32_t s2s_options_init(const s2s_session* session, s2s_options* options, size_t size);

/* Decodes ids[0 ... length - 1], to which the model's source rule is applied; a prompt of target
 * ids for models without an encoder. `options` may be NULL: those that the engine was handed over
 * with. */
S2S_API int32_t s2s_decode(s2s_session* session, const int32_t* ids, int64_t length,
                           const s2s_options* options);
/* Decodes `count` sources together; ids holds one behind the other. The bits are those of
 * s2s_decode(). */
S2S_API int32_t s2s_decode_batch(s2s_session* session, const int32_t* ids, const int64_t* lengths,
                                 int32_t count, const s2s_options* options);

/* Of the last decode: 0 where it failed, or for a sentence that was not in it. */
S2S_API int32_t s2s_num_hypotheses(const s2s_session* session, int32_t sentence);
/* The hypothesis at `index`, best first. hypothesis->size must be set. */
S2S_API int32_t s2s_hypothesis_at(const s2s_session* session, int32_t sentence, int32_t index,
                                  s2s_hypothesis* hypothesis);

/* For this package's own use; they may change with every build. */
S2S_API const void* s2s_private_table(const char* build);
S2S_API int s2s_entry_depth(void);

#ifdef __cplusplus
}
#endif

# Decoding without Python objects, for Cython: `cimport s2s_engine.capi` needs no include path and no linking.
# Free functions and structs alone, as in csrc/include/s2s_engine.h, which says what each of them means.
#
#     cdef capi.Engine* engine = capi.engine_of(Engine.load("model.safetensors"))
#     cdef capi.Session* session
#     capi.check(capi.session_new(engine, &session))          # one for each thread
#     with nogil:
#         code = capi.decode(session, ids, length, NULL)
#         if code == capi.OK: capi.hypothesis(session, 0, 0, &best)
#     capi.session_free(session)
#     capi.engine_release(engine)

from libc.stdint cimport int32_t, int64_t, uint32_t


cdef enum:
    ABI_VERSION = 0x10000


cdef enum:
    OK = 0
    TIMEOUT = 1
    CANCELLED = 2
    INPUT = 3
    INPUT_TOO_LONG = 4
    NUMERICAL = 5
    BUSY = 6
    MEMORY = 7
    VERSION = 8
    FAILED = 9


cdef enum:
    FINISH_EOS = 0
    FINISH_LENGTH = 1
    FINISH_TIMEOUT = 2
    FINISH_CANCELLED = 3


# Pointers to these come from the functions below; what they point to is the library's.
cdef struct Engine:
    int opaque


cdef struct Session:
    int opaque


cdef struct Options:
    size_t size
    int32_t beam_size
    int32_t num_hypotheses
    int32_t max_length
    int32_t attention
    int32_t prepared
    double timeout
    const int32_t* cancel


cdef struct Hypothesis:
    size_t size
    const int32_t* ids
    int64_t length
    const float* token_log_probs
    int64_t steps
    const float* attention
    int64_t source_length
    int32_t heads
    int32_t finish_reason
    double log_prob
    double score


# --- with Python's lock ---

# Counts a loaded s2s_engine.Engine with options of its own (a DecodeOptions, or None: the model's).
cdef Engine* hand_over(object engine, object options, uint32_t built_with) except NULL

# Raises what a code says, as the class of s2s_engine.errors that Python's calls raise.
cdef int check(int32_t code) except -1

# --- without ---

cdef uint32_t abi_version() noexcept nogil
cdef const char* message() noexcept nogil
cdef Engine* engine_retain(Engine* engine) noexcept nogil
cdef void engine_release(Engine* engine) noexcept nogil
cdef int64_t source_vocabulary(const Engine* engine) noexcept nogil
cdef int64_t target_vocabulary(const Engine* engine) noexcept nogil
cdef int32_t session_new(Engine* engine, Session** session) noexcept nogil
cdef void session_free(Session* session) noexcept nogil
cdef int32_t warm_up(
    Session* session, int64_t source_length, int32_t beam_size, int32_t batch_size
) noexcept nogil
cdef int32_t options_init(const Session* session, Options* options, size_t size) noexcept nogil
cdef int32_t decode(
    Session* session, const int32_t* ids, int64_t length, const Options* options
) noexcept nogil
cdef int32_t decode_batch(
    Session* session,
    const int32_t* ids,
    const int64_t* lengths,
    int32_t count,
    const Options* options,
) noexcept nogil
cdef int32_t num_hypotheses(const Session* session, int32_t sentence) noexcept nogil
cdef int32_t hypothesis_at(
    const Session* session, int32_t sentence, int32_t index, Hypothesis* view
) noexcept nogil


# Compiled into the caller, with the version and the sizes that the caller knows.
cdef inline Engine* engine_of(object engine) except NULL:
    return hand_over(engine, None, ABI_VERSION)


cdef inline Engine* engine_with(object engine, object options) except NULL:
    return hand_over(engine, options, ABI_VERSION)


cdef inline int32_t default_options(const Session* session, Options* options) noexcept nogil:
    return options_init(session, options, sizeof(Options))


cdef inline int32_t hypothesis(
    const Session* session, int32_t sentence, int32_t index, Hypothesis* view
) noexcept nogil:
    view.size = sizeof(Hypothesis)
    return hypothesis_at(session, sentence, index, view)

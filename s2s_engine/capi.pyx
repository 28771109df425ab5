# cython: language_level=3, binding=False, embedsignature=False
# The functions of capi.pxd, each one call of the shared library. Knows its C interface; never the core.

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint32_t

from s2s_engine import handover


cdef extern from "include/s2s_engine.h" nogil:
    ctypedef struct s2s_engine
    ctypedef struct s2s_session
    ctypedef struct s2s_options
    ctypedef struct s2s_hypothesis

    uint32_t s2s_abi_version()
    int32_t s2s_check_version(uint32_t built_with)
    const char* s2s_message()
    s2s_engine* s2s_engine_retain(s2s_engine* engine)
    void s2s_engine_release(s2s_engine* engine)
    int64_t s2s_source_vocabulary(const s2s_engine* engine)
    int64_t s2s_target_vocabulary(const s2s_engine* engine)
    int32_t s2s_session_new(s2s_engine* engine, s2s_session** session)
    void s2s_session_free(s2s_session* session)
    int32_t s2s_warm_up(
        s2s_session* session, int64_t source_length, int32_t beam_size, int32_t batch_size
    )
    int32_t s2s_options_init(const s2s_session* session, s2s_options* options, size_t size)
    int32_t s2s_decode(
        s2s_session* session, const int32_t* ids, int64_t length, const s2s_options* options
    )
    int32_t s2s_decode_batch(
        s2s_session* session,
        const int32_t* ids,
        const int64_t* lengths,
        int32_t count,
        const s2s_options* options,
    )
    int32_t s2s_num_hypotheses(const s2s_session* session, int32_t sentence)
    int32_t s2s_hypothesis_at(
        const s2s_session* session, int32_t sentence, int32_t index, s2s_hypothesis* hypothesis
    )


cdef Engine* hand_over(object engine, object options, uint32_t built_with) except NULL:
    check(s2s_check_version(built_with))
    capsule = handover.capsule_of(engine, options)
    return <Engine*>s2s_engine_retain(
        <s2s_engine*>PyCapsule_GetPointer(capsule, "s2s_engine.engine")
    )


cdef int check(int32_t code) except -1:
    if code == OK:
        return 0
    raise handover.error_of(code, s2s_message().decode("utf-8", "replace"))


cdef uint32_t abi_version() noexcept nogil:
    return s2s_abi_version()


cdef const char* message() noexcept nogil:
    return s2s_message()


cdef Engine* engine_retain(Engine* engine) noexcept nogil:
    return <Engine*>s2s_engine_retain(<s2s_engine*>engine)


cdef void engine_release(Engine* engine) noexcept nogil:
    s2s_engine_release(<s2s_engine*>engine)


cdef int64_t source_vocabulary(const Engine* engine) noexcept nogil:
    return s2s_source_vocabulary(<const s2s_engine*>engine)


cdef int64_t target_vocabulary(const Engine* engine) noexcept nogil:
    return s2s_target_vocabulary(<const s2s_engine*>engine)


cdef int32_t session_new(Engine* engine, Session** session) noexcept nogil:
    return s2s_session_new(<s2s_engine*>engine, <s2s_session**>session)


cdef void session_free(Session* session) noexcept nogil:
    s2s_session_free(<s2s_session*>session)


cdef int32_t warm_up(
    Session* session, int64_t source_length, int32_t beam_size, int32_t batch_size
) noexcept nogil:
    return s2s_warm_up(<s2s_session*>session, source_length, beam_size, batch_size)


cdef int32_t options_init(const Session* session, Options* options, size_t size) noexcept nogil:
    return s2s_options_init(<const s2s_session*>session, <s2s_options*>options, size)


cdef int32_t decode(
    Session* session, const int32_t* ids, int64_t length, const Options* options
) noexcept nogil:
    return s2s_decode(<s2s_session*>session, ids, length, <const s2s_options*>options)


cdef int32_t decode_batch(
    Session* session,
    const int32_t* ids,
    const int64_t* lengths,
    int32_t count,
    const Options* options,
) noexcept nogil:
    return s2s_decode_batch(
        <s2s_session*>session, ids, lengths, count, <const s2s_options*>options
    )


cdef int32_t num_hypotheses(const Session* session, int32_t sentence) noexcept nogil:
    return s2s_num_hypotheses(<const s2s_session*>session, sentence)


cdef int32_t hypothesis_at(
    const Session* session, int32_t sentence, int32_t index, Hypothesis* view
) noexcept nogil:
    return s2s_hypothesis_at(
        <const s2s_session*>session, sentence, index, <s2s_hypothesis*>view
    )

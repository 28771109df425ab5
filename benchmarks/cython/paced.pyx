# cython: language_level=3, boundscheck=False, wraparound=False
# Calls of the Cython door and what they cost, by the clock. Knows capi.pxd; nothing of reports.

from libc.stdint cimport int32_t, int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cimport s2s_engine.capi as capi


cdef int64_t now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1000000000 + time.tv_nsec


cdef class Door:
    cdef capi.Engine* engine
    cdef capi.Session* session

    def __cinit__(self, engine, options, int64_t longest):
        self.engine = capi.engine_with(engine, options)
        capi.check(capi.session_new(self.engine, &self.session))
        capi.check(capi.warm_up(self.session, longest, 1, 1))

    def __dealloc__(self):
        capi.session_free(self.session)
        capi.engine_release(self.engine)

    def ids(self, const int32_t[::1] source):
        cdef capi.Hypothesis best
        capi.check(capi.decode(self.session, &source[0], source.shape[0], NULL))
        capi.check(capi.hypothesis(self.session, 0, 0, &best))
        return [best.ids[n] for n in range(best.length)]

    def seconds_of_a_call(self, const int32_t[::1] source, int count):
        """The mean of so many calls, each with its result looked at."""
        cdef capi.Hypothesis best
        cdef int32_t code = capi.OK
        cdef int64_t start, end
        with nogil:
            start = now()
            for _ in range(count):
                code |= capi.decode(self.session, &source[0], source.shape[0], NULL)
                code |= capi.hypothesis(self.session, 0, 0, &best)
            end = now()
        capi.check(code)
        return (end - start) * 1e-9 / count

    def latencies(
        self,
        const int32_t[::1] ids,  # words, one behind the other
        const int64_t[::1] begins,  # [words + 1]
        int64_t first,  # the word to begin with
        int64_t due,  # its moment, in nanoseconds of the monotonic clock
        int64_t period,  # nanoseconds from one word to the next
        int64_t[::1] spent,  # [decodes]: nanoseconds from a word's moment to its result
    ):
        """Words come at a steady rate, whether the one before is done or not. Gives the moment of
        the word that is next."""
        cdef capi.Hypothesis best
        cdef int32_t code = capi.OK
        cdef int64_t n, word
        cdef int64_t words = begins.shape[0] - 1
        with nogil:
            for n in range(spent.shape[0]):
                while now() < due:
                    pass
                word = (first + n) % words
                code |= capi.decode(
                    self.session, &ids[begins[word]], begins[word + 1] - begins[word], NULL
                )
                code |= capi.hypothesis(self.session, 0, 0, &best)
                spent[n] = now() - due
                due += period
        capi.check(code)
        return due

# cython: boundscheck=False, wraparound=False
# Decodes lists of sources in loops that hold no lock of Python's. Knows capi.pxd alone.

from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

cimport s2s_engine.capi as capi


# What follows a struct must not be written, however long the library's own is.
cdef struct Guarded:
    capi.Hypothesis view
    int64_t behind


cdef struct GuardedOptions:
    capi.Options options
    int64_t behind


cdef class Stage:
    cdef capi.Engine* engine
    cdef capi.Session* session

    def __cinit__(self, engine, options=None):
        self.engine = capi.engine_with(engine, options)
        capi.check(capi.session_new(self.engine, &self.session))

    def __dealloc__(self):
        capi.session_free(self.session)
        capi.engine_release(self.engine)

    def decode(
        self,
        const int32_t[::1] ids,  # sources, one behind the other
        const int64_t[::1] lengths,
        int32_t[:, ::1] found,  # [sources, at most so many ids]
        float[:, ::1] log_probs,
        int64_t[:, ::1] counts,  # [sources, 2]: ids, log_probs
        double[::1] sums,  # log_prob of each
        int beam_size=1,
    ):
        cdef Guarded guarded
        cdef GuardedOptions given
        cdef const int32_t* source = &ids[0]
        cdef int32_t code = capi.OK
        cdef Py_ssize_t n
        guarded.behind = given.behind = 77
        with nogil:
            capi.default_options(self.session, &given.options)
            given.options.beam_size = beam_size
            for n in range(lengths.shape[0]):
                code = capi.decode(self.session, source, lengths[n], &given.options)
                if code != capi.OK:
                    break
                source += lengths[n]
                capi.hypothesis(self.session, 0, 0, &guarded.view)
                memcpy(&found[n, 0], guarded.view.ids, guarded.view.length * sizeof(int32_t))
                memcpy(
                    &log_probs[n, 0],
                    guarded.view.token_log_probs,
                    guarded.view.steps * sizeof(float),
                )
                counts[n, 0] = guarded.view.length
                counts[n, 1] = guarded.view.steps
                sums[n] = guarded.view.log_prob
        capi.check(code)
        assert guarded.behind == 77 and given.behind == 77

    def decode_together(self, const int32_t[::1] ids, const int64_t[::1] lengths):
        """The ids of each source, of one call for all of them."""
        cdef capi.Hypothesis view
        cdef int32_t n
        with nogil:
            code = capi.decode_batch(
                self.session, &ids[0], &lengths[0], <int32_t>lengths.shape[0], NULL
            )
        capi.check(code)
        out = []
        for n in range(<int32_t>lengths.shape[0]):
            capi.check(capi.hypothesis(self.session, n, 0, &view))
            out.append([view.ids[i] for i in range(view.length)])
        return out

    def meet(self, int32_t[::1] flags, int me, const int32_t[::1] ids):
        """Decodes until another thread is in this loop, too; whether it came."""
        cdef int32_t code = capi.OK
        cdef int n = 0
        with nogil:
            flags[me] = 1
            while flags[1 - me] == 0 and n < 1000000 and code == capi.OK:
                code = capi.decode(self.session, &ids[0], ids.shape[0], NULL)
                n += 1
        capi.check(code)
        return flags[1 - me] == 1

    def warm_up(self, int64_t source_length, int32_t beam_size, int32_t batch_size):
        capi.check(capi.warm_up(self.session, source_length, beam_size, batch_size))


def sizes():
    return sizeof(capi.Options), sizeof(capi.Hypothesis), capi.ABI_VERSION


def abi_version():
    return capi.abi_version()

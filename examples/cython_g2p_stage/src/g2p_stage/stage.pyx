# cython: language_level=3, boundscheck=False, wraparound=False
# A file of words becomes a file of phonemes, without Python objects. Knows capi.pxd and stdio.

from libc.stdint cimport int32_t, int64_t
from libc.stdio cimport EOF, FILE, fclose, fgetc, fgets, fopen, fputc, fputs
from libc.string cimport strlen

cimport s2s_engine.capi as capi

cdef enum:
    LONGEST = 255  # letters of a word


cdef class Stage:
    cdef capi.Engine* engine
    cdef capi.Session* session
    cdef int32_t ids[256]  # of a byte; -1: none
    cdef list names  # the phonemes' bytes, kept alive
    cdef const char* phonemes[4096]

    def __cinit__(self, engine):
        """engine: a loaded s2s_engine.Engine, from letters to phonemes."""
        vocabularies = engine.info.vocabularies
        self.engine = capi.engine_of(engine)
        capi.check(capi.session_new(self.engine, &self.session))
        capi.check(capi.warm_up(self.session, LONGEST, 1, 1))
        for byte in range(256):
            self.ids[byte] = -1
        for number, letter in enumerate(vocabularies["tokens"]):
            if len(letter) == 1 and letter.isascii():
                self.ids[<unsigned char>ord(letter)] = number
        self.names = [name.encode() for name in vocabularies["target"]]
        if len(self.names) > 4096:
            raise ValueError("the stage takes at most 4096 phonemes")
        for number, name in enumerate(self.names):
            self.phonemes[number] = name

    def __dealloc__(self):
        capi.session_free(self.session)
        capi.engine_release(self.engine)

    def convert(self, words, phonemes):
        """Reads the file `words`, writes the file `phonemes`; gives how many words there were."""
        cdef bytes source = str(words).encode(), target = str(phonemes).encode()
        cdef const char* source_path = source
        cdef const char* target_path = target
        cdef FILE* reader
        cdef FILE* writer
        cdef int32_t code = capi.OK
        cdef int64_t count = 0
        reader = fopen(source_path, "r")
        if reader == NULL:
            raise FileNotFoundError(str(words))
        writer = fopen(target_path, "w")
        if writer == NULL:
            fclose(reader)
            raise OSError(f"{phonemes} cannot be written")
        with nogil:
            code = self.run(reader, writer, &count)
            fclose(reader)
            fclose(writer)
        capi.check(code)
        return count

    cdef int32_t run(self, FILE* reader, FILE* writer, int64_t* count) noexcept nogil:
        cdef char line[LONGEST + 2]
        cdef int32_t word[LONGEST + 2]
        cdef capi.Hypothesis best
        cdef int32_t code
        cdef int64_t length, n
        cdef bint whole
        while fgets(line, sizeof(line), reader) != NULL:
            length = 0
            whole = strlen(line) <= LONGEST or line[LONGEST] == c"\n"
            while not whole:  # too long for a word
                n = fgetc(reader)
                whole = n == EOF or n == c"\n"
                line[0] = c"\n"
            for n in range(<int64_t>strlen(line)):
                if line[n] == c"\n" or line[n] == c"\r":
                    break
                word[length] = self.ids[<unsigned char>line[n]]
                if word[length] < 0:
                    length = 0
                    break
                length += 1
            count[0] += 1
            if length > 0:
                code = capi.decode(self.session, word, length, NULL)
                if code != capi.OK:
                    return code
                code = capi.hypothesis(self.session, 0, 0, &best)
                if code != capi.OK:
                    return code
                for n in range(best.length):
                    if n > 0:
                        fputc(c" ", writer)
                    fputs(self.phonemes[best.ids[n]], writer)
            fputc(c"\n", writer)
        return capi.OK

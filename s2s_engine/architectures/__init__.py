"""Networks of papers and programs as functions that write them with `ModelBuilder`, one network per
function, as its equations stand. Knows wirings; never file formats, vocabularies or execution.

Each function takes a `ModelBuilder` and a mapping of arrays by name, whose shapes its docstring
gives, and writes the encoder and the decoder; the caller gives ids and vocabularies to `build`.
"""

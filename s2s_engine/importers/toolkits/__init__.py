"""One module per importer, each with its `IMPORTER`: a toolkit's names, options, ids, vocabularies
and beam rule. Equations are in `s2s_engine.architectures`."""

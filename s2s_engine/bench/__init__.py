"""The benchmark suite behind `s2s-engine bench`: the engine beside its own limits and, if asked,
beside other runtimes. No module of the engine imports it."""

"""Nothing for Python: `cimport s2s_engine.capi`, as capi.pxd says."""

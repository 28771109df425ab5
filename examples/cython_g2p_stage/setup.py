"""Builds the stage. Knows Cython; nothing of s2s_engine."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    packages=["g2p_stage"],
    package_dir={"": "src"},
    ext_modules=cythonize([Extension("g2p_stage.stage", ["src/g2p_stage/stage.pyx"])]),
)

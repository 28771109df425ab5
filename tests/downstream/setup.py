"""Builds the package `downstream`. For tests of versions, a folder `declared` may hold another
release's s2s_engine/capi.pxd. Knows Cython; nothing of s2s_engine."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    packages=["downstream"],
    ext_modules=cythonize(
        [Extension("downstream.stage", ["downstream/stage.pyx"])],
        include_path=["declared"],
        language_level=3,
    ),
)

"""Generates stubs of the compiled modules and compares them with those of the package: the same
classes, functions, properties and parameters, in the same order, with and without defaults. Types
in the package's own are narrower than what a generator can see, and are not compared. Needs
pybind11-stubgen; knows names, never what they do."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import s2s_engine

PACKAGE = Path(s2s_engine.__file__).parent
Shape = dict[str, str]
# Made by the generator, or without a place in a stub.
IGNORED = {"__all__", "__init__"}


def shape_of(tree: ast.Module | ast.ClassDef, within: str = "") -> Shape:
    """Every name with its parameters; properties and attributes without."""
    found: Shape = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[within + node.name] = "class"
            found |= shape_of(node, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            found[within + node.name] = parameters(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[within + node.target.id] = "attribute"
    return found


def parameters(node: ast.FunctionDef) -> str:
    """As in `self, a, /, b, *, c=`: names of positional ones are not part of a signature."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if "property" in decorators or any(text.endswith(".setter") for text in decorators):
        return "attribute"
    given = node.args
    named = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    parts = []
    for number, one in enumerate([*given.posonlyargs, *given.args]):
        unnamed = number < len(given.posonlyargs) or re.fullmatch(r"arg\d+", one.arg)
        parts.append(("_" if unnamed else one.arg) + ("=" if number >= named else ""))
    if given.kwonlyargs:
        parts.append("*")
    for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parts.append(one.arg + ("" if default is None else "="))
    if "staticmethod" not in decorators and parts and parts[0] == "_":
        parts[0] = "self"
    return ", ".join(parts)


def public(shape: Shape) -> Shape:
    """Without constructors that take nothing, which the generator leaves out, and aliases."""
    return {
        name: text
        for name, text in shape.items()
        if name not in IGNORED and not (name.endswith(".__init__") and text == "self")
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pybind11_stubgen", "s2s_engine._core", "-o", folder],
            check=True, capture_output=True, cwd=folder,  # not where s2s_engine is sources
        )  # fmt: skip
        generated = Path(folder, "s2s_engine", "_core.pyi").read_text()
    ours = public(shape_of(ast.parse((PACKAGE / "_core.pyi").read_text())))
    theirs = public(shape_of(ast.parse(generated)))
    wrong = [
        f"{name}: the stub has ({ours.get(name, 'nothing')}), the module "
        f"({theirs.get(name, 'nothing')})"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    capi = importlib.import_module("s2s_engine.capi")
    wrong += [
        f"capi.{name}: not in the stub"
        for name, value in vars(capi).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]
    wrong += [
        f"capi.{name}: not in the module"
        for name in shape_of(ast.parse((PACKAGE / "capi.pyi").read_text()))
    ]
    print("\n".join(wrong) or f"{len(ours)} names of _core.pyi are as the module has them")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

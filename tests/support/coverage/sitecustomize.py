"""Record which lines of the guestbook run, in every process of the tests, servers included.

Python imports this module at its start where `PYTHONPATH` has this folder, as `make pytest`
arranges it. Each statement is preceded by one that marks its line in a file which all processes
have mapped into memory. Tracing would take half as long again; this takes a few percent, and a
process may end in any way, also by SIGKILL. `report.py` hands the lines to coverage.
"""

from __future__ import annotations

import ast
import ctypes
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_FOLDER = os.environ.get("COVERED_LINES")


# An object of the module mmap would keep its file open: a hundred files, which tests would notice.
_mmap = ctypes.CDLL(None).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_ssize_t)


def map_lines(path: str, count: int) -> ctypes.Array[ctypes.c_bool]:
    """Return whether each line of a source file has run, for every process to read and write."""
    file = Path(f"{_FOLDER}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    size = count + 1
    number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(number, size)
    access = mmap.PROT_READ | mmap.PROT_WRITE
    address = _mmap(None, size, access, mmap.MAP_SHARED, number, 0)
    os.close(number)
    return (ctypes.c_bool * size).from_address(address)


def _mark(line: int) -> list[ast.stmt]:
    tree = ast.parse(f"__lines__[{line}] = True")
    return ast.increment_lineno(tree, line - 1).body


def _with_marks(block: list[ast.stmt]) -> list[ast.stmt]:
    marked: list[ast.stmt] = []
    for statement in block:
        lines = [each.lineno for each in (*getattr(statement, "decorator_list", ()), statement)]
        marked += [*(mark for line in lines for mark in _mark(line)), statement]
    return marked


def _head(block: list[ast.stmt]) -> int:
    """Return how many statements have to stay first: a docstring, an import from `__future__`."""
    count = 0
    for statement in block:
        match statement:
            case ast.Expr(ast.Constant(str())) if not count:
                count += 1
            case ast.ImportFrom("__future__"):
                count += 1
            case _:
                break
    return count


class _Marker(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            if isinstance(block := getattr(node, name, None), list):
                head = _head(block)
                setattr(node, name, [*block[:head], *_with_marks(block[head:])])
        match node:
            case ast.ExceptHandler(lineno=line) | ast.match_case(ast.pattern(lineno=line)):
                node.body[:0] = _mark(line)
        return node


class _Loader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, **options: Any) -> CodeType:  # type: ignore[override]
        tree: ast.Module = _Marker().visit(ast.parse(data))
        count = data.count(b"\n") + 1
        begin = f"__lines__ = __import__('sitecustomize').map_lines({path!r}, {count})"
        head = _head(tree.body)
        marks = [mark for each in tree.body[:head] for mark in _mark(each.lineno)]
        tree.body[head:head] = [*ast.parse(begin).body, *marks]
        return super().source_to_code(tree, path, **options)

    # The bytecode must not be mistaken for that without marks, nor for that of an older Marker.
    def path_stats(self, path: str) -> Mapping[str, Any]:
        stats = super().path_stats(path)
        return {**stats, "mtime": stats["mtime"] + Path(__file__).stat().st_mtime}

    def get_data(self, path: str) -> bytes:
        return super().get_data(f"{_FOLDER}{path}" if path.endswith(".pyc") else path)

    def set_data(self, path: str, data: Any, **options: Any) -> None:
        super().set_data(f"{_FOLDER}{path}", data, **options)


class _Finder(PathFinder):
    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != "guestbook":
            return None
        spec = super().find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


if _FOLDER:
    sys.meta_path.insert(0, _Finder())

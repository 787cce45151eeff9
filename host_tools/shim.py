"""A board on CPython: what the device package needs to run unchanged, with a board's integers.

Importing this module gives CPython a module `micropython` and makes `thimble.kernels` a *strict* module: its
viper functions are rewritten as they are imported, so that they behave as on a 32-bit board and every step
that a board would get wrong in silence raises:

- the result of each operation must fit 32 bits with sign (`OverflowError`, naming the line), as no kernel
may rely
  on wrapping; a shift count must lie in 0 .. 31;
- a pointer knows its buffer: a read or a write outside of it, or a negative index, raises `IndexError`, and a
  pointer to halfwords or words must be aligned (`ValueError`);
- `ptr8` and `ptr16` read unsigned and store the low bits, as the machine does. A negative word read through
  `ptr32`, which reads differently on 32 and 64 bits, raises `OverflowError`.

The source file is not touched. Callers: `thimble` itself on CPython, and the tests.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
HEAP_BYTES = 1 << 30  # a host's memory has no fixed size: as much as the largest model may take
STRICT_MODULES = ("thimble.kernels", "thimble.bit_kernels")
_POINTERS = ("ptr8", "ptr16", "ptr32")
_CHECKED = (ast.Add, ast.Sub, ast.Mult, ast.LShift, ast.FloorDiv, ast.Mod, ast.Pow)


class Address:
    """A pointer as an integer: a buffer and a byte offset. It takes part in sums and comparisons only."""

    __slots__ = ("at", "data")

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at

    def __add__(self, other: int) -> Address:
        return Address(self.data, self.at + other)

    __radd__ = __add__

    def __sub__(self, other: int) -> Address:
        return Address(self.data, self.at - other)

    def _other(self, other: Address | int) -> int:
        if isinstance(other, int):
            # The range check of a sum: any address fits a word.
            return self.at if INT32_MIN <= other <= INT32_MAX and other in (INT32_MIN, INT32_MAX) else other
        if other.data is not self.data:
            raise ValueError("a comparison of pointers into two buffers")
        return other.at

    def __lt__(self, other: Address | int) -> bool:
        return self.at < self._other(other)

    def __le__(self, other: Address | int) -> bool:
        return self.at <= self._other(other)

    def __gt__(self, other: Address | int) -> bool:
        return self.at > self._other(other)

    def __ge__(self, other: Address | int) -> bool:
        return self.at >= self._other(other)


class Ptr8:
    """`ptr8`: unsigned bytes."""

    __slots__ = ("at", "data")

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at

    def __getitem__(self, index: int) -> int:
        place = self.at + index
        if index < 0 or place < 0:
            raise IndexError(f"ptr8 read at index {index}, byte {place}")
        try:
            return self.data[place]
        except IndexError:
            raise IndexError(f"ptr8 read at byte {place} of {len(self.data)}") from None

    def __setitem__(self, index: int, value: int) -> None:
        place = self.at + index
        if index < 0 or not 0 <= place < len(self.data):
            raise IndexError(f"ptr8 write at index {index}, byte {place} of {len(self.data)}")
        self.data[place] = value & 0xFF


class _WordPointer:
    """`ptr16` and `ptr32`: `item` bytes each, aligned to their size within the buffer."""

    __slots__ = ("at", "data")
    item = 0

    def __init__(self, data: memoryview, at: int) -> None:
        if at % self.item:
            raise ValueError(f"a pointer to words of {self.item} bytes at byte {at}")
        self.data, self.at = data, at

    def _place(self, index: int, what: str) -> int:
        place = self.at + index * self.item
        if index < 0 or not 0 <= place <= len(self.data) - self.item:
            raise IndexError(
                f"{what} of {self.item} bytes at index {index}, byte {place} of {len(self.data)}"
            )
        return place

    def __getitem__(self, index: int) -> int:
        place = self._place(index, "read")
        value = int.from_bytes(self.data[place : place + self.item], "little")
        if value > INT32_MAX:
            raise OverflowError(f"the negative word at index {index} reads differently on 64 bits")
        return value

    def __setitem__(self, index: int, value: int) -> None:
        place = self._place(index, "write")
        if self.item == 4 and value < 0:
            raise OverflowError(f"the negative word {value} would read differently on 64 bits")
        masked = value & ((1 << 8 * self.item) - 1)
        self.data[place : place + self.item] = masked.to_bytes(self.item, "little")


class Ptr16(_WordPointer):
    """`ptr16`: unsigned halfwords."""

    __slots__ = ()
    item = 2


class Ptr32(_WordPointer):
    """`ptr32`: words."""

    __slots__ = ()
    item = 4


_CLASSES: dict[str, Any] = {"ptr8": Ptr8, "ptr16": Ptr16, "ptr32": Ptr32}


def _pointer(kind: str, value: Any) -> Any:
    """`ptr8(value)` and so on: of a pointer, of an address, or of an object with a buffer."""
    if isinstance(value, (Address, Ptr8, Ptr16, Ptr32)):
        return _CLASSES[kind](value.data, value.at)
    if isinstance(value, int):
        raise ValueError("an integer that came from no pointer")
    view = memoryview(value)
    return _CLASSES[kind](view if view.format == "B" and view.ndim == 1 else view.cast("B"), 0)


def _integer(value: Any) -> Any:
    """`int(value)`: a pointer's address, or an integer that must fit a word."""
    if isinstance(value, (Ptr8, Ptr16, Ptr32)):
        return Address(value.data, value.at)
    return value if isinstance(value, Address) else _fitting(int(value), "an argument")


def _unsigned(value: Any) -> Any:
    """`uint(value)` wraps, as on the board."""
    return _integer(value) if isinstance(value, (Ptr8, Ptr16, Ptr32)) else value & 0xFFFFFFFF


def _fitting(value: int, where: str) -> int:
    if not INT32_MIN <= value <= INT32_MAX:
        raise OverflowError(f"{where}: {value} does not fit 32 bits")
    return value


def _overflow(value: Any, where: str) -> Any:
    raise OverflowError(f"{where}: {value} does not fit 32 bits")


def _shift_count(value: int, where: str) -> int:
    if not 0 <= value <= 31:
        raise OverflowError(f"{where}: a shift by {value}")
    return value


HELPERS = {
    "_shim_pointer": _pointer,
    "_shim_integer": _integer,
    "_shim_unsigned": _unsigned,
    "_shim_overflow": _overflow,
    "_shim_count": _shift_count,
}


def _is_viper(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(decorator) == "micropython.viper" for decorator in node.decorator_list
    )


class _Strict(ast.NodeTransformer):
    """Rewrites the body of one viper function."""

    def __init__(self, filename: str) -> None:
        self._filename = filename

    def _call(self, helper: str, *arguments: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(helper, ast.Load()), list(arguments), [])

    def _where(self, node: ast.AST) -> ast.Constant:
        return ast.Constant(f"{self._filename}:{getattr(node, 'lineno', 0)}")

    def _check(self, value: ast.expr, node: ast.AST) -> ast.expr:
        """`value` if it fits a word, in line: this is the inner loop of every kernel."""
        name = "_shim_value"
        fits = ast.Compare(
            ast.Constant(INT32_MIN),
            [ast.LtE(), ast.LtE()],
            [ast.NamedExpr(ast.Name(name, ast.Store()), value), ast.Constant(INT32_MAX)],
        )
        loaded = ast.Name(name, ast.Load())
        return ast.IfExp(fits, loaded, self._call("_shim_overflow", loaded, self._where(node)))

    def _operation(self, node: ast.BinOp, source: ast.AST) -> ast.expr:
        if isinstance(node.op, (ast.LShift, ast.RShift)) and not isinstance(node.right, ast.Constant):
            node.right = self._call("_shim_count", node.right, self._where(source))
        return self._check(node, source) if isinstance(node.op, _CHECKED) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._operation(node, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.target, ast.Name):
            raise SyntaxError(f"{self._filename}:{node.lineno}: write augmented stores in full")
        value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return ast.Assign([node.target], self._operation(value, node))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return self._check(node, node) if isinstance(node.op, ast.USub) else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _POINTERS:
            return self._call("_shim_pointer", ast.Constant(name), *node.args)
        if name in ("int", "uint"):
            return self._call("_shim_integer" if name == "int" else "_shim_unsigned", *node.args)
        return node

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """The function with checked arguments and body, and without viper's annotations."""
        node.decorator_list = []
        node.returns = None
        prologue: list[ast.stmt] = []
        for argument in node.args.args:
            kind = ast.unparse(argument.annotation) if argument.annotation else ""
            argument.annotation = None
            loaded = ast.Name(argument.arg, ast.Load())
            if kind in _POINTERS:
                value = self._call("_shim_pointer", ast.Constant(kind), loaded)
            elif kind == "int":
                value = self._call("_shim_integer", loaded)
            else:
                continue
            prologue.append(ast.Assign([ast.Name(argument.arg, ast.Store())], value))
        node.body = prologue + [self.visit(statement) for statement in node.body]
        return node


def strict_source(source: bytes | str, filename: str) -> ast.Module:
    """The syntax tree of a module with its viper functions rewritten."""
    tree = ast.parse(source, filename)
    tree.body = [
        _Strict(Path(filename).name).function(node)
        if isinstance(node, ast.FunctionDef) and _is_viper(node)
        else node
        for node in tree.body
    ]
    return ast.fix_missing_locations(tree)


class _StrictLoader(importlib.machinery.SourceFileLoader):
    """Loads a module of viper functions; keeps no bytecode file, which a change of this module would not
    renew."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return compile(strict_source(self.get_data(path), path), path, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(HELPERS)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in STRICT_MODULES:
            return None
        for folder in path or ():
            file = Path(folder) / (fullname.rpartition(".")[2] + ".py")
            if file.is_file():
                loader = _StrictLoader(fullname, str(file))
                return importlib.util.spec_from_file_location(fullname, file, loader=loader)
        return None


def install() -> None:
    """Make `import thimble` work: the module `micropython`, MicroPython's clock and heap, and strict
    kernels."""
    if "micropython" not in sys.modules:
        module = types.ModuleType("micropython")
        module.__dict__.update(const=lambda value: value, viper=lambda function: function)
        sys.modules["micropython"] = module
    if not hasattr(time, "ticks_us"):
        clock: Any = time
        clock.ticks_us = lambda: time.perf_counter_ns() // 1000
        clock.ticks_ms = lambda: time.perf_counter_ns() // 1_000_000
        clock.ticks_diff = lambda end, start: end - start
        clock.sleep_us = lambda us: time.sleep(us / 1e6)
    if not hasattr(gc, "mem_free"):
        heap: Any = gc
        heap.mem_free, heap.mem_alloc = lambda: HEAP_BYTES, lambda: 0
        heap.threshold = lambda *_: -1
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


install()

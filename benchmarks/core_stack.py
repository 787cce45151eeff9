"""The most stack that the C core can take: compiled objects with their call graphs go in, bytes come out.

gcc writes a call graph with each function's frame beside every object (-fcallgraph-info=su). Calls through a
pointer are found by what the source calls there (`type->check(`): such a call may reach every function that
is stored under that name. Frames are also read from the machine code, because inline assembly may push
registers of which the compiler does not know; the larger figure counts. A function that reaches itself would
be recursion, and ends the computation.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

CALLGRAPH_FLAGS = ["-fcallgraph-info=su"]
# Functions of the core that a caller may name, by what they are for.
ENTRIES = {"load": "thimble_load", "run": "thimble_run"}
# Name at the place of an indirect call -> names of the functions that it may reach.
STORED = {
    "check": r"check(_\w+)?|thimble_check_pool",
    "run": r"run(_\w+)?|thimble_run_fused_\w+",
    "function": r"\w+_elements",  # arithmetic.c: what is done with pairs of elements
    "finish": r"\w+_block",  # columns.c: what fused_add.c does with a block
    "sha256_matches": r"thimble_sha256_matches",
    "table_bytes": r"table_bytes",
    "own_table_bytes": r"(own_)?table_bytes",
    "open": r"open_\w+",
    "rewind": r"rewind_\w+",
    "next_row": r"(thimble_)?next_\w+_row",
    "next_bits_row": r"next_bits_row",
    "finished": r"\w+_finished",
}
# Files in which they stand, where the name does not say enough.
STORED_IN = {
    "check": r"const thimble_operator_type",
    "run": r"const thimble_operator_type|thimble_run_fused_",
    "function": r"element_function",
    "finish": r"thimble_columns_run",
    "table_bytes": r"const thimble_coder_type",
    "own_table_bytes": r"const thimble_coder_type",
}
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"\\]+)\\n[^"]*?(?:\\n(\d+) bytes \((\w+)\))?"')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"(?: label: "([^"]+):(\d+):(\d+)")?')


@dataclass
class Graph:
    """``frames``: bytes of each function; ``calls``: whom it may call. Functions are "file:name"."""

    frames: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Deepest:
    """Bytes of the deepest path, and its functions from the entry on."""

    stack_bytes: int
    path: tuple[str, ...]


def _base(name: str) -> str:
    """A function's name without what the compiler adds to copies of it (`.constprop.0`)."""
    return name.partition(".")[0]


def read_graph(objects: list[Path]) -> Graph:
    """The call graph of objects compiled with CALLGRAPH_FLAGS.

    Raises:
        SystemExit: an indirect call that STORED does not explain, or a frame of no fixed size.
    """
    graph, indirect = Graph(), []
    for path in objects:
        text = path.with_suffix(".ci").read_text(encoding="utf-8")
        for title, label, frame, kind in NODE.findall(text):
            if frame:
                if kind != "static":
                    raise SystemExit(f"{label} has a stack frame of no fixed size")
                name = f"{path.stem}:{title.rpartition(':')[2]}"
                graph.frames[name] = max(int(frame), _pushed_bytes(path, title.rpartition(":")[2]))
                graph.calls.setdefault(name, set())
        for source, target, file, line, column in EDGE.findall(text):
            caller = f"{path.stem}:{source.rpartition(':')[2]}"
            if target == "__indirect_call":
                indirect.append((caller, _called_name(Path(file), int(line), int(column))))
            else:
                callee = target.rpartition(":")[2]
                graph.calls.setdefault(caller, set()).add(
                    f"{path.stem}:{callee}" if ":" in target else callee
                )
    _resolve(graph, indirect, _sources(objects))
    return graph


def _sources(objects: list[Path]) -> dict[str, str]:
    """Text of the source of each object, by the object's stem."""
    found = {}
    for path in objects:
        title = re.search(r'graph: \{ title: "([^"]+)"', path.with_suffix(".ci").read_text(encoding="utf-8"))
        assert title is not None
        found[path.stem] = Path(title[1]).read_text(encoding="utf-8")
    return found


def _called_name(file: Path, line: int, column: int) -> str:
    """What is called through a pointer in the expression that starts at a place in a source: the first member
    with a parenthesis behind it, or the first name."""
    text = file.read_text(encoding="utf-8").splitlines()[line - 1][column - 1 :]
    member = re.search(r"(?:->|\.)(\w+)(?:\[[^\]]*\])*\(", text)
    name = member or re.match(r"(\w+)\(", text)
    return name[1] if name else text


def _resolve(graph: Graph, indirect: list[tuple[str, str]], sources: dict[str, str]) -> None:
    """Give every call its functions: of the same file first, then of any. The library's are left out."""
    everywhere: dict[str, str] = {}
    for name in graph.frames:
        everywhere[name.partition(":")[2]] = name
    for caller, callees in graph.calls.items():
        resolved = set()
        for callee in callees:
            if ":" in callee:
                resolved.add(callee)
            elif callee in everywhere:
                resolved.add(everywhere[callee])
        graph.calls[caller] = resolved
    for caller, name in indirect:
        if name not in STORED:
            raise SystemExit(f"{caller} calls {name!r} through a pointer, which STORED does not explain")
        where = re.compile(STORED_IN.get(name, ""))
        reached = {
            target
            for target in graph.frames
            if re.fullmatch(STORED[name], _base(target.partition(":")[2]))
            and where.search(sources[target.partition(":")[0]])
            and target != caller
        }
        if not reached:
            raise SystemExit(
                f"{caller} calls {name!r} through a pointer, but nothing is stored under that name"
            )
        graph.calls[caller] |= reached


def _pushed_bytes(path: Path, function: str) -> int:
    """What a function's machine code takes of the stack: registers that it pushes, room that it makes."""
    command = ["arm-none-eabi-objdump", "-d", f"--disassemble={function}", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    total = 0
    for registers in re.findall(r"\t(?:push|stmdb\tsp!,|vpush)[^{]*\{([^}]*)\}", text):
        for part in registers.split(","):
            first, _, last = part.strip().partition("-")
            width = 8 if first.startswith("d") else 4
            numbers = [int(re.sub(r"\D", "", item)) for item in (first, last) if re.search(r"\d", item)]
            total += width * (numbers[1] - numbers[0] + 1 if len(numbers) == 2 else 1)
    return total + sum(int(amount) for amount in re.findall(r"\tsub(?:w|\.w)?\tsp,(?: sp,)? #(\d+)", text))


def library_bytes(image: Path) -> int:
    """What the functions of the C library and of the compiler's that are linked into an image take: all
    together, since one may call another."""
    command = ["arm-none-eabi-nm", str(image)]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = re.findall(r" [Tt] (mem\w+|__\w+)$", symbols, re.MULTILINE)
    return sum(_pushed_bytes(image, name) for name in names)


def deepest(graph: Graph, entry: str) -> Deepest:
    """The path from a function of the core that takes most.

    Raises:
        SystemExit: a function can reach itself.
    """
    known: dict[str, Deepest] = {}

    def walk(name: str, above: tuple[str, ...]) -> Deepest:
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            raise SystemExit(f"the core is recursive: {circle}")
        if name not in known:
            below = [walk(callee, (*above, name)) for callee in sorted(graph.calls.get(name, ()))]
            worst = max(below, key=lambda found: found.stack_bytes, default=Deepest(0, ()))
            known[name] = Deepest(graph.frames[name] + worst.stack_bytes, (name, *worst.path))
        return known[name]

    (start,) = [name for name in graph.frames if name.partition(":")[2] == entry]
    return walk(start, ())

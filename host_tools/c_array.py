"""A packed model as C sources: the bytes of a .thimble file go in, texts of files come out and are written.

`thimble export --c-array` calls this. The sources are the model as an aligned constant array, a registry of
the operators, decoders and schedules that it needs, thimble_build.h, which takes the code for everything else
out of the core's shared functions, and, if asked, the core itself, together an Arduino library.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from host_tools.atomic_file import replacing
from host_tools.cli import version_text
from host_tools.shipped import core_folder
from model_packager import container
from model_packager.container_read import ParsedFile
from model_packager.errors import UsageError
from model_packager.format_table import (
    Coder,
    ConstantKind,
    Feature,
    Layout,
    OperatorKind,
    PortFlag,
    RequantForm,
    ValueMap,
)
from model_packager.model import Model, Port
from model_packager.passes.kernel_scratch import c_paths, ram_peak_bytes

MARK = "Written by `thimble export`; it overwrites this file."
BYTES_IN_A_LINE = 16
# The core keeps blocks of fully connected rows, which only save time, where these have one MAC in so many.
BLOCKS_PAY = 16


@dataclass(frozen=True)
class Exported:
    """``files``: text by path relative to the folder; ``core_files``: those that are the core's own."""

    name: str
    files: dict[str, str]
    core_files: tuple[str, ...]
    model_bytes: int
    memory_bytes: int


def c_identifier(name: str) -> str:
    """The name as the start of C names: other characters become `_`; `model_` goes before a digit, and before
    the core's own prefix. Raises ``UsageError`` when nothing of it is left."""
    cleaned = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")
    if not cleaned:
        raise UsageError(f"no letter or digit of {name!r} can stand in a C name; choose another with --name")
    return f"model_{cleaned}" if cleaned[0].isdigit() or cleaned.lower().startswith("thimble") else cleaned


def export(data: bytes, name: str, with_core: bool = False, sha256: bool = False) -> Exported:
    """The sources for a model.

    Args:
        data: a .thimble file.
        name: becomes the prefix of all names in C.
        with_core: add the core's sources; all sources lie in `src` then, beside a library.properties.
        sha256: let the registry have the check of the file's SHA-256.

    Raises:
        FormatError: the file is damaged.
        UsageError: the C core has not what the model needs, or no C name comes of `name`.
    """
    parsed, model, prefix = container.parse(data), container.load(data), c_identifier(name)
    missing = [name for name in _feature_names(parsed) if name not in core_features()]
    if missing:
        raise UsageError(f"this model needs {' and '.join(missing)}, which the C core does not have")
    memory_bytes = ram_peak_bytes(model, "c")
    files = {
        f"{prefix}_model.h": _header(prefix, model, len(data), memory_bytes),
        f"{prefix}_model.c": _array(prefix, data),
        f"{prefix}_registry.c": _registry(prefix, parsed, sha256),
        "thimble_build.h": _build(prefix, parsed, model),
    }
    core_files: tuple[str, ...] = ()
    if with_core:
        core = _core_sources()
        core_files = tuple(f"src/{name}" for name in core)
        files = {f"src/{name}": text for name, text in (files | core).items()}
        files["library.properties"] = _library_properties(prefix)
    return Exported(prefix, files, core_files, len(data), memory_bytes)


def write_files(exported: Exported, folder: Path, force: bool = False) -> None:
    """Write all files, or none of them.

    Raises:
        UsageError: one would replace a file that `export` did not write, or the export of another model.
        OSError: the folder cannot be made or written.
    """
    for name in exported.files:
        path = folder / name
        if force or not path.exists():
            continue
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if MARK not in text.partition("\n")[0]:
            raise UsageError(f"{path} is not from `thimble export`; it stays, unless --force is given")
        if name.endswith("thimble_build.h") and f" {exported.name}: " not in text:
            raise UsageError(
                f"{folder} has the export of another model, whose needs {path.name} lists; "
                "choose another folder, or replace it with --force"
            )
    for parent in sorted({(folder / name).parent for name in exported.files}):
        parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, text in exported.files.items():
            stack.enter_context(replacing(folder / name)).write(text.encode())


def _mark(comment: str, begin: str = "/* ", end: str = " */") -> str:
    return f"{begin}{MARK}{end}\n{comment}"


def _port_line(model: Model, direction: str, port: Port) -> str:
    shape = "x".join(map(str, model.tensors[port.tensor].shape))
    zero_point = f" {'-' if port.zero_point < 0 else '+'} {abs(port.zero_point)}" if port.zero_point else ""
    meaning = f"integer = real / {port.scale:.9g}{zero_point}" if port.flags & PortFlag.FLOAT else "integers"
    name = re.sub(r"[^ -~]|\*/", "?", port.name)
    return f" *   {direction} {name}: {shape} int8, {meaning}\n"


def _header(prefix: str, model: Model, model_bytes: int, memory_bytes: int) -> str:
    upper = prefix.upper()
    ports = "".join(_port_line(model, "input", port) for port in model.inputs)
    ports += "".join(_port_line(model, "output", port) for port in model.outputs)
    reset = f"\n *         thimble_reset(&model, memory, {upper}_MEMORY_BYTES) < 0 ||"
    has_state = any(tensor.flags for tensor in model.tensors)
    return _mark(
        f"""/* The model {prefix}, to be run by Thimble's C core:
 *
{ports} *
 *     #include <string.h>
 *     #include "{prefix}_model.h"
 *
 *     static uint32_t memory[({upper}_MEMORY_BYTES + 3) / 4];
 *
 *     // Copies the samples in, runs the model once, and returns where its outputs are, NULL for an error.
 *     const int8_t *{prefix}_run(const int8_t *samples) {{
 *         thimble_model model;
 *         thimble_port input, output;
 *         if (thimble_load(&model, &{prefix}_registry, {prefix}_model, {upper}_MODEL_BYTES) < 0 ||\
{reset if has_state else ""}
 *             thimble_input(&model, 0, &input) < 0 || thimble_output(&model, 0, &output) < 0) {{
 *             return NULL;
 *         }}
 *         memcpy((uint8_t *)memory + input.offset, samples, input.bytes);
 *         if (thimble_run(&model, memory, {upper}_MEMORY_BYTES) < 0) {{
 *             return NULL;
 *         }}
 *         return (const int8_t *)memory + output.offset;
 *     }}
 *
 * Compile with -ffunction-sections -fdata-sections and link with -Wl,--gc-sections. With -I, the folder of
 * this file comes before that of the core's headers, so that its thimble_build.h is the one that counts. */
#ifndef {upper}_MODEL_H
#define {upper}_MODEL_H

#include "thimble.h"

#define {upper}_MODEL_BYTES {model_bytes}u
#define {upper}_MEMORY_BYTES {memory_bytes}u /* that thimble_run needs, aligned to 4 */

#ifdef __cplusplus
extern "C" {{
#endif

extern const uint8_t {prefix}_model[{upper}_MODEL_BYTES];
extern const thimble_registry {prefix}_registry; /* what this model needs */

#ifdef __cplusplus
}}
#endif

#endif
"""
    )


def _array(prefix: str, data: bytes) -> str:
    lines = "".join(
        "    " + " ".join(f"0x{byte:02x}," for byte in data[start : start + BYTES_IN_A_LINE]) + "\n"
        for start in range(0, len(data), BYTES_IN_A_LINE)
    )
    return _mark(
        f"""#include "{prefix}_model.h"

/* The core reads words where they lie. */
#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ALIGNED_TO_WORDS _Alignas(4)
#elif defined(__GNUC__)
#define ALIGNED_TO_WORDS __attribute__((aligned(4)))
#else
#error "say here how this compiler aligns an array to 4 bytes"
#endif

ALIGNED_TO_WORDS const uint8_t {prefix}_model[{prefix.upper()}_MODEL_BYTES] = {{
{lines}}};
"""
    )


def _mask(terms: list[str], separator: str) -> str:
    """The terms, one a line if they are several."""
    return separator.join(terms) or "0u"


def _features(parsed: ParsedFile, separator: str) -> str:
    return _mask([f"(uint32_t)THIMBLE_FEATURE_{name}" for name in _feature_names(parsed)], separator)


def _bits(prefix: str, members: list[str], separator: str) -> str:
    """A mask with one bit for each number of an enumeration."""
    return _mask([f"1u << THIMBLE_{prefix}_{name}" for name in members], separator)


def core_features() -> list[str]:
    """Names of `Feature` that the core has: what its registry of everything names."""
    registry = (core_folder() / "src" / "registry_all.c").read_text(encoding="utf-8")
    return re.findall(r"THIMBLE_FEATURE_(\w+)", registry)


def _feature_names(parsed: ParsedFile) -> list[str]:
    return [str(feature.name) for feature in Feature if feature & parsed.header.required_features]


def _operator_names(parsed: ParsedFile) -> list[str]:
    return [kind.name for kind in OperatorKind if parsed.header.required_operators >> kind & 1]


def _is_raw(fields: dict[str, int]) -> bool:
    wanted = (Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY, 8)
    return tuple(fields[name] for name in ("layout", "coder", "value_map", "value_bits")) == wanted


def _weights(parsed: ParsedFile) -> list[dict[str, int]]:
    return [constant.fields for constant in parsed.constants if constant.kind is ConstantKind.WEIGHTS]


def _registry(prefix: str, parsed: ParsedFile, sha256: bool) -> str:
    operators, weights, indented = _operator_names(parsed), _weights(parsed), " |\n        "
    types = "".join(f"    &thimble_{name.lower()},\n" for name in operators)
    coders = []
    for coder in Coder:
        used = [fields for fields in weights if fields["coder"] == coder]
        name = "raw" if used and all(map(_is_raw, used)) else coder.name.lower()
        coders.append(f"&thimble_coder_{name}" if used else "NULL")
    fused = [
        f"thimble_run_{name.lower()}" if name in _feature_names(parsed) else "NULL"
        for name in ("FUSED_DEPTHWISE", "FUSED_ADD")
    ]
    bits = "&thimble_bits" if "BIT_ACTIVATIONS" in _feature_names(parsed) else "NULL"
    check = (
        "thimble_sha256_matches,"
        if sha256
        else "NULL, /* thimble_sha256_matches; the CRC-32 of every section is checked without it */"
    )
    return _mark(
        f"""/* The operators and decoders of the model {prefix}. */
#include <stddef.h>

#include "{prefix}_model.h"
#include "thimble_registry.h"

static const thimble_operator_type *const operators[] = {{
{types}    NULL,
}};

const thimble_registry {prefix}_registry = {{
    .features = {_features(parsed, indented)},
    .operators = {_bits("OPERATOR", operators, indented)},
    .operator_list = operators,
    .coders = {{{", ".join(coders)}}},
    .fused_depthwise = {fused[0]},
    .fused_add = {fused[1]},
    .bits = {bits},
    .sha256_matches = {check}
}};
"""
    )


def _paths(parsed: ParsedFile, model: Model) -> list[str]:
    """Ways to compute that the core keeps: firmware/core/src/build.h."""
    taken = {path for index in range(len(model.operators)) for path in c_paths(model, index)}
    if not all(map(_is_raw, _weights(parsed))):
        taken.add("DECODED")
    connected = sum(model.mac_count(op) for op in model.operators if op.kind is OperatorKind.FULLY_CONNECTED)
    if connected * BLOCKS_PAY > sum(map(model.mac_count, model.operators)):
        taken.add("BLOCKS")
    return [path for path in ("DECODED", "COLUMNS", "ROWS", "PLANES", "BLOCKS") if path in taken]


def _build(prefix: str, parsed: ParsedFile, model: Model) -> str:
    weights = _weights(parsed)
    forms = {c.fields["form"] for c in parsed.constants if c.kind is ConstantKind.REQUANT}
    if RequantForm.SIGN in forms:
        forms.add(RequantForm.PACKED)  # the core takes signs of sums that it scales by one half
    layouts = [layout.name for layout in Layout if any(fields["layout"] == layout for fields in weights)]
    maps = [kind.name for kind in ValueMap if any(fields["value_map"] == kind for fields in weights)]
    continued = " | \\\n     "
    masks = {
        "FEATURES": _features(parsed, continued),
        "OPERATORS": _bits("OPERATOR", _operator_names(parsed), continued),
        "LAYOUTS": _bits("LAYOUT", layouts, continued),
        "VALUE_MAPS": _bits("MAP", maps, continued),
        "REQUANT_FORMS": _bits(
            "REQUANT_FORM", [form.name for form in RequantForm if form in forms], continued
        ),
        "PATHS": _bits("PATH", _paths(parsed, model), continued),
    }
    lines = "".join(f"#define THIMBLE_BUILD_{name} \\\n    ({value})\n" for name, value in masks.items())
    return _mark(
        f"""/* For {prefix}: what the core keeps of code that serves several features or operators.
 * thimble_load refuses files that need more. */
#ifndef THIMBLE_BUILD_H
#define THIMBLE_BUILD_H

{lines}
#endif
"""
    )


def _core_sources() -> dict[str, str]:
    """The core's files, marked, but for thimble_build.h and the registry of everything."""
    folder = core_folder()
    files = {}
    for path in sorted([*folder.glob("include/*.h"), *folder.glob("src/*.[ch]")]):
        if path.name not in ("thimble_build.h", "registry_all.c"):
            files[path.name] = _mark(path.read_text(encoding="utf-8"))
    return files


def _library_properties(prefix: str) -> str:
    version = version_text().split()[1].rstrip(",")
    return _mark(
        f"""name=thimble_{prefix}
version={version if version[0].isdigit() else "0.0.0"}
author=Thimble
maintainer=Thimble
sentence=The neural network {prefix} with the runtime that runs it.
paragraph=Integer arithmetic, no allocation; the weights stay compressed in flash.
category=Data Processing
url=
architectures=*
includes={prefix}_model.h
""",
        "# ",
        "",
    )

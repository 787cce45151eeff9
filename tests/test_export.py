"""`thimble export --c-array`: the sources compile silently as C and C++, run with the bits of the reference,
hold no operator or decoder that the model does not need, and replace no file of the user's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from benchmarks.core_build import CORE, CPUS
from benchmarks.lenet300 import packed_lenet300
from host_tools import cli
from host_tools.c_array import c_identifier, export
from host_tools.exit_codes import ExitCode
from model_packager import container, reference
from model_packager.format_table import DType
from model_packager.pack import pack
from tests.core_driver import WARNINGS
from tests.random_networks import NetworkBuilder, random_inputs
from tests.tiny_models import TINY_MODELS

REPOSITORY = Path(__file__).resolve().parent.parent
DIGITS = REPOSITORY / "examples" / "digits" / "digits_int8.thimble"
XNOR = DIGITS.parents[1] / "fashion" / "fashion_xnor.thimble"
MODELS = ["digits", "bits", "kws", "ic", "lenet300"]
FILES = {"kws": "kws_ref_model_int8", "ic": "ic_pretrainedResnet_int8"}
RUNS = 2
# Behind the usage comment of the header: runs what standard input holds, in pieces of INPUT_BYTES.
DRIVER = """
#include <stdio.h>
int main(void) {
    static int8_t samples[INPUT_BYTES];
    while (fread(samples, 1, INPUT_BYTES, stdin) == INPUT_BYTES) {
        const int8_t *outputs = RUN(samples);
        if (outputs == NULL || fwrite(outputs, 1, OUTPUT_BYTES, stdout) != OUTPUT_BYTES) {
            return 1;
        }
    }
    return 0;
}
"""


@cache
def _pack(path: Path, objective: str) -> bytes:
    return pack(path, objective).data


@pytest.fixture
def model_of(request: pytest.FixtureRequest) -> Callable[[str], bytes]:
    """A packed network by name; those of MLPerf Tiny and LeNet-300-100 need the data folder."""

    def get(name: str) -> bytes:
        if name == "digits":
            return DIGITS.read_bytes()
        if name == "bits":
            return XNOR.read_bytes()
        data = request.getfixturevalue("data_dir")
        if name == "lenet300":
            return packed_lenet300(data, "size").data
        objective = "speed" if name == "kws" else "size"
        return _pack(data / "mlperf_tiny" / "models" / f"{FILES[name]}.tflite", objective)

    return get


def run_export(model: Path, folder: Path, *options: str) -> int:
    return cli.main(["export", str(model), "--c-array", str(folder), *options])


def write_export(folder: Path, name: str, data: bytes, *options: str) -> Path:
    """Exports `data` as model `name`; returns the folder of the sources."""
    model = folder / f"{name}.thimble"
    model.write_bytes(data)
    assert run_export(model, folder / "out", *options) == 0
    return folder / "out"


def usage_of(header: Path) -> str:
    """The program in the header's comment, as it stands there."""
    lines = re.findall(r"^ \*     (.*)$|^ \*$", header.read_text(), re.MULTILINE)
    return "\n".join(lines)


def compile_c(command: list[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("name", MODELS)
def test_export_compiles_silently_and_gives_the_bits_of_the_reference(
    name: str, model_of: Callable[[str], bytes], require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    data = model_of(name)
    model = container.load(data)
    sources = write_export(tmp_path, name, data, "--with-core") / "src"
    sizes = {
        "INPUT_BYTES": model.tensors[model.inputs[0].tensor].size_bytes,
        "OUTPUT_BYTES": model.tensors[model.outputs[0].tensor].size_bytes,
        "RUN": f"{name}_run",
    }
    main = tmp_path / "main.c"
    main.write_text(usage_of(sources / f"{name}_model.h") + DRIVER)
    defines = [f"-D{key}={value}" for key, value in sizes.items()]
    sanitizers = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = tmp_path / "program"
    flags = [*WARNINGS, "-Wno-missing-prototypes", *sanitizers, *defines, f"-I{sources}"]
    compile_c([require_tool("gcc"), *flags, main, *sorted(sources.glob("*.c")), "-o", program])
    inputs = random_inputs(model, RUNS, 5)
    done = subprocess.run([program], input=inputs[0].tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    (expected,) = reference.run(model, inputs)
    assert done.stdout == expected.tobytes()


def test_export_header_compiles_as_cpp(require_tool: Callable[[str], Path], tmp_path: Path) -> None:
    sources = write_export(tmp_path, "digits", DIGITS.read_bytes(), "--with-core") / "src"
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "digits_model.h"\nint main() { thimble_model model; return thimble_load(&model, '
        "&digits_registry, digits_model, DIGITS_MODEL_BYTES); }\n"
    )
    flags = ["-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{sources}"]
    objects = []
    for source in sorted(sources.glob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        compile_c([require_tool("gcc"), "-c", f"-I{sources}", source, "-o", objects[-1]])
    compile_c([require_tool("g++"), *flags, main, *objects, "-o", tmp_path / "program"])
    assert subprocess.run([tmp_path / "program"]).returncode == 0


def symbols(image: Path) -> set[str]:
    """Functions and constants in a linked image."""
    done = subprocess.run(["arm-none-eabi-nm", image], capture_output=True, text=True, check=True)
    return {line.split()[2] for line in done.stdout.splitlines() if line.split()[-2] in "TtRr"}


@pytest.mark.parametrize("cpu", ["m0", "m4"])
@pytest.mark.parametrize("name", MODELS)
def test_export_linked_for_a_core_holds_only_what_the_model_needs(
    name: str, cpu: str, model_of: Callable[[str], bytes], require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    gcc = require_tool("arm-none-eabi-gcc")
    data = model_of(name)
    sources = write_export(tmp_path, name, data, "--with-core") / "src"
    main = tmp_path / "main.c"
    main.write_text(
        usage_of(sources / f"{name}_model.h") + "\nstatic int8_t samples[1 << 18];\n"
        f"int main(void) {{ return {name}_run(samples) == NULL; }}\n"
        "void _exit(int code) { for (;;) { } }\n"
    )
    flags = ["-Os", "-mthumb", *CPUS[cpu][1], "-ffunction-sections", "-fdata-sections", f"-I{sources}"]
    link = ["-nostartfiles", "-Wl,-e,main", "-Wl,--gc-sections", "-specs=nano.specs", "-specs=nosys.specs"]
    image = tmp_path / "image.elf"
    command = [gcc, *flags, *link, main, *sources.glob("*.c"), "-Wl,--no-warnings", "-o", image]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = symbols(image)
    parsed = container.parse(data)
    operators = {f"thimble_{operator.kind.name.lower()}" for operator in parsed.operators}
    registry = (CORE / "include" / "thimble_registry.h").read_text()
    types = re.findall(r"extern const thimble_operator_type ([^;]*);", registry)
    assert found & set(", ".join(types).split(", ")) == operators
    rows = {"next_whole_row", "next_dense_row", "next_sparse_row", "next_bitmap_row", "next_bits_row"}
    layouts = {"digits": {"next_whole_row"}, "kws": set(), "lenet300": {"next_sparse_row"}}
    if name in layouts:
        assert {symbol.removeprefix("thimble_") for symbol in found} & rows == layouts[name]
    assert ("thimble_bits" in found) == (name == "bits")
    assert "thimble_sha256_matches" not in found and "thimble_registry_all" not in found


def test_export_without_core_builds_beside_the_core_and_checks_the_hash(
    require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = write_export(tmp_path, "digits", DIGITS.read_bytes(), "--sha256")
    assert sorted(path.name for path in folder.iterdir()) == [
        "digits_model.c", "digits_model.h", "digits_registry.c", "thimble_build.h",
    ]  # fmt: skip
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdio.h>\n#include <string.h>\n#include "digits_model.h"\n'
        "static uint32_t copy[DIGITS_MODEL_BYTES / 4 + 1];\n"
        "int main(void) { thimble_model model; memcpy(copy, digits_model, DIGITS_MODEL_BYTES);\n"
        "((uint8_t *)copy)[DIGITS_MODEL_BYTES - 1] ^= 1;\n"
        'printf("%d", (int)thimble_load(&model, &digits_registry, copy, DIGITS_MODEL_BYTES)); return 0; }\n'
    )
    program = tmp_path / "program"
    sources = [*folder.glob("*.c"), *(CORE / "src").glob("*.c")]
    compile_c(
        [
            require_tool("gcc"),
            *WARNINGS,
            f"-I{folder}",
            f"-I{CORE / 'include'}",
            main,
            *sources,
            "-o",
            program,
        ]
    )
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.stdout == "-9"  # bad_hash


def test_export_of_one_model_refuses_the_file_of_another(
    require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    builder = NetworkBuilder(3)
    builder.output(builder.lookup(builder.input((1, 4))))
    other = pack(builder.model).data
    sources = write_export(tmp_path, "digits", DIGITS.read_bytes(), "--with-core") / "src"
    array = ", ".join(map(str, other))
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdio.h>\n#include "digits_model.h"\n'
        f"static const _Alignas(4) uint8_t other[] = {{{array}}};\n"
        "int main(void) { thimble_model model;\n"
        'printf("%d", (int)thimble_load(&model, &digits_registry, other, sizeof other)); return 0; }\n'
    )
    program = tmp_path / "program"
    compile_c([require_tool("gcc"), f"-I{sources}", main, *sources.glob("*.c"), "-o", program])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.stdout == "-10"  # unsupported_feature, the look-up runs in place


@pytest.mark.parametrize(("depth", "kernel", "code"), [(8, 3, 0), (72, 3, -11), (8, 5, -11)])
def test_export_without_a_path_refuses_the_file_that_needs_it(
    depth: int, kernel: int, code: int, require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    def convolutions(depth: int, kernel: int) -> bytes:
        builder = NetworkBuilder(3)
        builder.output(builder.depthwise(builder.conv(builder.input((1, 6, 6, depth)), 8, 3), kernel))
        return pack(builder.model, "speed").data

    # Rows of 9 * 8 weights go by columns, windows of 3 x 3 on planes; rows of 9 * 72 and 5 x 5 do not.
    sources = write_export(tmp_path, "short", convolutions(8, 3), "--with-core") / "src"
    assert "PATH_ROWS" not in (sources / "thimble_build.h").read_text()
    other = convolutions(depth, kernel)
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdio.h>\n#include "short_model.h"\n'
        f"static const _Alignas(4) uint8_t other[] = {{{', '.join(map(str, other))}}};\n"
        "int main(void) { thimble_model model;\n"
        'printf("%d", (int)thimble_load(&model, &short_registry, other, sizeof other)); return 0; }\n'
    )
    program = tmp_path / "program"
    compile_c([require_tool("gcc"), f"-I{sources}", main, *sources.glob("*.c"), "-o", program])
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.stdout == str(code)  # -11: unsupported_operator


def test_export_replaces_its_own_files_but_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_export(tmp_path, "digits", DIGITS.read_bytes())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run_export(tmp_path / "digits.thimble", folder) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run_export(tmp_path / "digits.thimble", folder, "--name", "other") == ExitCode.USAGE
    assert "another model" in capsys.readouterr().err
    (folder / "digits_registry.c").write_text("/* mine */\n")
    assert run_export(tmp_path / "digits.thimble", folder) == ExitCode.USAGE
    assert "digits_registry.c is not from `thimble export`" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after == before | {"digits_registry.c": b"/* mine */\n"}
    assert run_export(tmp_path / "digits.thimble", folder, "--force") == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_export_of_a_damaged_file_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(DIGITS.read_bytes())
    data[-1] ^= 1
    model = tmp_path / "digits.thimble"
    model.write_bytes(data)
    assert run_export(model, tmp_path / "out") != 0
    assert "bad_hash" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_where_a_file_cannot_be_replaced_leaves_all_as_they_were(tmp_path: Path) -> None:
    folder = write_export(tmp_path, "digits", DIGITS.read_bytes())
    header = (folder / "digits_model.h").read_bytes()
    (folder / "thimble_build.h").unlink()
    (folder / "thimble_build.h").mkdir()
    assert run_export(tmp_path / "digits.thimble", folder, "--force", "--sha256") != 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "digits_model.c", "digits_model.h", "digits_registry.c", "thimble_build.h",
    ]  # fmt: skip
    assert (folder / "digits_model.h").read_bytes() == header


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", "digits"),
        ("my model-v2", "my_model_v2"),
        ("300", "model_300"),
        ("thimble", "model_thimble"),
    ],
)
def test_c_identifier_of_a_file_name_is_one(name: str, expected: str) -> None:
    assert c_identifier(name) == expected


def test_export_of_a_model_with_16_bit_activations_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = TINY_MODELS["fully_connected"]()
    for tensor in model.tensors:
        tensor.dtype, tensor.arena_offset = DType.INT16, 2 * tensor.arena_offset
    path = tmp_path / "wide.thimble"
    path.write_bytes(container.dump(model))
    assert run_export(path, tmp_path / "out") == ExitCode.USAGE
    assert "INT16_ACTIVATIONS" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_names_every_file_of_the_core(tmp_path: Path) -> None:
    files = export(DIGITS.read_bytes(), "digits", with_core=True).files
    names = {path.name for path in [*(CORE / "src").iterdir(), *(CORE / "include").iterdir()]}
    assert names - {"registry_all.c"} == {Path(name).name for name in files if name.startswith("src/")} - {
        "digits_model.h", "digits_model.c", "digits_registry.c",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "tools"), [("run", ("gcc",)), ("qemu", ("arm-none-eabi-gcc", "qemu-system-arm"))]
)
def test_bare_c_example_builds_and_names_the_digit(
    target: str, tools: tuple[str, ...], require_tool: Callable[[str], Path], tmp_path: Path
) -> None:
    make = require_tool("make")
    for tool in tools:
        require_tool(tool)
    command = [make, "-C", REPOSITORY / "examples" / "bare_c", target, f"BUILD={tmp_path}"]
    thimble = f"THIMBLE={sys.executable} -m host_tools.cli"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [*map(str, command), thimble]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "\nit is a 3\n" in done.stdout

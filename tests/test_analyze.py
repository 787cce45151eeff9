"""`thimble analyze`: the lecture's counts, on layers and on files of every format; nothing is counted
twice."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from host_tools import cli
from host_tools.analysis_picture import draw
from host_tools.exit_codes import ExitCode
from host_tools.inspect import inspect_file
from model_packager.analysis import (
    OPERATION_PJ,
    Convolution,
    Form,
    accumulator_bits,
    analyse,
    estimate_energy,
    forms_of,
)
from model_packager.format_table import OperatorKind
from model_packager.model import Model
from model_packager.pack import pack
from model_packager.reference import accumulator_bounds
from tests.random_networks import NetworkBuilder

Capture = pytest.CaptureFixture[str]
GRAPHS = Path(__file__).parent / "data"
# The lecture's example: 7x7x3 to 5x5x128 by 3x3 kernels, without padding.
LECTURE = Convolution(7, 7, 3, 5, 5, 128, 3, 3)


def form(layer: Convolution, name: str) -> Form:
    return next(form for form in forms_of(layer) if form.name == name)


def small_network() -> Model:
    builder = NetworkBuilder(8)
    inner = builder.depthwise(builder.conv(builder.input((1, 8, 8, 3)), 6, 3), 3)
    builder.output(builder.fully_connected(builder.global_pool(builder.conv(inner, 8, 1)), 5))
    return builder.model


def run_cli(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["analyze", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_lecture_standard_form_has_3456_weights_and_86400_multiplications() -> None:
    standard = form(LECTURE, "standard")
    assert (standard.weights, standard.macs) == (3_456, 86_400)


def test_lecture_separable_form_has_411_weights_and_both_counts_of_operations() -> None:
    separable = form(LECTURE, "depthwise separable")
    assert separable.weights == 3 * 9 + 128 * 3 == 411
    assert separable.macs == 675 + 9_600 == 10_275
    # The lecture's 16,675 adds the additions of the pointwise part: 2 for each of 25 x 128 outputs.
    assert separable.macs + separable.parts[1].additions == 16_675


def test_grouped_form_divides_weights_and_macs_by_the_groups() -> None:
    layer = Convolution(27, 27, 96, 27, 27, 256, 5, 5)
    grouped = form(layer, "grouped by 2")
    assert (grouped.weights * 2, grouped.macs * 2) == (layer.weights, layer.macs)


def test_two_3x3_replace_a_5x5_with_18_weights_for_25() -> None:
    layer = Convolution(9, 9, 1, 5, 5, 1, 5, 5)
    stacked = form(layer, "2 of 3x3")
    assert (layer.weights, stacked.weights) == (25, 18)
    assert [part.output_h for part in stacked.parts] == [7, 5]


def test_1x3_and_3x1_replace_a_3x3_with_6_weights_for_9() -> None:
    factorised = form(Convolution(5, 5, 1, 3, 3, 1, 3, 3), "1x3, 3x1")
    assert factorised.weights == 6
    assert [(part.output_h, part.output_w) for part in factorised.parts] == [(5, 3), (3, 3)]


def test_every_form_gives_the_output_of_the_layer() -> None:
    for layer in (
        LECTURE,
        Convolution(32, 32, 8, 16, 16, 8, 3, 3, 8, 2, 2),
        Convolution(9, 9, 4, 9, 9, 6, 5, 5),
    ):
        for candidate in forms_of(layer):
            last = candidate.parts[-1]
            assert (last.output_h, last.output_w, last.outputs) == (
                layer.output_h,
                layer.output_w,
                layer.outputs,
            )


@pytest.mark.parametrize(("terms", "bits"), [(1, 16), (2, 17), (3 * 3 * 3, 21), (64 * 3 * 3, 26), (9216, 30)])
def test_accumulator_bits_are_2n_and_log2_of_the_terms(terms: int, bits: int) -> None:
    assert accumulator_bits(terms) == bits


def test_accumulator_of_an_integer_model_is_proven_within_its_bounds() -> None:
    model = small_network()
    for layer, bounds in zip(analyse(model).layers, accumulator_bounds(model), strict=True):
        if layer.convolution is not None:
            assert bounds is not None and layer.proven_bits is not None
            half = 1 << (layer.proven_bits - 1)
            assert -half <= bounds[0] and bounds[1] < half
            assert bounds[0] < -half // 2 or bounds[1] >= half // 2


def test_energy_of_int8_operations_is_the_lectures_share_of_fp32() -> None:
    assert OPERATION_PJ["fp32 add"] / OPERATION_PJ["int8 add"] == pytest.approx(30)
    assert OPERATION_PJ["fp32 multiply"] / OPERATION_PJ["int8 multiply"] == pytest.approx(18.5)


def test_energy_counts_operations_and_words() -> None:
    int8 = next(energy for energy in estimate_energy(1000, 400, 40) if energy.precision == "int8")
    assert int8.arithmetic_pj == pytest.approx(1000 * (0.2 + 0.1))
    assert int8.memory_pj == pytest.approx(110 * 5.0)
    assert int8.dram_pj == pytest.approx(10 * 5.0 + 100 * 640.0)


def test_analysis_totals_are_those_of_the_model() -> None:
    model = small_network()
    analysis = analyse(model)
    assert analysis.weights == sum(o.weights.values.size for o in model.operators if o.weights is not None)
    assert analysis.macs == sum(model.mac_count(operator) for operator in model.operators)
    assert [layer.kind for layer in analysis.layers] == [operator.kind.name for operator in model.operators]
    assert analysis.layers[1].convolution is not None and analysis.layers[1].convolution.kind == "depthwise"


def test_live_activations_of_a_chain_are_input_and_output() -> None:
    model = small_network()
    first = analyse(model).layers[0]
    assert first.live_activations == first.input_activations + first.output_activations
    assert (first.input_activations, first.output_activations) == (8 * 8 * 3, 8 * 8 * 6)


def test_analyze_float_model_counts_it_as_packed() -> None:
    from host_tools.commands.analyze import analyse_file

    kinds = [layer.kind for layer in analyse_file(GRAPHS / "depthwise_separable.onnx").layers]
    assert OperatorKind.LOOKUP.name not in kinds  # activations
    assert OperatorKind.DEPTHWISE_CONV_2D.name in kinds


def test_analyze_thimble_shows_the_stored_bytes_of_inspect(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "small.thimble"
    path.write_bytes(pack(small_network()).data)
    code, out, _ = run_cli(capsys, path, "--json")
    document = json.loads(out)
    stored = {row.operator: row.stored_bytes for row in inspect_file(path.read_bytes()).weights}
    assert code == 0 and stored
    assert document["stored_bytes"] == sum(stored.values())
    assert {each["index"]: each["stored_bytes"] for each in document["layers"] if each["weights"]} == stored
    assert sum(each["mac_share"] for each in document["layers"]) == pytest.approx(1)


def test_analyze_prints_totals_layers_forms_and_precisions(capsys: Capture) -> None:
    code, out, _ = run_cli(capsys, GRAPHS / "inception.onnx")
    assert code == 0
    for heading in ("weights    924", "Layers", "other forms", "Precisions", "estimate", "ISSCC 2014"):
        assert heading in out
    assert "concatenation" in out and "standard 5x5" in out


def test_analyze_layer_prints_its_forms(capsys: Capture) -> None:
    code, out, _ = run_cli(capsys, GRAPHS / "inception.onnx", "--layer", 5)
    assert code == 0
    assert "standard 5x5" in out and "2 of 3x3" in out and "depthwise separable" in out


def test_analyze_picture_is_an_svg_with_a_bar_for_each_layer(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "layers.svg"
    code, _, _ = run_cli(capsys, GRAPHS / "inception.onnx", "--picture", path)
    root = ElementTree.fromstring(path.read_bytes())
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert code == 0 and root.tag == "{http://www.w3.org/2000/svg}svg"
    assert texts.count("pointwise") == 4 and "multiply-accumulates" in texts


def test_picture_escapes_the_name_of_the_network() -> None:
    model = small_network()
    model.name = "<a & b>"
    assert "&lt;a &amp; b&gt;" in draw(analyse(model))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layer", "99"], "there is no operator 99, only 0 to 10"),
        (["--picture", "layers.png"], "layers.png: a picture's name must end in .svg"),
    ],
)
def test_analyze_wrong_argument_is_one_sentence(arguments: list[str], sentence: str, capsys: Capture) -> None:
    code, out, err = run_cli(capsys, GRAPHS / "inception.onnx", *arguments)
    assert (code, out, err) == (ExitCode.USAGE, "", f"thimble: {sentence}\n")


def test_analyze_damaged_thimble_names_the_file(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bad.thimble"
    path.write_bytes(b"THMB")
    code, out, err = run_cli(capsys, path)
    assert code != 0 and out == ""
    assert err.startswith(f"thimble: {path}: ") and err.count("\n") == 1

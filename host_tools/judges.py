"""Judges: other runtimes that execute the original model, beside which a packed one is held.

In: the original's file and batches in its own dtype. Out: its outputs, and the name of the kernels that
computed them, since int8 kernels of different runtimes differ in the last bits. ``thimble eval`` is the
caller. Every runtime is an optional extra, imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model_packager.errors import ImportRefused, UsageError
from model_packager.importers.tflite.flatbuffer import read_model
from model_packager.model import Array


class Judge(Protocol):
    """An original model, loaded. ``name`` says which runtime and kernels; ``input_dtypes`` what it takes."""

    name: str
    input_dtypes: list[np.dtype[Any]]

    def run(self, batches: Sequence[Array]) -> list[Array]:
        """Batches (N, *shape[1:]) of the inputs' dtypes in; one (N, *shape[1:]) array for each output."""


class TfliteJudge:
    """tflite-runtime, or its successor ai-edge-litert, with its default or its reference kernels."""

    def __init__(self, path: Path, reference_kernels: bool = False) -> None:
        module, package = _first_module(
            ("tflite_runtime.interpreter", "tflite-runtime"), ("ai_edge_litert.interpreter", "ai-edge-litert")
        )
        resolvers = module.OpResolverType
        resolver = resolvers.BUILTIN_REF if reference_kernels else resolvers.AUTO
        kernels = "reference kernels" if reference_kernels else "default kernels"
        self.name = f"{package} {version(package)}, {kernels}"
        try:
            self._interpreter = module.Interpreter(
                str(path), num_threads=1, experimental_op_resolver_type=resolver
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"{path}: {package} does not run it: {_first_line(error)}") from error
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.input_dtypes = [np.dtype(detail["dtype"]) for detail in self._inputs]

    def run(self, batches: Sequence[Array]) -> list[Array]:
        return _one_by_one(self._run_sample, batches)

    def _run_sample(self, sample: Sequence[Array]) -> list[Array]:
        for detail, value in zip(self._inputs, sample, strict=True):
            self._interpreter.set_tensor(detail["index"], _shaped(value, detail["shape"]))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]).copy() for detail in self._outputs]


class TflmJudge:
    """TensorFlow Lite Micro's reference kernels, through its own Python wheel."""

    _ARENA_BYTES = 1 << 24

    def __init__(self, path: Path) -> None:
        import tflite

        module, package = _first_module(("tflite_micro", "tflite-micro"))
        self.name = f"{package} {version(package)}, reference kernels"
        data = path.read_bytes()
        graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
        self._output_count = graph.OutputsLength()
        try:
            self._interpreter = module.runtime.Interpreter.from_bytes(data, arena_size=self._ARENA_BYTES)
        except RuntimeError as error:
            raise UsageError(f"{path}: {package} does not run it: {_first_line(error)}") from error
        self._details = [self._interpreter.get_input_details(i) for i in range(graph.InputsLength())]
        self.input_dtypes = [np.dtype(detail["dtype"]) for detail in self._details]

    def run(self, batches: Sequence[Array]) -> list[Array]:
        return _one_by_one(self._run_sample, batches)

    def _run_sample(self, sample: Sequence[Array]) -> list[Array]:
        for index, (detail, value) in enumerate(zip(self._details, sample, strict=True)):
            self._interpreter.set_input(_shaped(value, detail["shape"]), index)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(index)) for index in range(self._output_count)]


class OnnxJudge:
    """onnxruntime on the processor."""

    def __init__(self, path: Path) -> None:
        module, package = _first_module(("onnxruntime", "onnxruntime"))
        self.name = f"{package} {version(package)}"
        options = module.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = module.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise UsageError(f"{path}: {package} does not run it: {_first_line(error)}") from error
        self._inputs = self._session.get_inputs()
        self.input_dtypes = [np.dtype(_ONNX_DTYPES.get(port.type, "float32")) for port in self._inputs]

    def run(self, batches: Sequence[Array]) -> list[Array]:
        return _one_by_one(self._run_sample, batches)

    def _run_sample(self, sample: Sequence[Array]) -> list[Array]:
        feed = {
            port.name: _shaped(value, [size if isinstance(size, int) else 1 for size in port.shape])
            for port, value in zip(self._inputs, sample, strict=True)
        }
        return [np.asarray(output) for output in self._session.run(None, feed)]


_ONNX_DTYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}

# Suffix of an original -> kernels a user can choose -> judge; the first one is the default.
JUDGES: dict[str, dict[str, Callable[[Path], Judge]]] = {
    ".tflite": {
        "default": TfliteJudge,
        "reference": lambda path: TfliteJudge(path, reference_kernels=True),
        "tflm": TflmJudge,
    },
    ".onnx": {"default": OnnxJudge},
}


def open_judge(path: str | Path, kernels: str = "default") -> Judge:
    """A judge for an original model.

    Raises:
        UsageError: no runtime for this kind of file, unknown kernels, a runtime that is not installed, or one
            that does not run the model.
    """
    path = Path(path)
    choices = JUDGES.get(path.suffix.lower())
    if choices is None:
        raise UsageError(f"{path}: no runtime judges such a file; the name must end in {', '.join(JUDGES)}")
    if kernels not in choices:
        raise UsageError(f"{path}: the kernels are {', '.join(choices)}, not {kernels!r}")
    if not path.is_file():
        raise FileNotFoundError(2, "there is no such file", str(path))
    if path.suffix.lower() == ".tflite":
        # The runtimes trust a file: one that is cut off ends the process.
        try:
            read_model(path.read_bytes())
        except ImportRefused as refusal:
            raise UsageError(f"{path}: {refusal}") from refusal
    return choices[kernels](path)


def original_beside(model_path: str | Path) -> Path | None:
    """The original that lies beside a packed model under the same name, if any."""
    for suffix in JUDGES:
        candidate = Path(model_path).with_suffix(suffix)
        if candidate.is_file():
            return candidate
    return None


def _first_module(*choices: tuple[str, str]) -> tuple[Any, str]:
    """(module, distribution) of the first that is installed."""
    for module, package in choices:
        try:
            return importlib.import_module(module), package
        except ImportError:
            continue
    names = " or ".join(package for _, package in choices)
    extra = "onnx" if choices[0][0] == "onnxruntime" else "judge"
    raise UsageError(f"judging needs {names}: pip install 'thimble-runtime[{extra}]'")


def _shaped(value: Array, shape: Sequence[int]) -> Array:
    """A sample in the shape that the original takes."""
    if value.size != np.prod(shape):
        wanted = tuple(map(int, shape))
        raise UsageError(f"the original takes inputs of shape {wanted}, the packed model {value.shape}")
    return value.reshape(shape)


def _one_by_one(
    run_sample: Callable[[Sequence[Array]], list[Array]], batches: Sequence[Array]
) -> list[Array]:
    """Samples through a runtime that takes one at a time; each output keeps its shape but for the batch."""
    results = [run_sample([batch[i] for batch in batches]) for i in range(len(batches[0]))]
    return [
        np.stack([value[0] if value.shape[:1] == (1,) else value for value in values])
        for values in zip(*results, strict=True)
    ]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

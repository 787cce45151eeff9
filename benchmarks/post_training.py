"""Compression without labels and training: LeNet-300-100, LeNet-5 and ResNet-8 by `prune_and_round`.

    python benchmarks/post_training.py

Each float network is packed with 1,024 training images and the recipe beside it, and evaluated on the whole
test set, before and after. The rates of the recipes were chosen on the validation rows (`--validation`),
which are never calibration samples.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from examples.image_sets import REPOSITORY, data_folder, load_cifar10, load_idx
from model_packager import container, reference
from model_packager.model import Array, Model
from model_packager.pack import import_model, pack
from model_packager.recipe import load_recipe
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

SAMPLES = 1024
_CHUNK = 500


@dataclass(frozen=True)
class Network:
    """A float network, its recipe's folder below examples/, and its inputs."""

    name: str
    source: Path
    folder: str
    load: Callable[[str], tuple[Array, Array]]


def mnist(part: str) -> tuple[Array, Array]:
    images, labels = load_idx("mnist", part)
    return images.astype(np.float32) / 255, labels


def flat_mnist(part: str) -> tuple[Array, Array]:
    images, labels = mnist(part)
    return images.reshape(len(images), -1), labels


def cifar10(part: str) -> tuple[Array, Array]:
    images, labels = load_cifar10(part)
    return images.astype(np.float32), labels


def networks() -> list[Network]:
    examples = REPOSITORY / "examples"
    resnet8 = data_folder() / "mlperf_tiny" / "models" / "ic_pretrainedResnet_fp32.tflite"
    return [
        Network("lenet300", examples / "lenet300" / "lenet300.onnx", "lenet300", flat_mnist),
        Network("lenet5", examples / "lenet5" / "lenet5.onnx", "lenet5", mnist),
        Network("resnet8", resnet8, "resnet8", cifar10),
    ]


def accuracy(model: Model, images: Array, labels: Array) -> float:
    """Share of right classes in per cent, by the reference executor, of a float or an integer model."""
    right = 0
    port = model.inputs[0]
    for start in range(0, len(images), _CHUNK):
        batch = batches_for_inputs({port.name: images[start : start + _CHUNK]}, model)[0]
        steps = batch.astype(np.float32) if model.is_float else quantised_batch(batch, model, port)
        outputs = reference.run(model, [steps])[0].reshape(len(steps), -1)
        right += int((outputs.argmax(axis=1) == labels[start : start + _CHUNK]).sum())
    return 100 * right / len(images)


def main(arguments: list[str]) -> int:
    part = "valid" if "--validation" in arguments else "test"
    chosen = [name for name in arguments if not name.startswith("--")]
    bars, slowest = [], 0.0
    print(f"network   float weights      file   ratio  float {part}  packed {part}  seconds")
    for network in networks():
        if chosen and network.name not in chosen:
            continue
        samples, (images, labels) = network.load("train")[0][:SAMPLES], network.load(part)
        float_model = import_model(network.source)
        float_bytes = 4 * sum(o.weights.values.size + (0 if o.bias is None else o.bias.size)
                              for o in float_model.operators if o.weights is not None)  # fmt: skip
        name = float_model.inputs[0].name
        before = accuracy(float_model, images, labels)
        recipe = load_recipe(REPOSITORY / "examples" / network.folder / "recipes" / "post_training.yaml")
        started = time.monotonic()
        data = pack(network.source, calibration={name: samples}, recipe=recipe).data
        seconds = time.monotonic() - started
        after = accuracy(container.load(data), images, labels)
        ratio = float_bytes / len(data)
        print(
            f"{network.name:9} {float_bytes:13,} {len(data):9,} {ratio:6.1f}x "
            f"{before:10.2f} % {after:11.2f} % {seconds:8.1f}",
            flush=True,
        )
        bars.append(f"bar {network.name}_post_training_bytes {len(data)}")
        bars.append(f"bar {network.name}_post_training_loss {before - after:.2f}")
        slowest = max(slowest, seconds)
    print("\n".join(bars))
    if not chosen:
        print(f"bar post_training_seconds {slowest:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

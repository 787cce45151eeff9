"""Networks trained with binary weights and inputs run on bits, and decide as their training graph does."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from host_tools.targets import open_target
from model_packager import container, reference
from model_packager.errors import UsageError
from model_packager.format_table import DType
from model_packager.pack import pack
from model_packager.sample_arrays import quantised_batch

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make test-train` installs it")

from test_training import stripes  # noqa: E402
from torch import nn  # noqa: E402

from model_packager.training import compress, parse_training_recipe  # noqa: E402
from model_packager.training.activations import SignActivation, traced  # noqa: E402
from model_packager.training.batches import TensorBatches  # noqa: E402
from model_packager.training.binary_inputs import binarise_inputs  # noqa: E402
from model_packager.training.methods.bnn import BinarizedNetwork  # noqa: E402
from model_packager.training.methods.xnor_net import XnorNet  # noqa: E402
from model_packager.training.schedule import Moment  # noqa: E402

torch.set_num_threads(1)

RECIPE = """
training: {epochs: 5, batch_size: 50, learning_rate: 0.005}
activations: {start: 0.5, freeze: 0.8}
layers: [{match: "#MATCH", quantise: {method: METHOD}}]
"""


def recipe_of(method: str, match: str = "[12]"):
    return parse_training_recipe(RECIPE.replace("METHOD", method).replace("MATCH", match))


def network(with_norm: bool = False) -> nn.Sequential:
    """Two convolutions, with a pool between, and two fully connected layers: (N, 1, 8, 8) to 4 classes."""
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), *([nn.BatchNorm2d(8)] if with_norm else []), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 40, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(160, 48), nn.ReLU(), nn.Linear(48, 4)),
    )


@pytest.fixture(scope="module")
def loaders() -> tuple[TensorBatches, TensorBatches]:
    return TensorBatches(*stripes(1000, 1), 50, shuffle=True), TensorBatches(*stripes(300, 2), 100)


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("method", ["xnor_net", "bnn"])
def test_binary_layers_run_on_bits_and_give_every_output_of_the_training_graph(
    method: str, with_norm: bool, loaders
) -> None:
    result = compress(network(with_norm), recipe_of(method), *loaders)
    data = pack(copy.deepcopy(result.model)).data
    packed = container.load(data)
    binary = [operator for operator in packed.operators if packed.reads_bits(operator)]
    layers = [operator for operator in binary if operator.weights is not None]
    assert len(layers) == 2 and all(set(np.unique(layer.weights.values)) == {-1, 1} for layer in layers)
    assert [tensor.dtype for tensor in packed.tensors].count(DType.BIT) == 3
    images, labels = stripes(1000, 5)
    steps = quantised_batch(images.numpy().transpose(0, 2, 3, 1), packed, packed.inputs[0])
    outputs = reference.run(packed, [steps])[0].reshape(1000, -1)
    own = result.predict(images).numpy()
    port = packed.outputs[0]
    assert (outputs.argmax(1) == own.argmax(1)).mean() >= 0.999
    assert (outputs == np.round(own / port.scale) + port.zero_point).mean() > 0.999
    assert (outputs.argmax(1) == labels.numpy()).mean() > 0.85
    for name in ("cpython", "native"):
        target = open_target(name)
        try:
            target.load(data)
            np.testing.assert_array_equal(target.run([steps[:3]])[0].reshape(3, -1), outputs[:3])
        finally:
            target.close()


def test_bnn_of_every_layer_keeps_the_inputs_of_the_network(loaders) -> None:
    """The first layer has binary weights and inputs of 8 bits (the paper's section 1.6)."""
    result = compress(network(), recipe_of("bnn", "[0123]"), *loaders)
    packed = container.load(pack(copy.deepcopy(result.model)).data)
    weighted = [operator for operator in packed.operators if operator.weights is not None]
    assert [packed.reads_bits(operator) for operator in weighted] == [False, True, True, True]
    assert all(set(np.unique(operator.weights.values)) == {-1, 1} for operator in weighted)
    images, _ = stripes(500, 5)
    steps = quantised_batch(images.numpy().transpose(0, 2, 3, 1), packed, packed.inputs[0])
    outputs = reference.run(packed, [steps])[0].reshape(500, -1)
    assert (outputs.argmax(1) == result.predict(images).numpy().argmax(1)).mean() >= 0.999


def test_binarise_inputs_orders_convolution_pool_batch_norm_sign_convolution() -> None:
    graph = traced(network())
    binarise_inputs(graph, recipe_of("xnor_net"))
    kinds = [type(part).__name__ for node in graph.graph.nodes if (part := _part(graph, node)) is not None]
    assert kinds == [
        *("Conv2d", "MaxPool2d", "BatchNorm2d", "SignActivation"),
        *("Conv2d", "BatchNorm2d", "SignActivation", "Flatten"),
        *("Linear", "BatchNorm1d", "ReLU", "Linear"),
    ]


def _part(graph, node):
    return dict(graph.named_modules()).get(node.target) if node.op == "call_module" else None


def test_binarise_inputs_behind_a_sum_is_refused() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            x = self.first(x)
            return self.second(torch.relu(x + x))

    with pytest.raises(UsageError, match="layer 'second' cannot read signs: 'add' stands before it"):
        binarise_inputs(traced(Residual()), recipe_of("xnor_net", "1"))


def test_sign_activation_is_never_zero_and_passes_gradients_within_one() -> None:
    """Equation 4 of the BNN paper."""
    values = torch.tensor([-2.0, -0.5, 0.0, 1.0, 1.5], requires_grad=True)
    signs = SignActivation()(values)
    assert signs.tolist() == [-1, -1, 1, 1, 1]
    (signs * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [0, 2, 3, 4, 0]


@torch.no_grad()
def test_bnn_stores_plain_signs_and_clips_real_weights_to_one() -> None:
    weight = torch.tensor([[0.2, -0.4, 0.0, -3.0]])
    method = BinarizedNetwork(weight)
    method.begun.fill_(True)
    assert method(weight).tolist() == [[1, -1, 1, -1]]
    method.after_step(weight, Moment(0.5, 1e-3))
    torch.testing.assert_close(weight, torch.tensor([[0.2, -0.4, 0.0, -1.0]]))
    values, scales = method.integers(weight)
    assert values.tolist() == [[1, -1, 1, -1]] and scales.tolist() == [1.0]


@torch.no_grad()
def test_xnor_net_scales_each_row_by_its_mean_magnitude() -> None:
    weight = torch.tensor([[0.2, -0.4, 0.9, -0.1], [0.3, 0.3, -0.3, 0.3]])
    method = XnorNet(weight)
    method.begun.fill_(True)
    torch.testing.assert_close(method(weight), torch.tensor([[0.4, -0.4, 0.4, -0.4], [0.3, 0.3, -0.3, 0.3]]))
    values, scales = method.integers(weight)
    assert values.tolist() == [[1, -1, 1, -1], [1, 1, -1, 1]]
    assert scales.tolist() == pytest.approx([0.4, 0.3])

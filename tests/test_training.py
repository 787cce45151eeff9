"""The training engine: what it trains is what the packed file computes, and a kill costs nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from model_packager import container, reference
from model_packager.errors import ImportRefused, UsageError
from model_packager.format_table import Coder
from model_packager.pack import import_model, pack
from model_packager.sample_arrays import quantised_batch

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make test-train` installs it")

from torch import nn  # noqa: E402

from host_tools.cli import main  # noqa: E402
from model_packager.importers.pytorch import import_module  # noqa: E402
from model_packager.training import compress, parse_training_recipe  # noqa: E402
from model_packager.training.activations import quantised_graph, quantisers  # noqa: E402
from model_packager.training.batches import TensorBatches  # noqa: E402
from model_packager.training.checkpoint import load_checkpoint  # noqa: E402
from model_packager.training.network import build_network, load_network  # noqa: E402
from model_packager.training.start import rounded_network  # noqa: E402

torch.set_num_threads(1)  # these networks are too small to be shared between cores

RECIPE = """
seed: 3
training: {epochs: 4, batch_size: 50, learning_rate: 0.003, distillation: {weight: 0.5, temperature: 2}}
activations: {start: 0.5, freeze: 0.8}
layers:
  - {match: "#0", quantise: {method: learned_step, bits: 5}}
  - {match: depthwise_conv_2d, quantise: {method: learned_step, bits: 5}}
  - match: head
    quantise: {method: rate_aware, levels: 3, rate: 2.0e-4}
    bias_bits: 6
    encoding: any-range-any
"""


class SmallNetwork(nn.Module):
    """Convolution, batch norm, depthwise convolution, sum, linear layer: (N, 1, 8, 8) to 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(96, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.depthwise(x) + x)
        return self.head(self.pool(x).flatten(1))


def stripes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 8, 8) in 0..1 with a bright stripe in one of four directions, and the direction."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    places = torch.randint(1, 7, (count,), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    grids = torch.stack([rows, columns, (rows + columns) // 2, (rows - columns + 8) // 2])
    images = (grids[labels] == places[:, None, None]).float()
    noise = torch.rand(images.shape, generator=generator)
    return (0.6 * images + 0.4 * noise)[:, None], labels


@pytest.fixture(scope="module")
def loaders() -> tuple[TensorBatches, TensorBatches]:
    return TensorBatches(*stripes(1000, 1), 50, shuffle=True), TensorBatches(*stripes(300, 2), 100)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    module = SmallNetwork()
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    images, labels = stripes(1000, 1)
    for _ in range(6):
        for rows in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
            optimizer.step()
    return module.eval()


def test_compress_packed_file_computes_what_the_training_graph_does(network, loaders) -> None:
    """The bar is 99.9 % of the classes; on the same integer grid it is every output in every bit."""
    result = compress(network, parse_training_recipe(RECIPE), *loaders)
    packed = container.load(pack(copy.deepcopy(result.model)).data)
    images, labels = stripes(1000, 5)
    batch = images.numpy().transpose(0, 2, 3, 1)
    port = packed.outputs[0]
    steps = reference.run(packed, [quantised_batch(batch, packed, packed.inputs[0])])[0].reshape(1000, -1)
    own = result.predict(images)
    own_steps = np.round(own.numpy() / port.scale) + port.zero_point
    assert (steps == own_steps).all()
    assert (steps.argmax(1) == labels.numpy()).mean() > 0.9
    head = result.model.operators[-1]
    assert set(np.unique(head.weights.values)) <= set(range(-3, 4))
    assert head.weights.encoding.coder is Coder.RANGE
    assert head.bias is None or np.abs(head.bias).max() <= 32


def test_compress_average_pool_rounds_as_on_the_device(loaders) -> None:
    """The packer makes it a depthwise convolution, whose requantisation rounds twice too."""
    torch.manual_seed(4)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.AvgPool2d(3),
        nn.Conv2d(6, 8, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    recipe = parse_training_recipe("training: {epochs: 2, batch_size: 50}\nactivations: {start: 0.5}")
    result = compress(module, recipe, *loaders)
    images, _ = stripes(500, 6)
    port, batch = result.model.outputs[0], images.numpy().transpose(0, 2, 3, 1)
    steps = reference.run(result.model, [quantised_batch(batch, result.model, result.model.inputs[0])])[0]
    own_steps = np.round(result.predict(images).numpy() / port.scale) + port.zero_point
    assert (steps.reshape(500, -1) == own_steps).all()


def test_compress_in_bfloat16_trains_as_well_and_ends_in_float64(network, loaders) -> None:
    text = RECIPE.replace("batch_size: 50", "batch_size: 50, precision: bfloat16")
    coarse, fine = (compress(network, parse_training_recipe(recipe), *loaders) for recipe in (text, RECIPE))
    assert coarse.history[0].loss != fine.history[0].loss
    assert coarse.history[-1].valid_accuracy > 90
    assert all(parameter.dtype == torch.float64 for parameter in coarse.module.parameters())


def test_compress_leaves_the_given_module_alone(network, loaders) -> None:
    before = copy.deepcopy(network.state_dict())
    compress(network, parse_training_recipe(RECIPE.replace("epochs: 4", "epochs: 1")), *loaders)
    after = network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_compress_killed_and_resumed_gives_the_uninterrupted_result(network, loaders, tmp_path) -> None:
    recipe, path = parse_training_recipe(RECIPE), tmp_path / "state" / "training.ckpt"

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch(done: int, whole: int) -> None:
        if done == 2 * 20 + 7:
            raise Killed

    with pytest.raises(Killed):
        compress(network, recipe, *loaders, checkpoint=path, progress=kill_in_the_third_epoch)
    resumed_steps: list[int] = []
    resumed = compress(
        network, recipe, *loaders, checkpoint=path, progress=lambda done, whole: resumed_steps.append(done)
    )
    whole = compress(network, recipe, *loaders)
    assert resumed_steps[0] == 41
    assert resumed.history == whole.history
    for ours, theirs in zip(resumed.model.operators, whole.model.operators, strict=True):
        if ours.weights is not None:
            np.testing.assert_array_equal(ours.weights.values, theirs.weights.values)
            np.testing.assert_array_equal(ours.bias, theirs.bias)


def test_checkpoint_of_another_recipe_is_refused(network, loaders, tmp_path) -> None:
    path = tmp_path / "training.ckpt"
    one = parse_training_recipe(RECIPE.replace("epochs: 4", "epochs: 1"))
    compress(network, one, *loaders, checkpoint=path)
    assert load_checkpoint(path, one.text) is not None
    with pytest.raises(UsageError, match="checkpoint of another recipe"):
        compress(network, parse_training_recipe(RECIPE), *loaders, checkpoint=path)


def test_compress_early_stop_ends_before_the_last_epoch(network, loaders) -> None:
    """With a learning rate of zero nothing improves after the first epoch."""
    recipe = parse_training_recipe(
        "training: {epochs: 9, learning_rate: 0.0, early_stop: {patience: 2, start: 0.3}}\n"
        "activations: {start: 0.0, freeze: 0.0}"
    )
    assert len(compress(network, recipe, *loaders).history) == 5


def test_compress_entry_that_matches_no_layer_is_refused(network, loaders) -> None:
    recipe = parse_training_recipe("layers: [{match: nowhere, quantise: {method: learned_step}}]")
    with pytest.raises(UsageError, match="no layer takes the entry 'nowhere'; there are #0 first"):
        compress(network, recipe, *loaders)


def test_quantised_graph_unknown_operation_is_named() -> None:
    class Unknown(nn.Module):
        def forward(self, x):
            return torch.erfinv(x)

    with pytest.raises(UsageError, match="does not know the operation 'erfinv'"):
        quantised_graph(Unknown())


def test_quantised_graph_stores_what_the_packed_network_stores(network) -> None:
    """Input, first ReLU, depthwise (it feeds a sum), the sum's ReLU, logits; pool and flatten only move."""
    assert len(quantisers(quantised_graph(copy.deepcopy(network)))) == 5


@pytest.mark.parametrize("name", ["digits/digits.onnx", "lenet300/lenet300.onnx"])
def test_build_network_computes_as_the_reference(name: str) -> None:
    model = import_model(REPOSITORY / "examples" / name)
    module, example = load_network(REPOSITORY / "examples" / name)
    inputs = torch.rand(5, *example.shape[1:], generator=torch.Generator().manual_seed(1))
    stored = inputs.permute(0, 2, 3, 1) if inputs.dim() == 4 else inputs
    expected = reference.run(model, [stored.numpy()])[0].reshape(5, -1)
    np.testing.assert_allclose(module(inputs).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_build_network_of_a_residual_tflite_computes_as_the_reference(data_dir: Path) -> None:
    """Pads on one side only, sums, an average pool; the softmax at the end is left out."""
    model = import_model(data_dir / "mlperf_tiny" / "models" / "ic_pretrainedResnet_fp32.tflite")
    module, example = build_network(model)
    inputs = torch.rand(4, *example.shape[1:], generator=torch.Generator().manual_seed(1)) * 255
    expected = reference.run(model, [inputs.permute(0, 2, 3, 1).numpy()])[0].reshape(4, -1)
    np.testing.assert_allclose(module(inputs).softmax(1).detach().numpy(), expected, atol=1e-4)


def test_build_network_of_an_integer_model_is_refused(data_dir: Path) -> None:
    with pytest.raises(ImportRefused, match="integers already"):
        load_network(data_dir / "mlperf_tiny" / "models" / "kws_ref_model_int8.tflite")


def test_rounded_network_is_a_start_that_training_takes_over(network) -> None:
    """With a learning rate of zero, the grids of prune_and_round come out as they went in."""
    model = import_module(network, torch.zeros(1, 1, 8, 8))
    images, labels = stripes(1200, 1)
    start = rounded_network(model, images, rate=1e-5)
    module, _ = build_network(start)
    recipe = parse_training_recipe(
        "training: {epochs: 1, learning_rate: 0.0}\nactivations: {start: 0.0}\n"
        "layers: [{match: '*', quantise: {method: rate_aware, levels: 127, initial_step: 0, freeze: 0.0}}]"
    )
    valid = TensorBatches(*stripes(300, 2), 100)
    result = compress(module, recipe, TensorBatches(images, labels, 100), valid)
    trained = [operator.weights for operator in result.model.operators if operator.weights is not None]
    started = [operator.weights for operator in start.operators if operator.weights is not None]
    for ours, theirs in zip(trained, started, strict=True):
        np.testing.assert_allclose(ours.values * ours.scales[:, None], theirs.values, rtol=1e-5)
        assert np.abs(ours.values).max() < 40
    assert result.history[0].valid_accuracy > 85


TASK = """
import torch
from test_training import stripes

def load_data(part):
    return stripes({"train": 400, "valid": 100, "test": 200}[part], {"train": 1, "valid": 2, "test": 3}[part])

def augment(images):
    return images + 0.02 * torch.rand_like(images)
"""


def test_thimble_train_writes_a_file_that_runs(network, tmp_path, capsys) -> None:
    torch.onnx.export(
        network, (torch.zeros(1, 1, 8, 8),), str(tmp_path / "net.onnx"), opset_version=17, dynamo=False
    )
    (tmp_path / "task.py").write_text(TASK)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "network: net.onnx\ntask: task.py\ntraining: {epochs: 3, batch_size: 50}\n"
        "layers: [{match: '*', quantise: {method: learned_step, bits: 5}}]\n"
    )
    output, state = tmp_path / "out.thimble", tmp_path / "state"
    arguments = ["train", str(recipe), "-o", str(output), "--checkpoint", str(state), "--threads", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"{output.stat().st_size:,} bytes" in printed and "of 200" in printed
    assert "the same class for 100.00 %" in printed
    first = output.read_bytes()
    # A teacher whose input has another shape is given the same numbers.
    flat = nn.Sequential(nn.Linear(64, 4))
    torch.onnx.export(
        flat, (torch.zeros(1, 64),), str(tmp_path / "flat.onnx"), opset_version=17, dynamo=False
    )
    taught = "training: {epochs: 3, batch_size: 50, distillation: {teacher: flat.onnx}}"
    other = tmp_path / "taught.yaml"
    other.write_text(recipe.read_text().replace("training: {epochs: 3, batch_size: 50}", taught))
    assert main(["train", str(other), "-o", str(tmp_path / "taught.thimble"), "--threads", "1"]) == 0
    assert (tmp_path / "taught.thimble").read_bytes() != first
    torch.onnx.export(
        nn.Linear(9, 4), (torch.zeros(1, 9),), str(tmp_path / "flat.onnx"), opset_version=17, dynamo=False
    )
    capsys.readouterr()
    assert main(["train", str(other), "-o", str(tmp_path / "no.thimble"), "--threads", "1"]) == 2
    assert "flat.onnx: the teacher takes 9 numbers, the network 64" in capsys.readouterr().err
    assert main(arguments) == 0  # from the checkpoint: no epoch is left
    assert output.read_bytes() == first
    (tmp_path / "task.py").write_text("x = 1")
    assert main(arguments) == 2
    assert "has no function load_data(part)" in capsys.readouterr().err

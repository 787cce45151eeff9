"""Each training method does what its paper says, on small synthetic weights."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make test-train` installs it")

from test_training import stripes  # noqa: E402
from torch import nn  # noqa: E402

from model_packager.errors import UsageError  # noqa: E402
from model_packager.pack import pack  # noqa: E402
from model_packager.training import compress, parse_training_recipe  # noqa: E402
from model_packager.training.batches import TensorBatches  # noqa: E402
from model_packager.training.methods.binary_connect import BinaryConnect  # noqa: E402
from model_packager.training.methods.bwn import BinaryWeightNetwork  # noqa: E402
from model_packager.training.methods.dynamic_fixed_point import DynamicFixedPoint  # noqa: E402
from model_packager.training.methods.energy_aware import EnergyAware  # noqa: E402
from model_packager.training.methods.learned_step import LearnedStep, quantise_with_learned_step  # noqa: E402
from model_packager.training.methods.load_balanced import LoadBalanced  # noqa: E402
from model_packager.training.methods.log_domain import LogDomain  # noqa: E402
from model_packager.training.methods.magnitude import Magnitude  # noqa: E402
from model_packager.training.methods.optimal_brain_damage import OptimalBrainDamage  # noqa: E402
from model_packager.training.methods.rate_aware import (  # noqa: E402
    RateAware,
    bits_saved,
    bits_saved_if_geometric,
)
from model_packager.training.methods.structured import Structured  # noqa: E402
from model_packager.training.methods.ternary_connect import TernaryConnect  # noqa: E402
from model_packager.training.methods.ttq import TrainedTernary  # noqa: E402
from model_packager.training.methods.twn import TernaryWeightNetwork  # noqa: E402
from model_packager.training.methods.weight_sharing import WeightSharing, kmeans_linear  # noqa: E402
from model_packager.training.schedule import (  # noqa: E402
    Moment,
    gradual_density,
    iterative_density,
    learning_rate,
)

torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def begun(method, weight):
    method.begin(weight)
    method.begun.fill_(True)
    return method


# ------------------------------------------------------------------------------------------- schedules


def test_gradual_density_follows_the_cubic_of_the_paper() -> None:
    """Zhu and Gupta, equation 1: s = s_f (1 - (1 - t)^3) from sparsity 0."""
    for progress, done in ((0.1, 0.0), (0.2, 0.0), (0.4, 0.5), (0.6, 1.0), (0.9, 1.0)):
        assert 1 - gradual_density(progress, 0.2, 0.6, 0.1) == pytest.approx(0.9 * (1 - (1 - done) ** 3))


def test_iterative_density_keeps_the_same_share_in_each_round() -> None:
    densities = [iterative_density(progress, 0.0, 0.8, 0.0625, 4) for progress in (0.0, 0.2, 0.4, 0.6, 0.9)]
    assert densities == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.0625])


def test_learning_rate_holds_then_falls_in_a_line() -> None:
    rates = [learning_rate(1.0, 0.2, 0.5, progress) for progress in (0.0, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 0.6, 0.2])


# ------------------------------------------------------------------------------------------- pruning


def test_magnitude_prunes_the_smallest_and_they_stay_zero() -> None:
    weight = normal(8, 10)
    method = begun(Magnitude(weight, density=0.25, schedule="iterative", rounds=1, end=0.5), weight)
    order = weight.abs().flatten().argsort(descending=True)
    expected = torch.zeros(80, dtype=torch.bool)
    expected[order[:20]] = True
    method.after_step(weight, Moment(0.1, 1e-3))
    assert torch.equal(method.mask.flatten(), expected)
    weight += 1.0  # whatever the optimiser does, what is pruned stays pruned
    method.after_step(weight, Moment(0.9, 1e-3))
    assert torch.equal(weight.flatten() != 0, expected) and torch.equal(method(weight), weight)


# ------------------------------------------------------------------------------------------- quantising


def test_learned_step_gradient_is_equation_3() -> None:
    weight = torch.tensor([0.30, -0.66, 5.0, -5.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    quantise_with_learned_step(weight, step, -3, 3).sum().backward()
    # Inside: round(w / s) - w / s; outside: the limit. Scaled by 1 / sqrt(N Q).
    expected = ((1 - 0.6) + (-1 + 1.32) + 3 - 3) / (4 * 3) ** 0.5
    assert step.grad.item() == pytest.approx(expected, abs=1e-6)
    assert weight.grad.tolist() == [1, 1, 0, 0]


def test_learned_step_training_lowers_the_error_of_its_step() -> None:
    weight = normal(2000)
    method = begun(LearnedStep(weight, bits=3), weight)
    optimizer = torch.optim.Adam([method.step], lr=5e-3)
    before = (method(weight) - weight).square().mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        (method(weight) - weight).square().mean().backward()
        optimizer.step()
    assert (method(weight) - weight).square().mean().item() < 0.9 * before
    values, scales = method.integers(weight.reshape(20, 100))
    assert values.unique().tolist() == [-3, -2, -1, 0, 1, 2, 3] and torch.all(scales == method.step)


def test_weight_sharing_sums_the_gradients_of_an_entry() -> None:
    """The lecture's own example: the gradient of a centroid is the sum over the weights that share it."""
    weight = torch.tensor([[2.09, -0.98, 1.48, 0.09], [0.05, -0.14, -1.08, 2.12],
                           [-0.91, 1.92, 0.0, -1.03], [1.87, 0.0, 1.53, 1.49]])  # fmt: skip
    method = begun(WeightSharing(weight, codebook_size=5), weight)
    gradient = torch.arange(16.0).reshape(4, 4)
    (method(weight) * gradient).sum().backward()
    for entry in range(4):
        shared = method.index == entry + 1
        assert method.codebook.grad[entry].item() == pytest.approx(gradient[shared].sum().item())
    assert method.codebook.tolist() == pytest.approx([-1.0, 0.0, 1.5, 2.0], abs=1e-6)  # as on the slide
    assert torch.all(method(weight)[weight == 0] == 0)
    optimizer = torch.optim.SGD([method.codebook], lr=0.01)
    before = method(weight).detach().clone()
    optimizer.step()
    assert not torch.equal(method(weight), before)


def test_weight_sharing_linear_start_keeps_the_large_weights() -> None:
    """Section 3.2: with few large weights, evenly spaced centroids represent them; dense ones would not."""
    values = torch.cat([normal(5000) * 0.05, torch.tensor([1.0, -1.0])])
    centroids = kmeans_linear(values, 8)
    assert centroids.max().item() > 0.8 and centroids.min().item() < -0.8


def test_weight_sharing_integers_are_the_codebook_in_int8() -> None:
    weight = normal(10, 30)
    method = begun(WeightSharing(weight, codebook_size=9), weight)
    values, scales = method.integers(weight)
    assert len(values.unique()) <= 9
    real = values * scales[:, None]
    assert (real - method(weight)).abs().max().item() <= scales[0].item() / 2 + 1e-6


def test_rate_aware_takes_over_the_grid_that_the_weights_lie_on() -> None:
    """Also where no weight is on the first level."""
    weight = 0.03 * torch.tensor([[4.0, -9.0, 0.0, 15.0, 6.0]])
    method = begun(RateAware(weight, levels=31, initial_step=0.0), weight)
    assert method.integers(weight).values.tolist() == [[4, -9, 0, 15, 6]]
    with pytest.raises(UsageError, match="lie on no grid"):
        RateAware(normal(3, 50), initial_step=0.0)


def test_rate_aware_pull_is_what_the_coder_saves() -> None:
    """Half zeros, three eighths ones, an eighth twos: 1 bit, 1.415 and a sign, 3 and a sign."""
    weight = torch.tensor([[0.0, 0.1, -0.2, 0.3, 0.8, -1.1, 1.2, -2.3]])
    method = begun(RateAware(weight, levels=2, rate=0.5, ramp_end=0.5), weight)
    method.step.data.fill_(1.0)
    saved = bits_saved(weight.abs().round().long(), 2)
    torch.testing.assert_close(saved, torch.tensor([1.415, 1.415, 1.585]), atol=1e-3, rtol=0)
    weight.grad = torch.zeros_like(weight)
    method.after_backward(weight, Moment(0.5, 0.1))
    expected = 0.5 * torch.tensor([[0, 1, -1, 1, 1, -1, 1, -1]]) * saved[[0, 1, 1, 1, 1, 1, 1, 2]]
    torch.testing.assert_close(weight.grad, expected)
    weight.grad.zero_()
    method.after_backward(weight, Moment(0.125, 0.1))  # a quarter of the ramp: 0.25^1.5 of the strength
    torch.testing.assert_close(weight.grad, expected / 8)
    weight.grad.zero_()
    method.after_backward(weight, Moment(0.8, 0.1))
    assert not weight.grad.any()


def test_bits_saved_sum_to_the_difference_of_prices() -> None:
    """From the last level to zero: all that the weight costs more than a zero does."""
    sizes = torch.tensor([0] * 80 + [1] * 12 + [2] * 5 + [3] * 3)
    saved = bits_saved(sizes, 3)
    assert float(saved[1:].sum()) == pytest.approx(math.log2(80 / 3) + 1)
    assert (bits_saved(torch.tensor([2, 2, 2, 1]), 2) >= 0).all()  # never a pull upwards


def test_bits_saved_if_geometric_leaves_no_level_without_a_pull() -> None:
    """Each level costs a bit or so more than the one below, however many weights are there."""
    sizes = torch.tensor([0] * 84 + [1] * 8 + [2] * 4 + [3] * 4)
    saved = bits_saved_if_geometric(sizes, 3)
    share = 1 - 16 / 28
    first = math.log2(84 / 16) + 1 - math.log2(1 - share)
    assert saved.tolist() == pytest.approx([first, first, -math.log2(share), -math.log2(share)])
    rare_ones = bits_saved_if_geometric(torch.tensor([0] * 90 + [1] + [3] * 9), 3)
    assert (rare_ones > 0).all() and (bits_saved(torch.tensor([0] * 90 + [1] + [3] * 9), 3)[2:] == 0).any()


def test_rate_aware_unknown_prices_are_refused() -> None:
    with pytest.raises(UsageError, match="prices is one of counted, geometric, not 'fixed'"):
        RateAware(normal(3, 50), prices="fixed")


def test_rate_aware_zeros_stay_zero_after_the_freeze() -> None:
    weight = torch.tensor([[0.2, 0.9, -2.2]])
    method = begun(RateAware(weight, levels=3, freeze=0.8), weight)
    method.step.data.fill_(1.0)
    method.after_step(weight, Moment(0.8, 0.1))
    weight += 1.0
    assert method(weight).tolist() == [[0.0, 2.0, -1.0]]
    assert method.integers(weight).values.tolist() == [[0, 2, -1]]


def test_rate_aware_higher_rate_leaves_fewer_weights() -> None:
    """The trade that the rate is for, on a regression whose true weights get smaller and smaller."""
    inputs = normal(400, 40, seed=1)
    targets = inputs @ (2 * 0.85 ** torch.arange(40.0))

    def train(rate: float) -> tuple[int, float]:
        weight = torch.nn.Parameter(0.5 * normal(1, 40, seed=2))
        method = begun(RateAware(weight.detach(), levels=7, rate=rate), weight)
        optimizer = torch.optim.Adam([weight, method.step], lr=1e-2)
        for step in range(600):
            optimizer.zero_grad()
            (inputs @ method(weight)[0] - targets).square().mean().backward()
            with torch.no_grad():
                method.after_backward(weight, Moment((step + 1) / 600, 1e-2))
            optimizer.step()
            with torch.no_grad():
                method.after_step(weight, Moment((step + 1) / 600, 1e-2))
        error = (inputs @ method(weight)[0] - targets).square().mean().item()
        return int((method.integers(weight).values != 0).sum()), error

    (many, small), (few, large) = train(0.0), train(0.05)
    assert few < many and small <= large < 0.5 * targets.square().mean().item()


# ------------------------------------------------------------------------------------------- other pruning


def test_optimal_brain_damage_keeps_small_weights_that_the_loss_feels() -> None:
    """On a quadratic loss with curvatures h, h w^2 / 2 predicts the loss's rise; magnitude does not."""
    curvature = torch.tensor([100.0, 100.0, 1.0, 1.0])
    weight = torch.nn.Parameter(torch.tensor([[0.3, 0.05, 1.0, 0.2]]))
    method = begun(OptimalBrainDamage(weight.detach(), density=0.5, schedule="iterative", rounds=1), weight)
    noise = normal(2000, 4, seed=5) * curvature.sqrt()  # gradients at an optimum: covariance = Hessian
    for gradient in noise:
        weight.grad = gradient[None]
        method.after_backward(weight, Moment(0.1, 1e-3))
    predicted = 0.5 * curvature * weight.detach()[0] ** 2
    assert method.saliency(weight.detach())[0].tolist() == pytest.approx(predicted.tolist(), rel=0.5)
    with torch.no_grad():
        method.after_step(weight, Moment(0.5, 1e-3))
    assert method.mask.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize(
    ("unit", "axes", "count"), [("filters", (1, 2, 3), 3), ("columns", (0, 2, 3), 2), ("kernels", (2, 3), 12)]
)
def test_structured_prunes_whole_units_of_smallest_norm(unit: str, axes: tuple[int, ...], count: int) -> None:
    weight = normal(6, 4, 3, 3)
    method = begun(Structured(weight, 0.5, unit, "iterative", 1), weight)
    norms = weight.square().sum(dim=axes).flatten()
    method.after_step(weight, Moment(0.5, 1e-3))
    units = (weight != 0).float().mean(dim=axes).flatten()
    assert set(units.tolist()) == {0.0, 1.0} and int(units.sum()) == count
    assert norms[units == 1].min() > norms[units == 0].max()


def test_structured_network_really_gets_smaller() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
                            nn.Linear(128, 4))  # fmt: skip
    recipe = parse_training_recipe(
        "training: {epochs: 3, batch_size: 50}\n"
        "layers: [{match: conv_2d, prune: {method: structured, density: 0.5}}]"
    )
    loaders = TensorBatches(*stripes(300, 1), 50, shuffle=True), TensorBatches(*stripes(100, 2), 50)
    packed = pack(compress(network, recipe, *loaders).model)
    shapes = [operator.weights.values.shape for operator in packed.model.operators if operator.weights]
    assert shapes[0][0] <= 4 and shapes[1][0] <= 4 and shapes[1][1] == 9 * shapes[0][0]


def test_load_balanced_gives_each_element_the_same_number() -> None:
    """Magnitude pruning of the same matrix does not."""
    weight = normal(16, 50) * torch.linspace(0.2, 2, 16)[torch.arange(16) % 4 * 4][:, None]
    method = begun(LoadBalanced(weight, 0.2, 4, "iterative", 1), weight)
    plain = begun(Magnitude(weight, 0.2, "iterative", 1), weight)
    balanced = [int(method.kept(weight, 0.2)[element::4].sum()) for element in range(4)]
    unbalanced = [int(plain.kept(weight, 0.2)[element::4].sum()) for element in range(4)]
    assert balanced == [40] * 4 and sum(unbalanced) == 160 and max(unbalanced) > 2 * min(unbalanced)


def test_energy_aware_prunes_the_most_expensive_layer_first() -> None:
    """A convolution has few weights, used often; a fully connected layer many, used once."""
    convolution, dense = EnergyAware(normal(8, 8, 3, 3), 0.5), EnergyAware(normal(20, 200), 0.5)
    small = EnergyAware(normal(4, 20), 0.5)
    convolution.output_positions = 400
    assert convolution.energy == 576 * 400 * 11 + 576 * 100
    EnergyAware.arrange([small, dense, convolution])
    assert convolution.end <= dense.start and dense.end <= small.start
    assert (convolution.start, small.end) == (0.0, pytest.approx(0.6))


# ------------------------------------------------------------------------------------------- other quantising


def test_dynamic_fixed_point_has_as_many_fractional_bits_as_fit() -> None:
    weight = torch.tensor([[0.9, -0.26, 0.004]])
    method = begun(DynamicFixedPoint(weight, bits=8), weight)
    values, scales = method.integers(weight)  # 0.9 needs no integer bit: 7 fractional ones
    assert scales.item() == 2.0**-7 and values.tolist() == [[115, -33, 1]]
    assert begun(DynamicFixedPoint(4 * weight, bits=8), weight).scale(4 * weight).item() == 2.0**-5


def test_log_domain_rounds_in_the_log_domain() -> None:
    weight = torch.tensor([[1.0, 0.70, 0.72, -0.26, 0.012, 0.004]])
    method = begun(LogDomain(weight, bits=4), weight)
    assert method(weight).tolist() == [[1.0, 0.5, 1.0, -0.25, 2.0**-6, 0.0]]
    values, scales = method.integers(weight)
    assert values.tolist() == [[64, 32, 64, -16, 1, 0]] and scales.item() == 2.0**-6


def test_twn_threshold_and_scale_are_those_of_the_paper() -> None:
    weight = torch.tensor([[1.0, -0.8, 0.2, -0.4], [0.1, 0.1, 0.1, 0.1]])
    method = begun(TernaryWeightNetwork(weight), weight)
    # Row 0: 0.7 E|w| = 0.42, so two weights stay, with a = 0.9.
    torch.testing.assert_close(method(weight), torch.tensor([[0.9, -0.9, 0, 0], [0.1, 0.1, 0.1, 0.1]]))
    values, scales = method.integers(weight)
    assert values.tolist() == [[1, -1, 0, 0], [1, 1, 1, 1]]
    assert scales.tolist() == pytest.approx([0.9, 0.1])


def test_ternary_connect_draws_without_bias_and_clips_then_rounds() -> None:
    weight = torch.full((1, 20000), 0.3)
    method = TernaryConnect(weight, draw_end=0.8)
    method.begun.fill_(True)
    method.train()
    torch.manual_seed(1)
    drawn = method(weight)
    assert set(drawn.tolist()[0]) == {0.0, 1.0} and drawn.mean().item() == pytest.approx(0.3, abs=0.02)
    method.after_step(weight.mul_(10), Moment(0.5, 1e-3))
    assert weight.max().item() == 1.0
    assert method.integers(torch.tensor([[0.4, -0.6]])).values.tolist() == [[0, -1]]
    method.after_step(weight, Moment(0.8, 1e-3))
    assert method(torch.full((1, 20000), 0.3)).abs().max().item() == 0.0


def test_ttq_gradients_are_equations_7_and_8() -> None:
    weight = torch.tensor([[1.0, 0.5, 0.02, -0.6, -0.03]], requires_grad=True)
    method = begun(TrainedTernary(weight.detach()), weight.detach())
    assert method.positive.item() == pytest.approx(0.75) and method.negative.item() == pytest.approx(0.6)
    gradient = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
    (method(weight) * gradient).sum().backward()
    assert (method.positive.grad.item(), method.negative.grad.item()) == (3.0, -4.0)
    torch.testing.assert_close(weight.grad, torch.tensor([[0.75, 1.5, 3.0, 2.4, 5.0]]))
    values, scales = method.integers(weight.detach())
    assert values.tolist() == [[127, 127, 0, -102, 0]] and scales.item() == pytest.approx(0.75 / 127)


def test_binary_connect_clips_real_weights_and_stores_signs() -> None:
    weight = torch.tensor([[0.2, -0.4, 0.0, -1.0]])
    method = begun(BinaryConnect(weight), weight)
    torch.testing.assert_close(method(weight), torch.tensor([[0.4, -0.4, 0.4, -0.4]]))
    method.after_step(weight, Moment(0.5, 1e-3))
    torch.testing.assert_close(weight, torch.tensor([[0.2, -0.4, 0.0, -0.4]]))
    assert method.integers(weight).values.tolist() == [[1, -1, 1, -1]]


def test_bwn_scale_is_the_best_one_and_its_gradient_counts() -> None:
    weight = torch.tensor([[0.2, -0.4, 0.9, -0.1], [0.3, 0.3, -0.3, 0.3]], requires_grad=True)
    method = begun(BinaryWeightNetwork(weight.detach()), weight.detach())
    binary = method(weight)
    torch.testing.assert_close(binary[0].detach(), torch.tensor([0.4, -0.4, 0.4, -0.4]))
    for other in (0.9, 1.1):  # equation 6: no other scale of the signs is nearer
        assert (binary[0] - weight[0]).square().sum() < (other * binary[0] - weight[0]).square().sum()
    binary[0].sum().backward()
    # dL/dw = sum(g sign) sign(w) / n + a g; here sum(g sign) = 0.
    torch.testing.assert_close(weight.grad[0], torch.full((4,), 0.4))

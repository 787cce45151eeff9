"""A better start for training: the float network after `prune_and_round`, whose weights lie on coarse grids.

What that pass reaches without training is a good part of the way; `rate_aware` with ``initial_step: 0`` takes
its grids over.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from model_packager.model import Model
from model_packager.passes.correct_bias import correct_bias
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.fuse_activations import fuse_activations
from model_packager.passes.prune_and_round import prune_and_round
from model_packager.passes.quantise import quantise_model
from model_packager.passes.select_layers import real_weights, row_scales
from model_packager.sample_arrays import quantised_batch


def rounded_network(model: Model, samples: Tensor, rate: float) -> Model:
    """A float model with the weights and biases that `prune_and_round` gives.

    model: float, one input. samples: (N, ...) float32 as the torch module takes them, N at least 1,000.
    """
    prepared = fuse_activations(fold_batch_norm(model))
    arrays = samples.permute(0, 2, 3, 1).numpy() if samples.dim() == 4 else samples.numpy()
    quantised = quantise_model(prepared, [np.ascontiguousarray(arrays)])
    steps = [quantised_batch(arrays, quantised, quantised.inputs[0])]
    rounded = correct_bias(prune_and_round(quantised, steps, rate=rate), quantised, steps)
    found = {operator.name: operator for operator in rounded.operators if operator.weights is not None}
    for operator in prepared.operators:
        if operator.weights is None:
            continue
        source = found[operator.name]
        operator.weights.values = real_weights(source).astype(np.float32)
        unit = rounded.tensors[source.inputs[0]].scale * row_scales(source)
        if source.bias is not None:
            operator.bias = (source.bias * unit).astype(np.float32)
    return prepared

"""Targets: the device package on this Python gives what the reference gives; errors keep their names."""

from __future__ import annotations

import numpy as np
import pytest

from host_tools.targets import open_target
from model_packager.errors import FormatError, UsageError
from model_packager.format_table import ErrorCode
from model_packager.model import Model
from model_packager.pack import pack
from tests.random_networks import NetworkBuilder, random_inputs


def two_port_network() -> Model:
    builder = NetworkBuilder(30)
    total = builder.add(builder.input((1, 4, 4, 2)), builder.input((1, 4, 4, 2)))
    builder.output(builder.lookup(builder.depthwise(total)))
    builder.output(builder.fully_connected(builder.global_pool(total), 3))
    return builder.model


def test_cpython_target_batch_of_two_ports_equals_the_reference() -> None:
    data = pack(two_port_network()).data
    inputs = random_inputs(two_port_network(), 3)
    results = []
    for name in ("reference", "cpython"):
        target = open_target(name)
        target.load(data)
        results.append(target.run(inputs))
        target.close()
    assert [output.shape for output in results[1]] == [(3, 4, 4, 2), (3, 3)]
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["reference", "cpython"])
def test_target_damaged_file_is_refused_by_name(name: str) -> None:
    data = bytearray(pack(two_port_network()).data)
    data[-1] ^= 1
    target = open_target(name)
    with pytest.raises(FormatError) as caught:
        target.load(bytes(data))
    assert caught.value.code is ErrorCode.BAD_HASH
    with pytest.raises(UsageError, match="no model is loaded"):
        target.run(random_inputs(two_port_network(), 1))
    target.close()


@pytest.mark.parametrize("name", ["toaster", "", "qemu"])
def test_open_target_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="reference, cpython, micropython"):
        open_target(name)

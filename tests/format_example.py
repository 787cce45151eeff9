"""The model of docs/FORMAT.md, section 9, whose file the document works through to its last byte."""

from __future__ import annotations

import numpy as np

from model_packager.encoders import Encoding
from model_packager.format_table import Coder, Layout, OperatorKind, PortFlag, ValueMap
from model_packager.model import Model, Operator, Port, Requant, Tensor, Weights

RAW = Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY)


def example_model() -> Model:
    """A fully connected layer from 3 inputs to 2 outputs."""
    layer = Operator(
        OperatorKind.FULLY_CONNECTED,
        [0],
        [1],
        {"input_zero_point": -1, "output_zero_point": 4, "clamp_min": -50},
        weights=Weights(np.array([[3, -2, -7], [-8, 0, 1]], np.int8), encoding=RAW),
        bias=np.array([5, -3], np.int32),
        requant=Requant(np.array([0x40000000, 0x60000000], np.int32), np.array([-3, -2], np.int32)),
    )
    return Model(
        tensors=[
            Tensor("x", (1, 3), scale=0.5, zero_point=-1, arena_offset=0),
            Tensor("y", (1, 2), scale=0.25, zero_point=4, arena_offset=4),
        ],
        operators=[layer],
        inputs=[Port(0, "x", 0.5, -1, PortFlag.FLOAT)],
        outputs=[Port(1, "y", 0.25, 4)],
        model_id=7,
        model_version=2,
        arena_bytes=8,
        golden=(1, 0xCCED1CEE),
    )

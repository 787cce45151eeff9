"""XNOR-Net: binary weights with a scale for each row, and inputs of -1 and +1.

Source: Rastegari et al. 2016, "XNOR-Net", section 3.2 (binary inputs; blocks of batch norm, sign,
convolution, pool) on top of section 3.1 (`bwn`). The factors K, the mean magnitude of the input around each
position (equation 11), are left out: integers cannot hold them, and the paper finds the weights' scale to
matter much more. The first and the last layer are not given this method (section 4).
"""

from __future__ import annotations

from model_packager.training.methods.bwn import BinaryWeightNetwork


class XnorNet(BinaryWeightNetwork):
    """Rows of -a and +a, a = E|w|, that meet signs: XNOR and popcount on the device."""

    name = "xnor_net"
    binary_inputs = True

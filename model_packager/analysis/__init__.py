"""What a network costs before anything runs: a ``Model`` goes in, weights, multiply-accumulates, bytes,
activation memory, accumulator widths, energy and the cost of each layer in other forms come out. `thimble
analyze` prints it.
"""

from model_packager.analysis.energy import OPERATION_PJ, SOURCE, Energy, estimate_energy
from model_packager.analysis.geometry import Convolution, convolution_of
from model_packager.analysis.layers import PRECISION_BITS, Analysis, Layer, accumulator_bits, analyse
from model_packager.analysis.rewrites import Form, forms_of

__all__ = [
    "OPERATION_PJ",
    "PRECISION_BITS",
    "SOURCE",
    "Analysis",
    "Convolution",
    "Energy",
    "Form",
    "Layer",
    "accumulator_bits",
    "analyse",
    "convolution_of",
    "estimate_energy",
    "forms_of",
]

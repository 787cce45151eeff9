"""An estimate of the energy of an inference, from the energy of single operations: counts go in, picojoules
come out.

It is arithmetic, not a measurement: 45 nm, 0.9 V, nothing for instructions, control and leakage, which on a
microcontroller take most. What it is for is comparing precisions and kinds of memory. `thimble bench`
measures.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "45 nm, 0.9 V: Horowitz, Computing's energy problem, ISSCC 2014, figure 1.1.9, as tabulated by Sze et "
    "al., Efficient processing of deep neural networks, Proc. IEEE 2017; int16 multiplication interpolated"
)

# Picojoules of one operation. The table has no 16-bit integer multiplication: 8 to 32 bits grow with the
# square of the width (0.2 to 3.1, 16-fold), so 16 bits stand at 4 times 0.2.
OPERATION_PJ = {
    "int8 add": 0.03,
    "int16 add": 0.05,
    "int32 add": 0.1,
    "fp16 add": 0.4,
    "fp32 add": 0.9,
    "int8 multiply": 0.2,
    "int16 multiply": 0.8,
    "int32 multiply": 3.1,
    "fp16 multiply": 1.1,
    "fp32 multiply": 3.7,
    "SRAM read, 32 bits": 5.0,  # of 8 KB
    "DRAM read, 32 bits": 640.0,
}
# Precision -> (multiplication, addition to the accumulator).
MAC_OPERATIONS = {
    "int8": ("int8 multiply", "int32 add"),
    "int16": ("int16 multiply", "int32 add"),
    "fp16": ("fp16 multiply", "fp16 add"),
    "fp32": ("fp32 multiply", "fp32 add"),
}
PRECISION_WIDTH_BITS = {"int8": 8, "int16": 16, "fp16": 16, "fp32": 32}


@dataclass(frozen=True)
class Energy:
    """Picojoules at one precision. ``memory_pj`` is the least: every weight and every activation crosses
    once, weights from SRAM (``memory_pj``) or from DRAM (``dram_pj``), activations from SRAM either way."""

    precision: str
    arithmetic_pj: float
    memory_pj: float
    dram_pj: float


def estimate_energy(macs: int, weights: int, activations: int) -> list[Energy]:
    """Energy of `macs` multiply-accumulates with `weights` and `activations` values read, at each
    precision."""
    estimates = []
    sram, dram = OPERATION_PJ["SRAM read, 32 bits"], OPERATION_PJ["DRAM read, 32 bits"]
    for precision, operations in MAC_OPERATIONS.items():
        words = PRECISION_WIDTH_BITS[precision] / 32
        arithmetic = macs * sum(OPERATION_PJ[operation] for operation in operations)
        moved = activations * words * sram
        estimates.append(
            Energy(
                precision,
                arithmetic,
                moved + weights * words * sram,
                moved + weights * words * dram,
            )
        )
    return estimates

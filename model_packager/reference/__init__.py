"""The reference executor: a ``Model`` and input arrays go in, output arrays come out, in vectorised NumPy.

It is the readable truth that every other executor is compared with. Integer models compute exactly what
docs/NUMERICS.md says, float models in float32. Schedules and arena offsets play no part: each tensor has an
array of its own. `run` gives the outputs, `run_all` every tensor, `accumulator_bounds` the proven ranges.
"""

from model_packager.reference.accumulators import accumulator_bounds
from model_packager.reference.executor import run, run_all

__all__ = ["accumulator_bounds", "run", "run_all"]

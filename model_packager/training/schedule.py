"""Where training stands, and what follows from it: learning rate, density, strength of a penalty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """One optimiser step. `progress` runs from 0 to 1 over all epochs; `learning_rate` is this step's."""

    progress: float
    learning_rate: float


def learning_rate(peak: float, final_share: float, hold: float, progress: float) -> float:
    """`peak` until `progress` reaches `hold`, then linear down to `final_share` * `peak`."""
    if progress <= hold:
        return peak
    done = (progress - hold) / (1 - hold)
    return peak * (1 + (final_share - 1) * min(1.0, done))


def ramp(progress: float, start: float, end: float, power: float = 1.0) -> float:
    """0 before `start`, 1 from `end` on, in between the share of the way to `power`."""
    if progress >= end:
        return 1.0
    return max(0.0, (progress - start) / (end - start)) ** power


def gradual_density(progress: float, start: float, end: float, density: float) -> float:
    """The density at `progress` of a gradual schedule from 1 to `density`.

    Zhu and Gupta 2017, "To prune, or not to prune", section 3: the sparsity approaches its end cubically.
    """
    return density + (1 - density) * (1 - ramp(progress, start, end)) ** 3


def iterative_density(progress: float, start: float, end: float, density: float, rounds: int) -> float:
    """The density at `progress` of `rounds` equal cuts, each followed by retraining.

    Han et al. 2015, "Learning both weights and connections", section 3.4: prune, retrain, prune again; each
    round keeps the same share of what the one before it left.
    """
    done = min(rounds, int(ramp(progress, start, end) * rounds + 1e-9) + (progress >= start))
    return density ** (done / rounds)

"""The methods of compressing a layer's weights, one a file, by the name that recipes use."""

from __future__ import annotations

from model_packager.training.methods.learned_step import LearnedStep
from model_packager.training.methods.magnitude import Magnitude
from model_packager.training.methods.protocol import Integers, Method
from model_packager.training.methods.rate_aware import RateAware
from model_packager.training.methods.weight_sharing import WeightSharing

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (LearnedStep, Magnitude, RateAware, WeightSharing)
}
PRUNING = {name: method for name, method in METHODS.items() if not method.quantises}
QUANTISING = {name: method for name, method in METHODS.items() if method.quantises}

__all__ = ["METHODS", "PRUNING", "QUANTISING", "Integers", "Method"]

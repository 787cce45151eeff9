"""The methods of compressing a layer's weights, one a file, by the name that recipes use."""

from __future__ import annotations

from model_packager.training.methods.binary_connect import BinaryConnect
from model_packager.training.methods.bnn import BinarizedNetwork
from model_packager.training.methods.bwn import BinaryWeightNetwork
from model_packager.training.methods.dynamic_fixed_point import DynamicFixedPoint
from model_packager.training.methods.energy_aware import EnergyAware
from model_packager.training.methods.learned_step import LearnedStep
from model_packager.training.methods.load_balanced import LoadBalanced
from model_packager.training.methods.log_domain import LogDomain
from model_packager.training.methods.magnitude import Magnitude
from model_packager.training.methods.optimal_brain_damage import OptimalBrainDamage
from model_packager.training.methods.protocol import Integers, Method
from model_packager.training.methods.rate_aware import RateAware
from model_packager.training.methods.structured import Structured
from model_packager.training.methods.ternary_connect import TernaryConnect
from model_packager.training.methods.ttq import TrainedTernary
from model_packager.training.methods.twn import TernaryWeightNetwork
from model_packager.training.methods.weight_sharing import WeightSharing
from model_packager.training.methods.xnor_net import XnorNet

PRUNING: dict[str, type[Method]] = {
    method.name: method for method in (Magnitude, OptimalBrainDamage, Structured, LoadBalanced, EnergyAware)
}
QUANTISING: dict[str, type[Method]] = {
    method.name: method
    for method in (
        RateAware,
        LearnedStep,
        DynamicFixedPoint,
        LogDomain,
        WeightSharing,
        TernaryWeightNetwork,
        TernaryConnect,
        TrainedTernary,
        BinaryConnect,
        BinaryWeightNetwork,
        BinarizedNetwork,
        XnorNet,
    )
}

METHODS: dict[str, type[Method]] = {**PRUNING, **QUANTISING}

__all__ = ["METHODS", "PRUNING", "QUANTISING", "Integers", "Method"]

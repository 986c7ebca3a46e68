"""One small file per adaptation method, and the base they share."""

from asrpeft.methods.base import METHODS, Facts, Inputs, LayerAdapter, Plan, Pool, WeightConfig, configure, method, names, register
from asrpeft.methods.description import Description, describe

__all__ = ["METHODS", "Description", "Facts", "Inputs", "LayerAdapter", "Plan", "Pool", "WeightConfig", "configure", "describe", "method", "names", "register"]

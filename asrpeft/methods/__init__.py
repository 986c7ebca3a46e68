"""One small file per adaptation method, and the base they share."""

from asrpeft.methods.base import Description, Facts, LayerAdapter, Plan, Pool, WeightConfig, configure, describe, method, names, register

__all__ = ["Description", "Facts", "LayerAdapter", "Plan", "Pool", "WeightConfig", "configure", "describe", "method", "names", "register"]

"""Weights that overflow has spoilt: found before anything is predicted with them."""

from torch import Tensor

from ltbench.method import Method
from ltbench.training.distributed.sharding import local_shard


def not_finite(method: Method) -> str | None:
    """What of a method's parameters and of its network's statistics is not finite, in words; None: all is well."""
    values: dict[str, Tensor] = dict(method.named_parameters())
    values |= {f"network.{name}": value for name, value in method.network.state_dict().items()}
    for name, value in values.items():
        own = local_shard(value)
        if own.is_floating_point() and not own.isfinite().all():
            return f"{int((~own.isfinite()).sum())} of {own.numel()} numbers of '{name}' are not finite"
    return None

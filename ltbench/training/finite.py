"""Weights that are NaN or infinite: found before anything is predicted with them."""

from torch import Tensor

from ltbench.method import Method
from ltbench.training.distributed.sharding import local_shard


def not_finite(method: Method) -> str | None:
    """The first of a method's parameters, or its network's statistics, that is not finite, in words; None: all are."""
    values: dict[str, Tensor] = dict(method.named_parameters())
    values |= {f"network.{name}": value for name, value in method.network.state_dict().items()}
    for name, value in values.items():
        shard = local_shard(value)
        if shard.is_floating_point() and not shard.isfinite().all():
            return f"{int((~shard.isfinite()).sum())} of {shard.numel()} numbers of '{name}' are not finite"
    return None

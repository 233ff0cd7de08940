"""Several processes that train one network together: collectives, SyncBatchNorm, sharding."""

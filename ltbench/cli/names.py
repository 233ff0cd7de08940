"""What can be named in a run: methods, data sets, backbones, recipes. Without torch, so that a list comes at once."""

from ltbench import registry
from ltbench.config import recipes


def entries(kind: str) -> list[tuple[str, str]]:
    """Name and a few words for everything of a kind: methods, datasets, backbones or recipes."""
    if kind == "methods":
        return list(registry.loadable(registry.method_names(), registry.method_summary).items())
    if kind == "datasets":
        sources = registry.loadable(registry.dataset_names(), registry.dataset)
        return [(name, source.summary) for name, source in sources.items()]
    if kind == "backbones":
        return [(name, "") for name in registry.backbone_names()]
    shared = [(name, "for " + ", ".join(recipes.tables(name))) for name in recipes.names()]
    return [*shared, (recipes.PAPER, "each method's own, where its authors have one")]

"""Names of networks: those that timm knows, and ltbench's own; looked for in sources, without importing torch."""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

from ltbench.errors import unknown


def backbone_names() -> list[str]:
    """Every network that timm knows, with the CIFAR ResNets; those of a method file once it is loaded."""
    if "timm" in sys.modules:
        import timm

        from ltbench.models import resnet_cifar  # noqa: F401  (registers them)

        names: list[str] = timm.list_models()
        return names
    return sorted(networks_in_source(), key=_natural)


@cache
def networks_in_source() -> frozenset[str]:
    """Every network that is registered in timm's source or in ltbench's own."""
    return frozenset({*_registered(_own_networks()), *_registered(_timm_networks())})


def _registered(code: str) -> list[str]:
    return re.findall(r"^@register_model\s+def (\w+)", code, re.MULTILINE)


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    It is looked for in timm's source, which takes a small part of the time of importing timm and torch.

    Raises:
        LtbenchError: with the nearest known names.
    """
    if name in networks_in_source():
        return
    architecture, dot, tag = name.partition(".")
    known, code = backbone_names(), _timm_networks()

    quoted = re.search(rf"""["']{re.escape(name)}["']""", code) is not None
    if architecture not in known and not (quoted and _timm_knows(name)):  # by an older name
        raise unknown("backbone", name, known, where="--backbone")
    has_tag = tag and re.search(rf"\b{re.escape(tag)}\b", code) is not None
    if dot and not quoted and not (has_tag and _timm_knows(name)):  # timm puts some of them together
        tagged = set(re.findall(rf"""["']({re.escape(architecture)}\.\w+)["']""", code))
        raise unknown("backbone", name, {architecture, *tagged}, where="--backbone")


def _timm_knows(name: str) -> bool:
    import timm

    try:
        return timm.is_model(name) and ("." not in name or timm.get_pretrained_cfg(name) is not None)
    except RuntimeError:  # timm's, for a tag that it does not know
        return False


@cache
def _own_networks() -> str:
    """The source of the CIFAR ResNets."""
    return _source(Path(__file__).parent)


@cache
def _timm_networks() -> str:
    """The source of timm's networks."""
    spec = importlib.util.find_spec("timm")
    return _source(*(Path(folder, "models") for folder in (spec and spec.submodule_search_locations) or ()))


def _source(*folders: Path) -> str:
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _natural(name: str) -> list[int | str]:
    """A key that puts resnet8 before resnet20."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

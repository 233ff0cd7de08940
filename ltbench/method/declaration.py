"""What a method says of itself without its algorithm: hyper-parameters, classifier, family, what is published.

For the methods that come with ltbench it is read from the source, so that a name, a list or a wrong setting is
answered without importing torch.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ltbench.method.method_config import MethodConfig
from ltbench.method.paper import Paper, paper_of, read_paper, toml_file

if TYPE_CHECKING:
    from ltbench.method.base import Method

_OFFERED = ("ltbench.method", "ltbench_methods")
"""Packages whose classes a method extends."""
_LIGHT = ("math", "typing", "numpy", "pydantic", "ltbench.method")
"""Modules whose names a ``Config`` may use when it is read from the source."""


@dataclass(frozen=True)
class Declaration:
    """What a method says of itself."""

    summary: str
    """First line of its docstring."""
    family: str
    head: str | None
    """Kind of classifier where it must have one."""
    trains_backbone: bool
    """Whether it is about the network's inner layers."""
    config: type[MethodConfig]
    """Its hyper-parameters."""
    paper: Paper
    paper_file: Path | None
    """The TOML file beside the method's own, be it there or not; None for a class without a file."""

    @classmethod
    def of(cls, method: "type[Method]") -> "Declaration":
        """The declaration of a class.

        Raises:
            LtbenchError: for a fault in the TOML file beside it.
        """
        summary = (method.__doc__ or "").strip().partition("\n")[0]
        return cls(
            summary,
            method.family,
            method.head,
            method.trains_backbone,
            method.Config,
            paper_of(method),
            toml_file(method),
        )


@lru_cache
def read_declaration(file: Path) -> Declaration:
    """The declaration of a method of ltbench's own, from its source.

    Only its ``Config`` is executed, with the functions and constants of the file that this uses.

    Raises:
        LookupError: if the file is not written like those that come with ltbench.
        LtbenchError: for a fault in the TOML file beside it.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports if node.module for alias in node.names}
    method, base = _method_class(tree, homes)
    methods = {name: home.rpartition(".")[2] for name, home in homes.items() if home.startswith("ltbench_methods.")}
    parent = read_declaration(file.with_name(f"{methods[base]}.py")) if base in methods else None
    constants = {
        target.id: ast.literal_eval(node.value)
        for node in method.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("family", "head", "trains_backbone")
    }
    own = [node for node in method.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    config = parent.config if parent else MethodConfig
    if own:
        names: dict[str, Any] = {"__name__": f"ltbench_methods.{file.stem}"}
        for name in methods.keys() & _names(own[0]):  # Config extends that of another method
            names[name] = SimpleNamespace(Config=read_declaration(file.with_name(f"{methods[name]}.py")).config)
        config = _executed(own[0], tree, file, names)
    paper = file.with_suffix(".toml")
    return Declaration(
        summary=(ast.get_docstring(method) or "").partition("\n")[0],
        family=constants.get("family", parent.family if parent else "other"),
        head=constants.get("head", parent.head if parent else None),
        trains_backbone=constants.get("trains_backbone", parent.trains_backbone if parent else False),
        config=config,
        paper=read_paper(paper, config) if paper.is_file() or parent is None else parent.paper,
        paper_file=paper,
    )


def _method_class(tree: ast.Module, homes: dict[str, str]) -> tuple[ast.ClassDef, str]:
    """The class that extends what ltbench offers to methods, and the name of what it extends."""
    for node in tree.body:
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            if isinstance(base, ast.Name) and homes.get(base.id, "").startswith(_OFFERED):
                assert isinstance(node, ast.ClassDef)
                return node, base.id
    raise LookupError("no class in it extends a method")


def _executed(config: ast.ClassDef, tree: ast.Module, file: Path, names: dict[str, Any]) -> type[MethodConfig]:
    """The class ``Config``, made from its source and from what it uses of its file.

    Args:
        config: the class.
        tree: of the file.
        file: that it stands in.
        names: that the class may use besides.
    """
    used = _names(config)
    body: list[ast.stmt] = []
    for node in reversed(tree.body):  # what is used may use what stands above it
        if isinstance(node, ast.FunctionDef) and node.name in used:
            used |= _names(node)
            body.append(node)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            wanted = [one for one in node.names if (one.asname or one.name) in used - names.keys()]
            home = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if wanted and home not in _LIGHT:
                raise LookupError(f"its Config uses what it imports from {home}")
            if wanted:
                body.append(type(node)(**{**vars(node), "names": wanted}))
    body.sort(key=lambda node: node.lineno)
    exec(compile(ast.Module([*body, config], []), str(file), "exec"), names)  # the source is ltbench's own
    found: type[MethodConfig] = names["Config"]
    return found


def _names(node: ast.AST) -> set[str]:
    """The names that are read in it."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}

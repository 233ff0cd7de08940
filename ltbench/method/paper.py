"""What is published about a method: the TOML file beside the method's own.

``methods/balpoe.toml`` says in comments what each key means.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from ltbench.config import Frozen, Recipe, read_toml, recipes, validated
from ltbench.errors import LtbenchError, unknown
from ltbench.method.method_config import MethodConfig

if TYPE_CHECKING:
    from ltbench.method.base import Method

SHARED = ("title", "authors", "venue", "year", "checkpoint", "draw", "recipe")
"""What a file with ``same_paper_as`` takes from that of the other method, unless it says otherwise."""


@dataclass(frozen=True)
class Claim:
    """A published figure of a method, or several."""

    key: str
    """Rows of ``ltbench/report/published.csv``: method, data set, imbalance ratio, backbone, epochs, joined by "|"."""
    settings: Mapping[str, Any]
    """Its hyper-parameters where they are not the defaults."""
    unstated: tuple[str, ...]
    """Hyper-parameters that are on, with a value that the source does not state."""
    differs: tuple[str, ...]
    """What else its authors did otherwise than the method here, in words, e.g. another network."""


class Variant(Frozen):
    """Figures that were published of other settings than the defaults, or of something else that differs."""

    settings: dict[str, Any] = Field(
        default_factory=dict, description="hyper-parameters that are not at their defaults"
    )
    unstated: tuple[str, ...] = Field((), description="hyper-parameters that are on, whose value is not stated")
    differs: tuple[str, ...] = Field((), description="what else differs from the method here, in words")
    reported: tuple[str, ...] = Field(min_length=1, description="rows of published.csv")


class Paper(Frozen):
    """What is published about a method; all of it may be left out."""

    name: str = Field("", description="what papers call the method, for tables; by default its file's name")
    title: str = ""
    authors: tuple[str, ...] = ()
    venue: str = ""
    year: int = 0
    checkpoint: Literal["last epoch", "best epoch on the test set", "best epoch on the validation set"] | None = Field(
        None, description="epoch whose weights the authors report"
    )
    draw: Literal["Cao et al.", "Cui et al."] | None = Field(
        None, description="draw of images that the authors' CIFAR-LT has"
    )
    reported: tuple[str, ...] = Field((), description="rows of published.csv, of the default hyper-parameters")
    variant: tuple[Variant, ...] = ()
    defaults: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="the authors' hyper-parameters by data set, and in it by imbalance_ratio"
    )
    same_as: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="methods that this one equals by construction, and the hyper-parameters with which they do so",
    )
    recipe: dict[str, Recipe] = Field(
        default_factory=dict, description="the authors' training recipe (--recipe paper), by recipe table of a data set"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Paper":
        lacking = [name for name in ("title", "authors", "venue", "year") if not getattr(self, name)]
        if 0 < len(lacking) < 4:
            raise ValueError(f"{', '.join(lacking)} must be given, too")
        return self

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What is published: of the default hyper-parameters, then of the variants."""
        usual = (Claim(key, {}, (), ()) for key in self.reported)
        others = (Claim(key, one.settings, one.unstated, one.differs) for one in self.variant for key in one.reported)
        return (*usual, *others)

    @property
    def authors_in_bibtex(self) -> str:
        """The authors in one text, as BibTeX has them."""
        return " and ".join(self.authors)

    @property
    def bibtex(self) -> str:
        """The BibTeX entry; its key is the first author's surname and the year."""
        surname = self.authors[0].split()[-1]
        key = "".join(letter for letter in surname.lower() if letter.isalpha()) + str(self.year)
        kind, where = ("article", "journal") if "Transactions" in self.venue else ("inproceedings", "booktitle")
        values = {"title": self.title, "author": self.authors_in_bibtex, where: self.venue, "year": self.year}
        lines = [f"  {name} = {{{value}}}" for name, value in values.items()]
        return ",\n".join([f"@{kind}{{{key}", *lines]) + "\n}"

    def defaults_for(self, dataset: str, imbalance_ratio: float | None) -> dict[str, Any]:
        """The authors' hyper-parameters for a data set; those for its imbalance ratio count before those for all.

        Args:
            dataset: its name.
            imbalance_ratio: of the run; None for a data set that is used as it is.
        """
        usual, by_ratio = by_imbalance_ratio(self.defaults.get(dataset, {}))
        return {**usual, **(by_ratio.get(imbalance_ratio, {}) if imbalance_ratio is not None else {})}


def year(family: str, paper: Paper) -> str:
    """The year of a method's own paper, if it has one: a baseline is older than the survey that has its figures."""
    return "" if family == "baseline" else str(paper.year or "")


def by_imbalance_ratio(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[float, dict[str, Any]]]:
    """The values of a ``[defaults.DATASET]`` table: those for every imbalance ratio, and those for one, by ratio."""
    usual = {name: value for name, value in values.items() if name != "imbalance_ratio"}
    return usual, {float(ratio): dict(own) for ratio, own in values.get("imbalance_ratio", {}).items()}


def paper_of(cls: "type[Method]") -> Paper:
    """What is published about a method; an empty paper where nothing is.

    It is read from the TOML file beside that of the class. A method without such a file takes the authors' training
    recipe and hyper-parameters from the method that it extends; what that is called and reports is not its own.

    Raises:
        LtbenchError: for an unknown key or a value out of range, with the file and the key.
    """
    from ltbench.method.base import Method  # not above: papers are read without torch

    for base in cls.__mro__[: cls.__mro__.index(Method)]:
        file = toml_file(base)
        if file is not None and file.is_file() and issubclass(base, Method) and issubclass(cls.Config, base.Config):
            paper = read_paper(file, base.Config)
            own = file == toml_file(cls)
            return paper if own else Paper(defaults=paper.defaults, recipe=paper.recipe)
    return Paper()


def toml_file(cls: type) -> Path | None:
    """The TOML file beside that of a class, be it there or not; None for a class without a file."""
    try:
        return Path(inspect.getfile(cls)).with_suffix(".toml")
    except (TypeError, OSError):  # of a class that was typed in
        return None


@lru_cache(maxsize=128)
def read_paper(file: Path, hyperparameters: type[MethodConfig]) -> Paper:
    """What a TOML file says of the method that has these hyper-parameters.

    Raises:
        LtbenchError: as ``paper_of``.
    """
    content = read_toml(file)
    if "same_paper_as" in content:
        other = read_toml(file.with_name(f"{content.pop('same_paper_as')}.toml"))
        content = {**{name: other[name] for name in SHARED if name in other}, **content}
    recipe = content.pop("recipe", {})
    if not isinstance(recipe, dict):
        raise LtbenchError("'recipe' must be a table of tables", where=file, hint="write [recipe.cifar]")
    known = recipes.tables("standard")
    for table in recipe:
        if table not in known:
            raise unknown("recipe table", table, known, where=f"{file}, [recipe.{table}]")
    own = {table: recipes.paper_recipe(recipe, table, where=f"{file}, [recipe.{table}]") for table in recipe}
    variants = content.pop("variant", [])
    if not isinstance(variants, list) or not all(isinstance(one, dict) for one in variants):
        raise LtbenchError("'variant' must be a list of tables", where=file, hint="write [[variant]]")
    variant = [validated(Variant, one, where=f"{file}, [[variant]] {k}") for k, one in enumerate(variants, 1)]
    paper = validated(Paper, {**content, "recipe": own, "variant": variant}, where=file)
    _check(paper, hyperparameters, file)
    return paper


def _check(paper: Paper, hyperparameters: type[MethodConfig], file: Path) -> None:
    """Refuse hyper-parameters that the method has not, and values that it does not take.

    Raises:
        LtbenchError: with the file and the table.
    """

    def check(values: Mapping[str, Any], where: str) -> None:
        validated(hyperparameters, values, where=f"{file}, {where}", kind="hyper-parameter")

    for k, variant in enumerate(paper.variant, 1):
        check(variant.settings, f"[[variant]] {k}")
        for name in variant.unstated:
            if name not in hyperparameters.model_fields:
                check({name: None}, f"[[variant]] {k}")
    for dataset, values in paper.defaults.items():
        try:
            usual, by_ratio = by_imbalance_ratio(values)
        except (AttributeError, TypeError, ValueError):
            raise LtbenchError(
                "values for one imbalance ratio stand in a table of that number",
                where=f"{file}, [defaults.{dataset}]",
                hint=f"write [defaults.{dataset}.imbalance_ratio.50]",
            ) from None
        check(usual, f"[defaults.{dataset}]")
        for ratio, own in by_ratio.items():
            check({**usual, **own}, f"[defaults.{dataset}.imbalance_ratio.{ratio:g}]")

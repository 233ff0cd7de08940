"""Where a method comes from, and what is published about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """Published figures of a method, where their key alone does not say how they were reached."""

    key: str
    """Rows of ``ltbench/report/published.csv``: method, data set, imbalance ratio, backbone, epochs, joined by "|"."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its hyper-parameters where they are not the defaults; ``...``: on, its source does not say with which value."""
    differs: tuple[str, ...] = ()
    """What else its authors did otherwise than the method here, in words, e.g. another network."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    authors: str
    venue: str
    year: int
    claims: tuple[str | Claim, ...] = ()
    """What is published about it; a plain key stands for the default hyper-parameters."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Its authors' own training recipe (``--recipe paper``), by the recipe table of a data set."""
    checkpoint: str | None = None
    """Whose weights its authors report, e.g. "last epoch" or "best epoch on the test set"; None: not known."""
    draw: str | None = None
    """Whose draw of images its authors' CIFAR-LT has: "Cao et al." (LDAM's code, as here) or "Cui et al."."""

    @property
    def all_claims(self) -> tuple[Claim, ...]:
        """The claims, the plain keys among them as claims of the default hyper-parameters."""
        return tuple(claim if isinstance(claim, Claim) else Claim(claim) for claim in self.claims)

    @property
    def bibtex(self) -> str:
        """The BibTeX entry; its key is the first author's surname and the year."""
        surname = self.authors.split(" and ")[0].split()[-1]
        key = "".join(letter for letter in surname.lower() if letter.isalpha()) + str(self.year)
        kind, where = ("article", "journal") if "Transactions" in self.venue else ("inproceedings", "booktitle")
        values = {"title": self.title, "author": self.authors, where: self.venue, "year": self.year}
        lines = [f"  {name} = {{{value}}}" for name, value in values.items()]
        return ",\n".join([f"@{kind}{{{key}", *lines]) + "\n}"

"""What is published about a method with the hyper-parameters of a run."""

from collections.abc import Mapping
from typing import Any

from ltbench.config import RunConfig
from ltbench.config.format_settings import format_value
from ltbench.method.base import Method
from ltbench.method.method_config import MethodConfig
from ltbench.method.paper import Claim, paper_of
from ltbench.results.records import PaperRecord


def paper_record(cls: type[Method], config: RunConfig, table: str) -> PaperRecord | None:
    """Where a method comes from, and what is published about it with the hyper-parameters of a run.

    Args:
        cls: class of the method.
        config: settings of the run, with everything filled in.
        table: recipe table of its data set.
    """
    paper = paper_of(cls)
    if not paper.title:
        return None
    fitting = fitting_claims(cls, config)
    return PaperRecord(
        title=paper.title,
        authors=paper.authors_in_bibtex,
        venue=paper.venue,
        year=paper.year,
        bibtex=paper.bibtex,
        claims=list(fitting),
        differs={key: words for key, words in fitting.items() if words},
        checkpoint=paper.checkpoint,
        draw=paper.draw,
        recipe=paper.recipe.get(table),
    )


def fitting_claims(cls: type[Method], config: RunConfig) -> dict[str, list[str]]:
    """What is published about a method with the hyper-parameters of a run: key -> what differs, in words.

    Hyper-parameters that tell one published figure of the method from another, and those that every method
    has, must be the run's; where others differ from the defaults, that is said.
    """
    paper = paper_of(cls)
    claims, defaults = paper.claims, paper.defaults_for(config.dataset, config.imbalance_ratio)
    usual = _plain(cls.Config.model_validate(defaults))
    own = {**usual, **config.hyperparameters}
    found = {}
    telling = {*MethodConfig.model_fields, *(name for claim in claims for name in _stated(cls, claim, defaults))}
    for claim in claims:
        theirs = {**usual, **_stated(cls, claim, defaults)}
        same = all(own.get(name) == theirs.get(name) for name in telling.difference(claim.unstated))
        if same and all(own.get(name) for name in claim.unstated):
            words = [f"{name} {format_value(own[name])} (reported: not stated)" for name in sorted(claim.unstated)]
            others = [name for name in own if name not in telling and own[name] != theirs.get(name)]
            words += [
                f"{name} {format_value(own[name])} (reported: {format_value(theirs.get(name))})" for name in others
            ]
            found[claim.key] = words + list(claim.differs)
    return found


def _stated(cls: type[Method], claim: Claim, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a claim's settings as a run has them."""
    given = cls.Config.model_validate(claim.settings)
    explicit = given.model_dump(include=given.model_fields_set)  # experts=1 has become taus, which the defaults name
    whole = _plain(cls.Config.model_validate({**defaults, **explicit}))
    return {name: whole.get(name) for name in given.model_fields_set}


def _plain(settings: MethodConfig) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_none=True)

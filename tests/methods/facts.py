"""What is said about every method, as plain data: its paper, claims, recipes, defaults, search space and settings."""

import json
from typing import Any

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.method import Method
from ltbench.method.claims import paper_record
from ltbench.method.method_config import MethodConfig
from ltbench.method.paper import by_imbalance_ratio, paper_of
from ltbench.method.search_space import described
from ltbench.runs.resolve import resolve
from tests.conftest import GOLDEN

FILE = GOLDEN / "method_facts.json"
SETTINGS = ("family", "revision", "head", "views", "couples_batch", "gathers_across_processes", "transductive",
            "comparison_group", "compiles")  # fmt: skip
DATASETS = (("digits-lt", None), ("cifar10-lt", 50.0), ("cifar100-lt", 100.0), ("cifar100-lt", 10.0),
            ("imagenet-lt", None), ("inaturalist2018", None), ("places-lt", None))  # fmt: skip


def facts(name: str) -> dict[str, Any]:
    """Everything that is said about one method."""
    cls = registry.method(name)
    paper = paper_of(cls)
    claims = sorted(paper.claims, key=lambda claim: claim.key)
    variants = [claim.settings for claim in paper.claims]
    unstated = sorted({name for claim in claims for name in claim.unstated})
    defaults = {dataset: by_imbalance_ratio(values) for dataset, values in paper.defaults.items()}
    cited = {"title": paper.title, "authors": paper.authors_in_bibtex, "venue": paper.venue, "year": paper.year}
    found = {
        **{setting: getattr(cls, setting) for setting in SETTINGS},
        "paper": {**cited, "bibtex": paper.bibtex, "checkpoint": paper.checkpoint, "draw": paper.draw},
        "claims": {claim.key: [claim.settings, claim.unstated, claim.differs] for claim in claims},
        "recipes": {table: recipe.model_dump(exclude_defaults=True) for table, recipe in paper.recipe.items()},
        "dataset_defaults": {
            **{dataset: usual for dataset, (usual, _) in defaults.items() if usual},
            **{f"{dataset} at {ratio:g}": own for dataset, (_, by) in defaults.items() for ratio, own in by.items()},
        },
        "space": [[name, described(option)] for name, option in cls.Config.search_space().items()],
        "hyperparameters": {
            name: [cls.Config().model_dump()[name], field.description]
            for name, field in cls.Config.model_fields.items()
            if name not in MethodConfig.model_fields or field.default != MethodConfig.model_fields[name].default
        },
        "fits": _fits(name, cls, variants, unstated),
    }
    return json.loads(json.dumps(found))


def _fits(name: str, cls: type[Method], variants: list[dict[str, Any]], unstated: list[str]) -> dict[str, Any]:
    """The hyper-parameters of a run, and the claims that it is set beside, by their number, with what differs in words.

    Of the method as it is, with mixup, and with the settings of each variant.
    """
    settings = [{}, {"mixup": 0.7}, *variants, *({key: 0.3} for key in unstated)]
    numbers = {claim: str(number) for number, claim in enumerate(sorted(claim.key for claim in paper_of(cls).claims))}
    found = {}
    for dataset, ratio in DATASETS:
        for own in settings:
            run = resolve(RunConfig(method=name, dataset=dataset, imbalance_ratio=ratio, hyperparameters=own)).config
            record = paper_record(cls, run, registry.dataset(dataset).recipe_table)
            title = f"{dataset} {run.imbalance_ratio} {json.dumps(own)}"
            claims = {numbers[key]: record.differs.get(key, []) for key in sorted(record.claims)} if record else None
            found[title] = [run.hyperparameters, claims, record is not None and record.recipe is not None]
    return found


def everything() -> str:
    """One line a fact, so that a difference is one line."""
    methods = {name: facts(name) for name in registry.method_names()}
    lines = []
    for name, found in methods.items():
        inner = []
        for fact, value in found.items():
            if isinstance(value, dict) and value:
                pairs = [f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
                inner.append(f"{json.dumps(fact)}: {{\n   " + ",\n   ".join(pairs) + "\n  }")
            else:
                inner.append(f"{json.dumps(fact)}: {json.dumps(value, ensure_ascii=False)}")
        lines.append(f"{json.dumps(name)}: {{\n  " + ",\n  ".join(inner) + "\n }")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(everything())

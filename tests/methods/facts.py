"""What is said about every method, as plain data: its paper, claims, recipes, defaults, search space and settings."""

import json
from dataclasses import asdict
from typing import Any

from ltbench import registry
from ltbench.config import RunConfig, recipes
from ltbench.method import Method
from ltbench.method.claims import paper_record
from ltbench.method.mixing import Mixing
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
    paper = cls.paper
    claims = paper.all_claims if paper else ()
    unstated = {claim.key: [key for key, value in claim.settings.items() if value is ...] for claim in claims}
    stated = {claim.key: {key: v for key, v in claim.settings.items() if v is not ...} for claim in claims}
    defaults = {_key(key): dict(values) for key, values in cls.Config.dataset_defaults.items()}
    found = {
        **{setting: getattr(cls, setting) for setting in SETTINGS},
        "paper": {name: getattr(paper, name) for name in ("title", "authors", "venue", "year", "bibtex", "checkpoint", "draw")}
        if paper
        else None,
        "claims": {
            claim.key: [stated[claim.key], unstated[claim.key], list(claim.differs)]
            for claim in sorted(claims, key=lambda claim: claim.key)
        },
        "recipes": {
            table: recipes.of_paper(name, paper.recipes, table).model_dump(exclude_defaults=True)
            for table in (paper.recipes if paper else ())
        },
        "dataset_defaults": defaults,
        "space": [[name, asdict(option)] for name, option in cls.Config.space.items()],
        "hyperparameters": {
            name: [cls.Config().model_dump()[name], field.description]
            for name, field in cls.Config.model_fields.items()
            if name not in Mixing.model_fields or field.default != Mixing.model_fields[name].default
        },
        "fits": _fits(name, cls, list(stated.values()), sorted({key for keys in unstated.values() for key in keys})),
    }
    return json.loads(json.dumps(found))


def _fits(name: str, cls: type[Method], variants: list[dict[str, Any]], unstated: list[str]) -> dict[str, Any]:
    """The hyper-parameters of a run, and the claims that it is set beside, by their number, with what differs in words.

    Of the method as it is, with mixup, and with the settings of each variant.
    """
    settings = [{}, {"mixup": 0.7}, *variants, *({key: 0.3} for key in unstated)]
    numbers = {claim: str(number) for number, claim in enumerate(sorted(_claims(cls)))}
    found = {}
    for dataset, ratio in DATASETS:
        for own in settings:
            run = resolve(RunConfig(method=name, dataset=dataset, imbalance_ratio=ratio, hyperparameters=own))
            record = paper_record(cls, run, registry.dataset(dataset).recipe_table)
            title = f"{dataset} {run.imbalance_ratio} {json.dumps(own)}"
            claims = {numbers[key]: record.differs.get(key, []) for key in sorted(record.claims)} if record else None
            found[title] = [run.hyperparameters, claims, record is not None and record.recipe is not None]
    return found


def _claims(cls: type[Method]) -> list[str]:
    return [claim.key for claim in (cls.paper.all_claims if cls.paper else ())]


def _key(key: str | tuple[str, float]) -> str:
    return key if isinstance(key, str) else f"{key[0]} at {key[1]:g}"


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

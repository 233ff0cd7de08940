"""Checks of what a method's class declares: its docstring, hyper-parameters, search space, and what its stages see."""

from ltbench.config import canonical_json
from ltbench.conformance.checks import check
from ltbench.conformance.tiny_task import RECIPE, Subject
from ltbench.method import Choice


@check
def it_is_documented(subject: Subject) -> None:
    """A class without a docstring of its own inherits none."""
    assert subject.cls.__doc__, "the class needs a docstring: the idea, the paper and the equation"


@check
def its_hyper_parameters_survive_storing(subject: Subject) -> None:
    """Results hold hyper-parameters as JSON."""
    config = subject.cls.Config()
    again = subject.cls.Config.model_validate(config.model_dump(mode="json"))
    same = canonical_json(again.model_dump(mode="json")) == canonical_json(config.model_dump(mode="json"))
    assert same, "Config changes when it is written as JSON and read again"


@check
def its_search_space_is_valid(subject: Subject) -> None:
    """Both ends of every range and every choice are accepted by Config."""
    for name, option in subject.cls.Config.search_space().items():
        for value in option.options if isinstance(option, Choice) else (option.low, option.high):
            subject.cls.Config.model_validate({name: value})


@check
def its_stages_say_what_they_look_at(subject: Subject) -> None:
    """A method that adapts to test images says that it is transductive."""
    stages = subject.make().stages(RECIPE)
    adapts = any(stage.source == "unlabelled-test" for stage in stages)
    assert adapts == subject.cls.transductive, "transductive must be True exactly if a stage sees test images"

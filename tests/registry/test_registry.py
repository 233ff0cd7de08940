"""Methods, data sets and networks by name, built in, from a folder, and from other packages."""

import re
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.errors import LtbenchError
from ltbench.method import Method
from ltbench.models import network_names
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import resolve
from ltbench.runs.run import run

BUILT_IN = {"balanced_softmax", "balpoe", "ce", "logit_adjustment", "logit_adjustment_posthoc"}
MINE = """
    from ltbench.method.losses import cross_entropy
    from ltbench.method import Method


    class Mine(Method):
        \"\"\"A method of my own.\"\"\"

        def forward(self, batch, progress):
            return batch.loss(lambda labels: cross_entropy(self.network(batch.images), labels))
"""


@pytest.fixture
def method_file(tmp_path):
    """Write a method file into a folder and return it."""

    def write(name, text):
        path = tmp_path / "methods" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def entry_points(monkeypatch):
    """Pretend that another package registers these: group, name, object reference."""

    def pretend(*entries):
        there = [EntryPoint(name=name, value=value, group=group) for group, name, value in entries]
        monkeypatch.setattr(registry, "entry_points", lambda group: [one for one in there if one.group == group])

    return pretend


def test_every_built_in_method_loads_under_its_file_name():
    assert set(registry.method_names()) >= BUILT_IN
    for name in registry.method_names():
        cls = registry.method(name)
        assert issubclass(cls, Method)
        assert cls.__module__ == f"ltbench_methods.{name}"
        assert cls.__doc__


def test_every_built_in_method_has_a_number_for_its_code():
    for name in registry.method_names():
        cls = registry.method(name)
        assert isinstance(cls.__dict__["revision"], int), f"{name} inherits its revision"
        assert registry.revision(cls) == str(cls.revision)


@pytest.mark.parametrize(
    ("look_up", "name", "kind", "near"),
    [
        (registry.method, "balpo", "method", "balpoe"),
        (registry.dataset, "digit-lt", "data set", "digits-lt"),
        (network_names.check_backbone, "cifar_resnet23", "backbone", "cifar_resnet20"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_one(look_up, name, kind, near):
    with pytest.raises(LtbenchError, match=f"unknown {kind} '{name}'") as caught:
        look_up(name)
    assert "did you mean" in str(caught.value)
    assert near in str(caught.value)


def test_a_name_like_no_other_comes_with_what_is_known():
    with pytest.raises(LtbenchError, match=r"known: .*balpoe, .*ce, "):
        registry.method("xyzzy")


@pytest.mark.parametrize("name", registry.method_names())
def test_the_summary_that_is_read_is_that_of_the_class(name):
    assert registry.declaration(name).summary == registry.method(name).__doc__.strip().splitlines()[0]


TOLD = {
    "list methods": (0, "sade                      experts      2022  SADE: Three experts on a shared trunk"),
    "list recipes": (0, "standard  digits           60 epochs   rate 0.1 step"),
    "run --method ce,balpo": (2, "unknown method 'balpo'"),
    "tune --method balpo": (2, "did you mean balpoe?"),
    "estimate --method balpo": (2, "did you mean balpoe?"),
}
"""Command -> exit code, and what it says."""


@pytest.mark.slow
def test_names_are_told_without_torch():
    """All in one process, so that the test is quick; the first that imports torch is named."""
    text = """
        import sys
        from ltbench.cli import main

        for line in sys.argv[1:]:
            sys.argv = ["ltbench", *line.split()]
            try:
                main()
            except SystemExit as ended:
                heavy = sorted({"pandas", "timm", "torch"} & sys.modules.keys())
                print(f"@ {ended.code or 0} {heavy} {line}", flush=True)
    """
    words = [sys.executable, "-c", textwrap.dedent(text), *TOLD]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    said = dict(zip(TOLD, re.split(r"^@ .*\n", done.stdout, flags=re.MULTILINE), strict=False))
    ends = re.findall(r"^@ (.*)$", done.stdout, re.MULTILINE)
    assert ends == [f"{code} [] {line}" for line, (code, _) in TOLD.items()]
    for line, (_, part) in TOLD.items():
        assert part in said[line]


def test_every_data_set_has_what_a_run_needs():
    assert set(registry.dataset_names()) >= {"cifar10-lt", "cifar100-lt", "digits-lt", "folder-lt"}
    for name in registry.dataset_names():
        source = registry.dataset(name)
        assert source.name == name
        assert source.summary
        network_names.check_backbone(source.backbone)
        assert resolve(RunConfig(dataset=name)).recipe.name == "standard"


def test_networks_are_timms_and_the_cifar_resnets():
    names = network_names.backbone_names()
    assert {"resnet50", "vit_tiny_patch16_224", "cifar_resnet20", "cifar_resnet32", "cifar_resnet56"} <= set(names)


def test_a_method_file_is_known_under_its_name(method_file):
    registry.add_methods_dir(method_file("mine", MINE).parent)
    assert "mine" in registry.method_names()
    assert registry.method("mine").__doc__ == "A method of my own."


@pytest.mark.slow
def test_a_method_file_is_trained_and_its_code_is_in_the_result(method_file, tmp_path):
    path = method_file("mine", MINE)
    registry.add_method_file(path)
    options = RunOptions(out=tmp_path / "runs", device="cpu")
    config = RunConfig(method="mine", backbone="cifar_resnet8", epochs=1)
    first = run(config, options)
    assert (first.status, first.method.revision[:5]) == ("done", "file ")
    assert run(config, options) == first
    path.write_text(path.read_text() + "\n# edited\n")
    edited = run(config, options)
    assert edited.run_id != first.run_id
    assert edited.metrics == first.metrics  # another name for the same computation


def test_a_subclass_of_a_built_in_method_does_not_pass_for_it(method_file):
    text = """
        from ltbench_methods.ce import CrossEntropy

        class Mine(CrossEntropy):
            pass
    """
    registry.add_method_file(method_file("mine", text))
    cls = registry.method("mine")
    assert cls.__name__ == "Mine"
    assert registry.revision(cls) != registry.revision(registry.method("ce"))


def test_a_method_file_may_number_its_code(method_file):
    path = method_file("mine", MINE.replace("def forward", "revision = 7\n\n        def forward"))
    registry.add_method_file(path)
    assert registry.revision(registry.method("mine")) == "7"


def test_a_method_file_may_have_annotations_as_text(method_file):
    text = """
        from __future__ import annotations

        from dataclasses import dataclass
        from ltbench.method import Method, MethodConfig

        @dataclass
        class Part:
            size: Size

        class Mine(Method):
            class Config(MethodConfig):
                size: Size = 3

        Size = int
    """
    registry.add_method_file(method_file("mine", text))
    resolved = resolve(RunConfig(method="mine", hyperparameters={"size": 4})).config
    assert resolved.hyperparameters["size"] == 4


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("x = 1\nclass Broken(:\n", "SyntaxError", 2),
        ("import torch\n\nimport no_such_package\n", "No module named 'no_such_package'", 3),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError", 2),
    ],
)
def test_a_method_file_that_does_not_load_is_named_with_the_line(method_file, text, what, line):
    path = method_file("broken", text)
    registry.add_method_file(path)
    with pytest.raises(LtbenchError, match="cannot be loaded") as caught:
        registry.method("broken")
    assert what in str(caught.value)
    assert f"where: {path}, line {line}" in str(caught.value)


@pytest.mark.parametrize(("classes", "count"), [("", 0), ("class A(Method): pass\nclass B(Method): pass\n", 2)])
def test_a_method_file_has_one_method(method_file, classes, count):
    path = method_file("several", "from ltbench.method import Method\n" + classes)
    registry.add_method_file(path)
    with pytest.raises(LtbenchError, match=f"'several' defines {count} subclasses of Method, expected one") as caught:
        registry.method("several")
    assert str(path) in str(caught.value)


def test_a_taken_name_is_refused(method_file):
    path = method_file("ce", MINE)
    with pytest.raises(LtbenchError, match="there is a method 'ce' already") as caught:
        registry.add_methods_dir(path.parent)
    assert "rename the file" in str(caught.value)
    assert registry.method("ce").__module__ == "ltbench_methods.ce"


@pytest.mark.parametrize("name", ["My-Method", "2fast", "über"])
def test_a_file_name_that_is_no_method_name_is_refused(method_file, name):
    with pytest.raises(LtbenchError, match=f"'{name}' is no method name"):
        registry.add_method_file(method_file(name, MINE))


def test_a_missing_folder_an_empty_one_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(LtbenchError, match="methods folder is not there") as caught:
        registry.add_methods_dir(tmp_path / "none")
    assert str(tmp_path / "none") in str(caught.value)
    (tmp_path / "_helper.py").write_text("")
    with pytest.raises(LtbenchError, match="no method files in the folder"):
        registry.add_methods_dir(tmp_path)
    with pytest.raises(LtbenchError, match="method file is not there"):
        registry.add_method_file(tmp_path / "none.py")


def test_other_packages_register_methods_as_class_or_module(entry_points):
    entry_points(
        ("ltbench.methods", "theirs", "ltbench_methods.balpoe:BalPoE"),
        ("ltbench.methods", "theirs_too", "ltbench_methods.ce"),
        ("ltbench.datasets", "no_method", "ltbench.data.datasets.digits:Digits"),
    )
    assert set(registry.method_names()) >= BUILT_IN | {"theirs", "theirs_too"}
    assert "no_method" not in registry.method_names()
    assert registry.method("theirs") is registry.method("balpoe")
    assert registry.method("theirs_too") is registry.method("ce")


def test_a_file_cannot_take_the_name_of_another_packages_method(entry_points, method_file):
    entry_points(("ltbench.methods", "mine", "ltbench_methods.ce:CrossEntropy"))
    with pytest.raises(LtbenchError, match="there is a method 'mine' already"):
        registry.add_method_file(method_file("mine", MINE))


FAULTY = {
    "exits": "raise SystemExit(0)",
    "interrupts": "raise GeneratorExit('odd')",
    "raises": "1 / 0",
    "imports": "import no_such_package",
    "odd": "class Odd(BaseException):\n    pass\nraise Odd('odd')",
    "wrong": "Thing = 3\nclass Other:\n    pass\nclass Two:\n    def __init__(self):\n        raise SystemExit(3)",
}


@pytest.fixture
def faulty_package(tmp_path, monkeypatch, entry_points):
    """Another package, of which nothing loads: registered as methods and as data sets."""
    for name, text in FAULTY.items():
        (tmp_path / f"faulty_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    references = {
        **{f"bad_{name}": f"faulty_{name}:Thing" for name in FAULTY},
        "bad_lacking": "faulty_wrong:Nothing",
        "bad_class": "faulty_wrong:Other",
        "bad_start": "faulty_wrong:Two",
        "bad_away": "no_such_module:Thing",
    }
    entry_points(
        *((f"ltbench.{kind}", name, value) for kind in ("methods", "datasets") for name, value in references.items()),
        ("ltbench.methods", "theirs", "ltbench_methods.balpoe:BalPoE"),
    )
    return sorted(references)


@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
@pytest.mark.parametrize("kind", ["methods", "datasets"])
def test_a_faulty_package_is_left_out_of_lists_by_name(cli, faulty_package, kind):
    done = cli("list", kind)
    listed = {line.split()[0] for line in done.out.splitlines()}
    assert done.code == 0
    assert listed >= (BUILT_IN | {"theirs"} if kind == "methods" else {"digits-lt", "folder-lt"})
    assert not listed & set(faulty_package)
    for name in faulty_package:
        assert f"'{name}' is left out: the entry point '{name}' of the package " in done.err
    assert "ZeroDivisionError: division by zero" in done.err
    assert "uninstall" in done.err


@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
def test_a_faulty_package_does_not_keep_the_doctor_from_work(cli, faulty_package):
    done = cli("doctor")
    assert done.code == 0
    assert "digits-lt                 ready" in done.out
    assert all(done.err.count(f"'{name}' is left out") >= 1 for name in faulty_package)


@pytest.mark.parametrize(("option", "other"), [("--method", "methods"), ("--dataset", "datasets")])
def test_what_a_faulty_package_registers_is_an_error_where_it_is_named(cli, faulty_package, option, other):
    for name in faulty_package:
        done = cli("run", option, name, "--device", "cpu")
        assert (done.code, done.out) == (2, "")
        assert f"the entry point '{name}' of the package" in done.err
        assert f"ltbench.{other}: {name} = " in done.err


@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
def test_all_methods_are_those_that_load(faulty_package):
    from ltbench.runs.run_list import parse_methods

    assert not set(parse_methods("all")) & set(faulty_package)


@pytest.mark.parametrize("ending", ["import sys\nsys.exit()", "raise SystemExit(0)", "raise BaseException('odd')"])
def test_a_method_file_cannot_end_the_program(cli, method_file, ending):
    path = method_file("ends", ending)
    for words in (
        ["check", path],
        ["run", "--methods-dir", path.parent, "--method", "ends"],
        ["estimate", "--methods-dir", path.parent, "--method", "ends"],
    ):
        done = cli(*words)
        assert done.code == 2
        assert "the method file cannot be loaded: " in done.err
        assert str(path) in done.err


@pytest.mark.filterwarnings("default::ltbench.errors.LtbenchWarning")
def test_a_method_file_that_does_not_load_is_left_out_of_the_list(cli, method_file):
    method_file("fine", MINE)
    folder = method_file("ends", "raise SystemExit(0)").parent
    done = cli("list", "methods", "--methods-dir", folder)
    assert done.code == 0
    assert "fine                      other              A method of my own." in done.out
    assert "'ends' is left out" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SystemExit", "BaseException", "GeneratorExit"])
def test_a_method_that_ends_the_program_while_it_trains_is_a_failed_run(cli, method_file, tmp_path, kind):
    from ltbench.results.store import read

    folder = method_file("ends", MINE.replace("return batch", f"raise {kind}(0)\n            return batch")).parent
    done = cli(
        "run",
        "--methods-dir",
        folder,
        "--method",
        "ends,ce",
        "--backbone",
        "cifar_resnet8",
        "--epochs",
        1,
        "--device",
        "cpu",
    )
    assert done.code == 1
    states = {one.config.method: one for one in map(read, (tmp_path / "runs").rglob("*.json"))}
    assert {name: one.status for name, one in states.items()} == {"ends": "failed", "ce": "done"}
    assert f"{kind}: 0 (ends.py, line 10)" in states["ends"].reason
    checked = cli("check", folder / "ends.py")
    assert (checked.code, f"{kind}: 0 (ends.py, line 10)" in checked.out) == (1, True)


def test_code_that_ends_the_program_anywhere_else_is_named(cli, method_file):
    text = MINE.replace(
        "def forward", "@classmethod\n        def uses(cls, config):\n            exit()\n\n        def forward"
    )
    folder = method_file("ends", text).parent
    done = cli(
        "run",
        "--methods-dir",
        folder,
        "--method",
        "ends",
        "--backbone",
        "cifar_resnet8",
        "--epochs",
        1,
        "--device",
        "cpu",
    )
    assert done.code in (1, 2)
    assert "ends.py" in done.out + done.err


@pytest.mark.parametrize("name", ["resnet50.nosuchtag", "resnet50.", "resnet50.a1_in1k.x", "cifar_resnet20.tag", "."])
def test_a_tag_that_timm_does_not_know_is_an_unknown_backbone(name):
    with pytest.raises(LtbenchError, match="unknown backbone"):
        network_names.check_backbone(name)
    network_names.check_backbone("resnet50.a1_in1k")


def test_another_package_cannot_replace_what_is_built_in(entry_points):
    entry_points(
        ("ltbench.methods", "ce", "ltbench_methods.balpoe:BalPoE"),
        ("ltbench.datasets", "digits-lt", "ltbench.data.datasets.image_folder:Folder"),
    )
    assert registry.method("ce").__name__ == "CrossEntropy"
    assert registry.dataset("digits-lt").name == "digits-lt"


def test_other_packages_register_data_sets(entry_points):
    entry_points(("ltbench.datasets", "mine-lt", "ltbench.data.datasets.digits:Digits"))
    assert "mine-lt" in registry.dataset_names()
    assert resolve(RunConfig(dataset="mine-lt")).image_size == 8


def test_a_methods_table_for_a_data_set_is_used_by_the_data_set_of_that_name():
    config = resolve(RunConfig(dataset="imagenet-lt", hyperparameters={"mixup": 0.4})).config
    assert config.hyperparameters == {"taus": [0, 1.25, 2.5], "mixup": 0.4, "width": 1}
    assert (config.backbone, config.image_size, config.recipe.epochs) == ("resnet50", 224, 180)

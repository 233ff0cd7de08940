"""Settings, their names in JSON, recipes, and what fills in the gaps."""

import hashlib

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import save_file

from ltbench import registry
from ltbench.config import Augment, Recipe, RunConfig, canonical_json, read_toml, run_id, settings_text, validated
from ltbench.errors import LtbenchError
from ltbench.runs.resolve import resolve

numbers = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def id_of(**settings):
    return run_id(resolve(RunConfig(**settings)).config, "1", "data")


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=3), plain, max_size=4))
def test_the_order_of_keys_does_not_show_in_canonical_json(values):
    backwards = dict(reversed(values.items()))
    assert canonical_json(values) == canonical_json(backwards)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_reads_the_same_as_integer_and_float(number):
    assert canonical_json({"x": [number]}) == canonical_json({"x": (float(number),)}) == f'{{"x":[{number}]}}'


def test_canonical_json_tells_true_from_one_and_text_from_a_number():
    assert len({canonical_json(value) for value in (True, 1, "1", 1.5, None)}) == 5
    assert canonical_json(-0.0) == canonical_json(0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_has_no_word_for(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": value})


def test_a_run_id_is_a_hash_of_settings_code_and_data():
    settings = '{"hyperparameters":{"taus":[0,1,2.5]},"imbalance_ratio":20,"recipe":{"lr":0.2},"seed":3}'
    hyperparameters = {"taus": (0.0, 1, 2.5)}
    config = RunConfig(seed=3, imbalance_ratio=20, hyperparameters=hyperparameters, recipe=Recipe(lr=0.2))
    assert run_id(config, "1", "data") == hashlib.sha256(f'[{settings},"1","data"]'.encode()).hexdigest()[:12]


def test_a_setting_that_is_new_to_ltbench_renames_no_older_run():
    class Later(RunConfig):
        invented: float = 0.5

    assert run_id(Later(seed=3), "1", "data") == run_id(RunConfig(seed=3), "1", "data")
    assert run_id(Later(seed=3, invented=0.6), "1", "data") != run_id(RunConfig(seed=3), "1", "data")


def test_a_kind_of_imbalance_that_older_versions_did_not_have_leaves_their_checkpoints_alone():
    text = settings_text(RunConfig())
    assert 'imbalance"' not in text
    assert "class_order" not in text
    assert '"imbalance":"step"' in settings_text(RunConfig(imbalance="step"))


CHANGES = [
    {"method": "ce"},
    {"dataset": "cifar10-lt"},
    {"imbalance_ratio": 50},
    {"data_seed": 1},
    {"imbalance": "step"},
    {"class_order": "drawn"},
    {"image_size": 32},
    {"backbone": "cifar_resnet32"},
    {"recipe": "long"},
    {"epochs": 3},
    {"lr": 0.2},
    {"batch_size": 32},
    {"precision": "bf16"},
    {"batch_norm_images": 32},
    {"cache_resized": 256},
    {"decode": "gpu"},
    {"validation": True},
    {"keep_classes_without_test_images": True},
    {"hyperparameters": {"mixup": 0.1}},
    {"seed": 1},
]


OF_WEIGHTS = {"pretrained", "weights", "train", "feature_views"}
"""Settings of pre-trained networks: see ``test_settings_of_pretrained_networks_change_the_run_id``."""
OF_TABLES = {"labels", "label_columns"}
"""Where labels are read from, which a run's id does not tell: see ``tests/data/datasets/test_label_table.py``."""


def test_every_setting_is_varied_below():
    assert {name for change in CHANGES for name in change} == set(RunConfig.model_fields) - OF_WEIGHTS - OF_TABLES


def test_settings_of_pretrained_networks_change_the_run_id(tmp_path):
    def weights(seed):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        save_file(timm.create_model("test_resnet").state_dict(), path)
        return {"backbone": "test_resnet", "weights": str(path)}

    head = {**weights(0), "train": "head"}
    settings = [{"backbone": "test_resnet"}, weights(0), weights(1), head, {**head, "feature_views": 0}]
    assert len({id_of(**one) for one in settings}) == len(settings)


@pytest.mark.parametrize(("method", "name"), [("cmo", "cmo"), ("remix", "remix"), ("cutmix", "cutmix"), ("ce", "cmo")])
def test_what_is_turned_off_stays_off(method, name):
    """Whether the method has it on where nothing is said, or off."""
    config = resolve(RunConfig(method=method, hyperparameters={name: None})).config
    settings = registry.method(method).Config.model_validate(config.hyperparameters)
    assert getattr(settings, name) is None
    assert (name in config.hyperparameters) == (method != "ce")  # what is off anyway leaves no trace in the id
    assert resolve(config).config == config


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_each_setting_changes_the_run_id(change):
    assert id_of(**change) != id_of()


AUGMENTATIONS = [
    {"crop": (0.2, 1.0)},
    {"padding": 0.1},
    {"flip": True},
    {"rotation": 5},
    {"policy": "randaugment"},
    {"jitter": (0.4, 0.4, 0.4, 0.1)},
    {"jitter_chance": 0.8},
    {"grey": 0.2},
    {"blur": 0.5},
    {"cutout": 0.5},
]


def test_every_augmentation_is_varied_below():
    assert {name for change in AUGMENTATIONS for name in change} == set(Augment.model_fields)


@pytest.mark.parametrize("change", AUGMENTATIONS, ids=lambda change: next(iter(change)))
def test_each_augmentation_changes_the_run_id_and_comes_back_from_json(change):
    config = RunConfig(recipe={"augment": change})
    assert id_of(recipe=config.recipe) != id_of(recipe=Recipe())
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_the_methods_code_and_the_data_change_the_run_id():
    config = RunConfig()
    assert len({run_id(config, revision, data) for revision in ("1", "2") for data in ("a", "b")}) == 4


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().augment.flip = True


def test_a_copy_with_changes_is_validated():
    assert RunConfig().replace(seed=3).seed == 3
    with pytest.raises(ValidationError, match="epochs"):
        RunConfig().replace(epochs=0)


def test_runs_that_differ_in_their_seed_share_the_rest():
    assert RunConfig(seed=1).without_seed() == RunConfig(seed=2).without_seed()
    assert "seed" not in RunConfig().without_seed()


REFUSED = [
    ({"metod": "ce"}, "unknown setting 'metod'", "did you mean method?"),
    ({"epochs": 0}, "epochs: Input should be greater than or equal to 1 (got 0)", None),
    ({"imbalance_ratio": 0.5}, "imbalance_ratio: Input should be greater than or equal to 1 (got 0.5)", "head count"),
    ({"lr": float("nan")}, "lr: Input should be", None),
    ({"batch_size": 1}, "batch_size: Input should be", None),
    ({"precision": "fp16"}, "precision: Input should be 'fp32' or 'bf16'", None),
    ({"seed": -1}, "seed: Input should be greater than or equal to 0", None),
    ({"recipe": {"lrr": 1}}, "unknown setting 'lrr'", "did you mean lr?"),
    (
        {"recipe": {"gamma": 2}},
        "recipe.gamma: Input should be less than or equal to 1",
        "factor of the learning rate at each milestone",
    ),
    ({"recipe": {"augment": {"flop": True}}}, "unknown setting 'flop'", "did you mean flip?"),
    (
        {"recipe": {"augment": {"policy": "cifar"}}},
        "recipe.augment.policy: Input should be 'cifar10' or",
        "RandAugment",
    ),
    (
        {"recipe": {"augment": {"cutout": 2}}},
        "recipe.augment.cutout: Input should be less than",
        "side of a black square",
    ),
    ({"recipe": {"augment": {"grey": -0.1}}}, "recipe.augment.grey: Input should be greater than", "probability"),
    ({"recipe": {"augment": {"jitter": [0, 0, 0, 0.6]}}}, "recipe.augment.jitter.3: Input should be", "brightness"),
    ({"recipe": {"augment": {"jitter": [0.4, -1, 0, 0]}}}, "recipe.augment.jitter.1: Input should be", "brightness"),
    ({"recipe": {"augment": {"jitter": [0.4, 0.4]}}}, "recipe.augment.jitter.2: Field required", None),
    ({"recipe": {"milestones": [0.5, 2]}}, "recipe.milestones.1: Input should be", None),
]


@pytest.mark.parametrize(("settings", "what", "hint"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_settings_are_refused_by_name(settings, what, hint):
    with pytest.raises(LtbenchError) as caught:
        validated(RunConfig, settings, where="runs.toml")
    assert str(caught.value).startswith(what)
    assert "where: runs.toml" in str(caught.value)
    assert (hint or "") in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "runs.toml").write_bytes(b"\xef\xbb\xbfepochs = 1\r\n")
    assert read_toml(tmp_path / "runs.toml") == {"epochs": 1}


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"a = \n", "not a valid TOML file"), (b"a = '\xff'", "not a valid TOML file"), (None, "cannot read the file")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path, content, what):
    path = tmp_path / "runs.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LtbenchError, match=what) as caught:
        read_toml(path)
    assert f"where: {path}" in str(caught.value)


def test_settings_of_a_run_beat_the_recipe():
    config = resolve(RunConfig(epochs=3, lr=0.5, batch_size=16)).config
    assert (config.recipe.epochs, config.recipe.lr, config.recipe.batch_size) == (3, 0.5, 16)
    assert (config.epochs, config.lr, config.batch_size) == (None, None, None)  # said once
    untouched = resolve(RunConfig()).config
    assert (untouched.recipe.epochs, untouched.recipe.lr, untouched.recipe.batch_size) == (60, 0.1, 64)


def test_the_data_set_fills_in_ratio_size_and_backbone():
    digits, cifar = resolve(RunConfig()).config, resolve(RunConfig(dataset="cifar100-lt")).config
    assert (digits.imbalance_ratio, digits.image_size, digits.backbone) == (20, 8, "cifar_resnet20")
    assert (cifar.imbalance_ratio, cifar.image_size, cifar.backbone) == (100, 32, "cifar_resnet32")


def test_resolving_twice_changes_nothing():
    once = resolve(RunConfig(epochs=3, hyperparameters={"experts": 2})).config
    assert resolve(once).config == once


def test_balpoes_published_settings_for_cifar100():
    assert resolve(RunConfig(dataset="cifar100-lt")).config.hyperparameters == {
        "taus": [0.0, 1.0, 2.0],
        "mixup": 0.4,
        "width": 1.0,
    }


EXPLICIT = [
    {"hyperparameters": {"mixup": 0.4}},
    {"hyperparameters": {"taus": [0, 1, 2]}},
    {"hyperparameters": {"experts": 3, "spread": 1}},
    {"hyperparameters": {"experts": 3}},
    {"hyperparameters": {"spread": 1.0}},
    {"imbalance_ratio": 20},
    {"image_size": 8},
    {"backbone": "cifar_resnet20"},
    {"recipe": "standard"},
    {"epochs": 60},
    {"lr": 0.1},
    {"batch_size": 64},
]


@pytest.mark.parametrize("settings", EXPLICIT, ids=str)
def test_a_default_said_aloud_is_the_same_run(settings):
    assert id_of(**settings) == id_of()


@pytest.mark.parametrize(
    ("short", "taus"),
    [
        ({"taus": 1}, [1.0]),
        ({"experts": 2, "spread": 1}, [0, 2]),
        ({"experts": 3, "spread": 0.25}, [0.75, 1, 1.25]),
        ({"experts": 4, "spread": 1}, [0, 0.6667, 1.3333, 2]),  # rounded, so that it can be written out
        ({"experts": 1, "spread": 2}, [1]),
        ({"experts": 2, "spread": 0}, [1, 1]),
    ],
)
def test_experts_and_spread_are_short_for_taus(short, taus):
    assert id_of(hyperparameters=short) == id_of(hyperparameters={"taus": taus})


@pytest.mark.parametrize(
    ("given_settings", "reason"),
    [
        ({"taus": [0, 2], "experts": 2}, "give either taus, or experts and spread"),
        ({"experts": 0}, "experts must be 1, 2, ..."),
        ({"experts": 2.5}, "experts must be 1, 2, ..."),
        ({"experts": [2, 3]}, "experts must be 1, 2, ..."),
        ({"spread": -1}, "spread at least 0"),
        ({"spread": "wide"}, "spread at least 0"),
        ({"taus": []}, "taus: Tuple should have at least 1 item"),
        ({"mixup": -1}, "mixup: Input should be greater than or equal to 0 (got -1)"),
        ({"mixpu": 1}, "unknown hyper-parameter of balpoe 'mixpu'"),
    ],
    ids=str,
)
def test_bad_hyper_parameters_are_refused(given_settings, reason):
    with pytest.raises(LtbenchError) as caught:
        resolve(RunConfig(hyperparameters=given_settings))
    assert reason in str(caught.value)
    assert "where: --set" in str(caught.value)


METHOD_WITH_TABLE = """
from ltbench.method import Method, MethodConfig

class Tabled(Method):
    class Config(MethodConfig):
        strength: float = 1.0
        other: float = 1.0
"""
TABLE = """
defaults.digits-lt = { strength = 2.0, other = 2.0, mixup = 2.0, imbalance_ratio.50 = { other = 3.0 } }
defaults.cifar10-lt.imbalance_ratio.50.strength = 4.0
"""


def test_a_setting_beats_the_methods_table_for_the_data_set_which_beats_its_defaults(tmp_path):
    (tmp_path / "tabled.py").write_text(METHOD_WITH_TABLE)
    (tmp_path / "tabled.toml").write_text(TABLE)
    registry.add_methods_dir(tmp_path)
    config = resolve(RunConfig(method="tabled", hyperparameters={"strength": 1.0})).config
    assert config.hyperparameters == {"mixup": 2, "strength": 1, "other": 2}
    elsewhere = resolve(RunConfig(method="tabled", dataset="cifar10-lt")).config
    assert elsewhere.hyperparameters == {"mixup": 0, "strength": 1, "other": 1}
    # What is said of a ratio comes before what is said of every ratio, and after what a run says.
    other_ratio = RunConfig(method="tabled", imbalance_ratio=50.0)
    assert resolve(other_ratio).config.hyperparameters == {"mixup": 2, "strength": 2, "other": 3}
    given = other_ratio.replace(hyperparameters={"other": 1.0})
    assert resolve(given).config.hyperparameters == {"mixup": 2, "strength": 2, "other": 1}
    for ratio, strength in {10: 1, 50: 4}.items():  # without values of the data set
        elsewhere = resolve(RunConfig(method="tabled", dataset="cifar10-lt", imbalance_ratio=ratio)).config
        assert elsewhere.hyperparameters["strength"] == strength

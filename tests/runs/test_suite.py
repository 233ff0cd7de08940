"""Suites: what they expand to, which of their runs are left, and how long these take."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.config.validation import read_toml
from ltbench.data import dataset
from ltbench.errors import LtbenchError
from ltbench.results.store import Store
from ltbench.runs import remaining
from ltbench.runs.options import RunOptions
from ltbench.runs.plan import plan_run
from ltbench.runs.resolve import resolve
from ltbench.runs.run_list import expand, read_runs
from ltbench.runs.suite import (
    described_key,
    distinct,
    of_suite,
    suite_file,
    suite_names,
    suite_settings,
    suite_summary,
)

RUNS = {
    "cifar100-lt": 3 * (13 + 3 + 1) * 5,
    "cifar100-lt-10-epochs": 10,
    "cifar100-lt-200-epochs": 12 * 3,
    "cifar100-lt-calibration": 6 * 5,
    "cifar100-lt-experts": 7 * 5,
    "cifar100-lt-frozen": 44 * 5 + 3,
    "cifar100-lt-mixup": 8 * 5,
    "digits-lt": 45 * 5,
    "digits-lt-costs": 39,
    "digits-lt-poster": 11 * 5,
    "digits-lt-sam": 11 * 5,
    "fashion-mnist-lt": 17 * 5,
    "fashion-mnist-lt-sam": 3 * 3,
    "frozen-features": 14 * 5,
    "imagenet-lt": 2 * 10,
    "inaturalist2018": 10,
    "places-lt": 10,
    "smoke": 4 * 2,
}


def runs_of(suite, **flags):
    described, _ = read_runs(suite_file(suite))
    return distinct(expand(described, flags))


def test_every_suite_has_a_known_number_of_runs():
    assert {name: len(runs_of(name)) for name in suite_names()} == RUNS


@pytest.mark.slow
@pytest.mark.parametrize("name", suite_names())
def test_every_run_of_a_suite_is_valid_and_no_two_are_the_same(name):
    keys = [described_key(config) for config in runs_of(name)]
    assert len(set(keys)) == len(keys)
    assert 20 < len(suite_summary(name)) <= 120


def test_the_columns_of_the_paper_have_its_imbalance_ratios_and_recipe():
    resolved = [resolve(config) for config in runs_of("cifar100-lt")]
    assert {one.config.imbalance_ratio for one in resolved} == {10, 50, 100}
    assert {(one.backbone, one.recipe.epochs, one.config.dataset) for one in resolved} == {
        ("cifar_resnet32", 200, "cifar100-lt")
    }
    mixup = {one.config.hyperparameters["mixup"] for one in resolved if one.config.method == "balpoe"}
    assert mixup == {0.0, 0.4}


def test_the_suite_of_experts_has_one_to_seven_with_taus_that_average_to_one():
    taus = {tuple(resolve(config).config.hyperparameters["taus"]) for config in runs_of("cifar100-lt-experts")}
    assert sorted(map(len, taus)) == [1, 2, 3, 4, 5, 6, 7]
    assert all(sum(one) / len(one) == pytest.approx(1) for one in taus)
    assert (0.0, 0.5, 1.0, 1.5, 2.0) in taus


def test_the_suite_of_mixup_goes_from_none_to_one():
    values = {resolve(config).config.hyperparameters["mixup"] for config in runs_of("cifar100-lt-mixup")}
    assert values == {0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0}


def test_a_flag_takes_the_place_of_a_list():
    one_column = runs_of("cifar100-lt", imbalance_ratio=50.0, seeds="3")
    assert len(one_column) == 17
    assert {(config.imbalance_ratio, config.seed) for config in one_column} == {(50, 3)}


def test_lists_and_grids_give_every_combination(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(
        "summary = 'x'\nmethod = 'ce'\nimbalance_ratio = [10, 20]\ngrid = { mixup = [0.1, 0.2] }\n"
        "hyperparameters = { mixup = 0.9 }\n[[runs]]\nbackbone = ['cifar_resnet8', 'cifar_resnet20']\n"
        "[[runs]]\ngrid = { mixup = [0.3] }"
    )
    described, tuning = read_runs(path)
    assert tuning is None
    found = [(one["imbalance_ratio"], one.get("backbone"), one["hyperparameters"]["mixup"]) for one in described]
    assert found == [
        (ratio, backbone, mixup)
        for ratio in (10, 20)
        for backbone in ("cifar_resnet8", "cifar_resnet20")
        for mixup in (0.1, 0.2)
    ] + [(10, None, 0.3), (20, None, 0.3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = { mixup = 0.4 }", "grid.mixup is no list"),
        ("grid = { mixup = [] }", "grid.mixup is no list"),
        ("grid = 3", "must be tables"),
        ("imbalance_ratio = []", "imbalance_ratio is an empty list"),
        (f"grid = {{ a = {[0] * 400}, b = {[0] * 400} }}", "more than 100,000 runs"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, message):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    with pytest.raises(LtbenchError, match=message):
        read_runs(path)


def test_an_unknown_suite_is_refused_with_the_nearest():
    with pytest.raises(LtbenchError, match="did you mean smoke"):
        suite_file("smoek")


def test_the_suites_are_in_the_wheel():
    project = read_toml(suite_file("smoke").parents[2] / "pyproject.toml")["tool"]["setuptools"]
    assert project["package-dir"]["ltbench_suites"] == "benchmarks/suites"
    assert project["package-data"]["ltbench_suites"] == ["*.toml"]


@pytest.fixture
def store(make_result, tmp_path):
    """Store results by hand, of settings as they resolve."""

    def save(config, status="done", run_id=None, **more):
        filled = resolve(config).config
        result = make_result(config.method, config.seed, status=status, **more)
        result = result.model_copy(update={"config": filled, "run_id": run_id or result.run_id})
        Store(tmp_path / "runs").save(result)
        return result

    return save


CIFAR = RunConfig(method="ce", dataset="cifar100-lt", imbalance_ratio=100)


def test_settings_say_which_seeds_are_done_missing_and_failed(store):
    configs = [CIFAR.replace(method=method, seed=seed) for method in ("ce", "balpoe") for seed in range(3)]
    stored = [
        store(configs[0]),
        store(configs[1], "failed", reason="the loss is not finite"),
        store(configs[3].replace(hyperparameters={"mixup": 0.0}), run_id="a" * 12),
        store(configs[4].replace(epochs=3), run_id="b" * 12),
    ]
    ce, balpoe = suite_settings(configs, stored)
    assert (ce.config.method, ce.done, ce.missing, ce.failed) == ("ce", (0,), [1, 2], {1: "the loss is not finite"})
    assert (balpoe.done, balpoe.missing, balpoe.failed) == ((), [0, 1, 2], {})
    assert of_suite(configs, {one.run_id: one for one in stored}) == [stored[0].run_id, stored[1].run_id]


def test_a_default_that_is_written_out_is_the_same_setting(store):
    stored = store(CIFAR.replace(method="balpoe"))
    [setting] = suite_settings(
        [CIFAR.replace(method="balpoe", hyperparameters={"mixup": 0.4}, backbone="cifar_resnet32")], [stored]
    )
    assert setting.done == (0,)


def test_runs_with_weights_are_found_without_them(make_result):
    described = RunConfig(method="ce", dataset="folder-lt", train="head", backbone="resnet50", pretrained=True)
    filled = resolve(described, find_weights=False).config
    stored = make_result().model_copy(
        update={"config": filled.replace(pretrained=False, weights="0" * 64, image_size=176)}
    )
    assert suite_settings([described], [stored])[0].done == (0,)
    assert suite_settings([described.replace(train="all")], [stored])[0].done == ()


def test_a_data_seed_counts_where_it_draws_something(make_result):
    for settings, counts in (({}, False), ({"validation": True}, True), ({"imbalance_ratio": 10.0}, True)):
        described = RunConfig(method="ce", dataset="folder-lt", backbone="cifar_resnet20", **settings)
        stored = make_result().model_copy(update={"config": resolve(described).config})
        (setting,) = suite_settings([described.replace(data_seed=3)], [stored])
        assert setting.done == (() if counts else (0,))


def test_a_suite_of_frozen_features_is_found_under_any_network_that_it_leaves_open(make_result):
    described = RunConfig(method="ce", dataset="folder-lt", train="head")
    given = described.replace(backbone="resnet50", pretrained=True)
    filled = resolve(given, find_weights=False).config.replace(pretrained=False, weights="0" * 64, image_size=176)
    stored = make_result().model_copy(update={"config": filled})
    assert suite_settings([described], [stored])[0].done == (0,)
    assert of_suite([described], {stored.run_id: stored}) == [stored.run_id]
    assert suite_settings([given.replace(backbone="resnet18")], [stored])[0].done == ()


def test_an_image_size_that_a_suite_states_is_part_of_its_runs(make_result):
    described = RunConfig(
        method="ce", dataset="folder-lt", train="head", backbone="resnet50", pretrained=True, image_size=128
    )
    filled = resolve(described, find_weights=False).config.replace(pretrained=False, weights="0" * 64)
    stored = make_result().model_copy(update={"config": filled})
    assert suite_settings([described], [stored])[0].done == (0,)
    other = make_result().model_copy(update={"config": filled.replace(image_size=224)})
    assert suite_settings([described], [other])[0].done == ()
    assert of_suite([described], {other.run_id: other}) == []


def test_runs_with_a_recipe_of_their_own_are_found(store):
    described = CIFAR.replace(recipe={"name": "mine", "epochs": 3})
    assert suite_settings([described], [store(described)])[0].done == (0,)


def test_runs_with_a_table_of_labels_are_found_without_it(make_result):
    described = RunConfig(method="ce", dataset="folder-lt", labels="labels.csv", label_columns="path,label")
    filled = resolve(described).config
    stored = make_result().model_copy(update={"config": filled.replace(labels=None, label_columns=None)})
    assert suite_settings([described], [stored])[0].done == (0,)


@pytest.fixture
def options(tmp_path):
    return RunOptions(device="cpu", out=tmp_path / "runs", data_dir=tmp_path / "data")


def test_without_the_data_the_settings_decide_what_is_left(store, options):
    configs = [CIFAR.replace(seed=seed) for seed in range(3)]
    store(configs[0])
    store(configs[1], "failed")
    found = remaining.left(configs, options, remaining.stored_results(configs, options))
    assert found == configs[1:]
    assert not (options.out / "digits-lt").exists()


def test_results_of_a_data_set_with_a_colon_are_found(store, options):
    config = RunConfig(method="ce", dataset="torchvision:FashionMNIST", imbalance_ratio=100)
    store(config)
    assert [one.config.dataset for one in remaining.stored_results([config], options)] == [config.dataset]
    assert remaining.left([config], options, remaining.stored_results([config], options)) == []


def test_with_the_data_a_result_on_other_images_does_not_count(store, options, monkeypatch):
    loads = []
    load = dataset.load
    monkeypatch.setattr(dataset, "load", lambda *words: loads.append(1) or load(*words))
    configs = [RunConfig(method="ce", seed=seed) for seed in range(3)]
    planned = plan_run(resolve(configs[0]), options)
    store(configs[0], run_id=planned.run_id, data=planned.data.fingerprint)
    store(configs[1], data="b" * 16)
    loads.clear()
    found = remaining.left(configs, options, remaining.stored_results(configs, options))
    assert found == configs[1:]
    assert len(loads) == 1, "runs on the same images load them once"


def test_looking_for_what_is_left_writes_nothing(options):
    assert remaining.left([RunConfig()], options, []) == [RunConfig()]
    assert not options.out.exists()


def on(machine, **cost):
    return {"provenance": {"hardware": machine}, "cost": cost}


@pytest.fixture
def here(monkeypatch):
    """A machine of our choice."""
    machine = {"processor": "P", "instruction_sets": ["avx2"], "threads": 2}
    monkeypatch.setattr(remaining, "hardware", lambda device: machine)
    return machine


def timed(result, machine, seconds, uses=None):
    cost = result.cost.model_copy(update={"training_seconds": seconds, "evaluation_images_per_second": 1e6})
    method = result.method.model_copy(update={"uses": uses or {}})
    return result.model_copy(update={"cost": cost, "provenance": {"hardware": machine}, "method": method})


def test_the_time_of_a_run_is_that_of_stored_runs_alike_on_this_machine(store, options, here):
    images = 2  # seconds of evaluation: 2e6 test images of a result that is made by hand, at 1e6 a second
    stored = [
        timed(store(CIFAR.replace(seed=7)), here, 100.0),
        timed(store(CIFAR.replace(seed=8)), here, 300.0),
        timed(store(CIFAR.replace(seed=9)), here, 200.0),
        timed(store(CIFAR.replace(seed=3)), {"processor": "other", "threads": 2}, 9000.0),
        timed(store(CIFAR.replace(seed=4)), {**here, "instruction_sets": ["avx2", "amx_bf16"]}, 30.0),
        timed(store(CIFAR.replace(seed=5)), {"processor": "P", "threads": 2}, 30.0),  # of an older version
        timed(store(CIFAR.replace(seed=6)), {**here, "instruction_sets": 5}, 30.0),
        timed(store(CIFAR.replace(seed=10)), None, 30.0),
        timed(store(CIFAR.replace(backbone="cifar_resnet20")), here, 5.0),
    ]
    configs = [CIFAR, CIFAR.replace(epochs=20), CIFAR.replace(method="balpoe")]
    found = remaining.run_times(configs, options, stored, measure=False)
    assert found[0].seconds == pytest.approx(200 + images)
    assert found[1].seconds == pytest.approx((200 + images) / 10), "a tenth of the epochs"
    assert found[0].source == "stored"
    assert found[2] is None


def test_a_run_that_others_start_from_is_counted_once(store, options, here):
    ce, crt, lws = (CIFAR.replace(method=method) for method in ("ce", "crt", "lws"))
    base = timed(store(ce.replace(seed=5)), here, 1000.0)
    stored = [base, *(timed(store(one.replace(seed=5)), here, 1010.0, {"ce": base.run_id}) for one in (crt, lws))]
    times = lambda *configs: [  # noqa: E731
        round(one.seconds) for one in remaining.run_times(configs, options, stored, measure=False)
    ]
    assert times(ce, crt, lws) == [1002, 12, 12]
    assert times(crt, lws) == [1014, 12], "nobody else trains it"
    done = timed(store(ce), here, 1000.0)
    stored.append(done)
    assert times(crt, lws) == [12, 12]


@pytest.mark.slow
def test_the_time_of_a_run_like_which_none_is_stored_is_estimated(options):
    config = RunConfig(method="ce", backbone="cifar_resnet8", epochs=2)
    first, second, other = remaining.run_times(
        [config, config.replace(seed=1), config.replace(method="crt")], options, []
    )
    assert (first.source, first) == ("estimate", second)
    assert 0 < first.seconds < 60
    assert other.source == "estimate"


def test_what_cannot_be_estimated_says_why(options, monkeypatch):
    def fails(*words, **more):
        raise LtbenchError("does not fit")

    monkeypatch.setattr(remaining, "estimate", fails)
    [found] = remaining.run_times([RunConfig()], options, [])
    assert str(found) == "does not fit"
    [found] = remaining.run_times([RunConfig(method="crt")], options, [])
    assert str(found) == "does not fit", "of the run that it starts from"


def test_every_method_that_starts_from_another_is_in_a_suite_with_it():
    """So that a suite trains what its methods start from once, and says so."""
    for name in suite_names():
        first = {config.method: config for config in reversed(runs_of(name))}
        for method, config in first.items():
            resolved = resolve(config, find_weights=False).config
            used = {base.method for base in registry.method(method).uses(resolved).values()}
            assert used <= first.keys(), (name, method)

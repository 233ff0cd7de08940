"""Lists of runs: from text, from files, and what beats what."""

import pytest

from ltbench import registry
from ltbench.config import RunConfig
from ltbench.data import dataset
from ltbench.errors import LtbenchError
from ltbench.results.store import Store
from ltbench.runs import run_list, sweep
from ltbench.runs.options import RunOptions

pytestmark = pytest.mark.usefixtures("small_network")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,2,5", [0, 2, 5]),
        ("0-2, 7", [0, 1, 2, 7]),
        ("2-2", [2]),
        ("5,0", [5, 0]),
        ("1,0-2", [1, 0, 2]),  # each once
    ],
)
def test_seeds(text, seeds):
    assert run_list.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["3-1", "", "a", "-1", "1-", "0,,1", "1.5", "0-1-2"])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(LtbenchError, match="is no list of seeds") as caught:
        run_list.parse_seeds(text)
    assert f"'{text}'" in str(caught.value)
    assert "where: --seeds" in str(caught.value)


def test_methods():
    assert run_list.parse_methods("ce") == ["ce"]
    assert run_list.parse_methods("balpoe, ce,balpoe") == ["balpoe", "ce"]
    assert run_list.parse_methods("all") == registry.method_names()


def test_every_method_with_every_seed():
    configs = run_list.expand([{}], {"method": "ce,balpoe", "seeds": "0-1", "epochs": 3})
    assert [(one.method, one.seed, one.epochs) for one in configs] == [
        ("ce", 0, 3), ("ce", 1, 3), ("balpoe", 0, 3), ("balpoe", 1, 3),
    ]  # fmt: skip


def test_nothing_said_is_the_default_run():
    assert run_list.expand([{}], {}) == [RunConfig()]


@pytest.fixture
def runs_file(tmp_path):
    """Write a TOML file of runs and return it."""

    def write(text):
        path = tmp_path / "runs.toml"
        path.write_text(text)
        return path

    return write


def expanded(path, **flags):
    described, _ = run_list.read_runs(path)
    return run_list.expand(described, flags, where=path)


def test_runs_share_what_stands_above_them(runs_file):
    path = runs_file(
        "epochs = 5\nlr = 0.2\n[[runs]]\nmethod = 'ce'\n[[runs]]\nmethod = 'balpoe'\nlr = 0.3\nseeds = '1-2'"
    )
    assert [(one.method, one.seed, one.epochs, one.lr) for one in expanded(path)] == [
        ("ce", 0, 5, 0.2), ("balpoe", 1, 5, 0.3), ("balpoe", 2, 5, 0.3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "method = 'ce,balpoe'\nseeds = '4-5'",
        "method = ['ce', 'balpoe']\nseeds = [4, 5]",
        "[[runs]]\nmethod = 'ce'\nseeds = '4,5'\n[[runs]]\nmethod = 'balpoe'\nseeds = ['4', '5']",
    ],
)
def test_a_file_may_give_lists_as_text_or_as_lists(runs_file, text):
    configs = expanded(runs_file(text))
    assert [(one.method, one.seed) for one in configs] == [("ce", 4), ("ce", 5), ("balpoe", 4), ("balpoe", 5)]


def test_a_flag_beats_the_file(runs_file):
    path = runs_file("method = 'ce'\nseed = 4\nlr = 0.2\n[hyperparameters]\nmixup = 0.2\nother = 1")
    (config,) = expanded(path, lr=0.5, seeds="7", hyperparameters={"mixup": 0.9})
    assert (config.method, config.seed, config.lr) == ("ce", 7, 0.5)
    assert config.hyperparameters == {"mixup": 0.9, "other": 1}


def test_a_recipe_may_stand_in_the_file(runs_file):
    (config,) = expanded(runs_file("[recipe]\nname = 'mine'\nmomentum = 0.5"))
    assert (config.recipe.name, config.recipe.momentum) == ("mine", 0.5)


def test_the_tuning_that_chose_the_settings_is_read(runs_file):
    described, tuning = run_list.read_runs(runs_file("method = 'ce'\n[tuning]\ntrials = 20"))
    assert (described, tuning) == ([{"method": "ce", "hyperparameters": {}}], {"trials": 20})
    assert run_list.read_runs(runs_file("method = 'ce'"))[1] is None


def test_hyperparameters_of_a_run_join_the_shared_ones(runs_file):
    path = runs_file(
        "[hyperparameters]\nmixup = 0.1\nwidth = 0.75\n[[runs]]\n[[runs]]\nhyperparameters = { mixup = 0.2 }"
    )
    assert [one.hyperparameters for one in expanded(path)] == [
        {"mixup": 0.1, "width": 0.75},
        {"mixup": 0.2, "width": 0.75},
    ]


def test_repeating_a_tuned_result_keeps_its_tuning(tmp_path, make_result):
    path = Store(tmp_path).save(make_result(tuning={"trials": 7}))
    assert run_list.read_runs(path)[1] == {"trials": 7}


def test_a_result_is_repeated_as_it_was(tmp_path, make_result):
    result = make_result("balpoe", 3, settings={"hyperparameters": {"taus": [0, 2], "mixup": 0.1, "width": 1}})
    path = Store(tmp_path).save(result)
    assert expanded(path) == [result.config]
    assert [one.seed for one in expanded(path, seeds="8-9")] == [8, 9]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("method = ", "not a valid TOML file"),
        ("methd = 'ce'", "unknown setting 'methd'"),
        ("[[runs]]\nepoch = 3", "unknown setting 'epoch'"),
        ("runs = 3", "'runs' must be a list"),
        ("runs = [3]", "'runs' must be a list"),
        ("hyperparameters = 3", "must be tables"),
        ("[[runs]]\nhyperparameters = 'mixup'", "must be tables"),
        ("tuning = true", "must be tables"),
        ("[recipe]\nlrr = 3", "unknown setting 'lrr'"),
        ("epochs = 0", "epochs: Input should be greater than or equal to 1 (got 0)"),
        ("epochs = 'many'", "epochs: Input should be a valid integer"),
    ],
)
def test_a_file_that_describes_no_runs_is_named(runs_file, text, reason):
    path = runs_file(text)
    with pytest.raises(LtbenchError) as caught:
        expanded(path)
    assert reason in str(caught.value)
    assert f"where: {path}" in str(caught.value)


@pytest.mark.parametrize("text", ["seeds = true", "seeds = [1, -2]", "seed = 1.5"])
def test_a_file_with_odd_seeds_is_refused(runs_file, text):
    with pytest.raises(LtbenchError, match="is no list of seeds"):
        expanded(runs_file(text))


def test_runs_come_in_order_and_are_told_whether_they_were_stored(tmp_path):
    options = RunOptions(out=tmp_path, device="cpu")
    one, other = (RunConfig(method="ce", backbone="cifar_resnet8", epochs=1, seed=seed) for seed in (0, 1))
    told = []
    sweep.run_all([one], options, lambda result, recalled: told.append((result.config.seed, recalled)))
    results = sweep.run_all([one, other], options, lambda result, recalled: told.append((result.config.seed, recalled)))
    assert told == [(0, False), (0, True), (1, False)]
    assert [result.status for result in results] == ["done", "done"]


def test_runs_that_follow_one_another_read_equal_images_once(tmp_path, monkeypatch):
    loads, load = [], dataset.load

    def count(source, config, *rest):
        loads.append((config.data_seed, config.validation))
        return load(source, config, *rest)

    monkeypatch.setattr(dataset, "load", count)
    ce = RunConfig(method="ce", epochs=1, batch_size=512)
    configs = [ce, ce.replace(seed=1), ce.replace(method="tau_norm"), ce.replace(data_seed=1), ce]
    options = RunOptions(device="cpu", out=tmp_path)
    found = sweep.run_all(configs, options, lambda result, recalled: None)
    assert loads == [(0, False), (1, False), (0, False)]  # one data set at a time
    assert [one.status for one in found] == ["done"] * 5
    first, drawn_otherwise = (found[k].data.fingerprints for k in (0, 3))
    assert [one.data.fingerprints for one in found] == [first, first, first, drawn_otherwise, first]
    assert first != drawn_otherwise


def test_text_will_do_for_the_folders_of_options(tmp_path):
    options = RunOptions(out=str(tmp_path / "out"), data_dir=str(tmp_path))
    assert (options.out, options.data_dir) == (tmp_path / "out", tmp_path)


@pytest.mark.parametrize(("own", "seeds"), [("seed = 7", [7]), ("seeds = [3, 4]", [3, 4]), ("", [0, 1])])
def test_seeds_of_a_run_beat_the_shared_ones_by_whichever_name(tmp_path, own, seeds):
    (tmp_path / "runs.toml").write_text(f'seeds = "0-1"\n[[runs]]\nmethod = "ce"\n{own}\n')
    described, _ = run_list.read_runs(tmp_path / "runs.toml")
    assert [config.seed for config in run_list.expand(described, {})] == seeds


def test_one_run_has_one_kind_of_seeds(tmp_path):
    (tmp_path / "runs.toml").write_text('[[runs]]\nmethod = "ce"\nseed = 7\nseeds = "0-4"\n')
    with pytest.raises(LtbenchError, match="seed and seeds exclude each other"):
        run_list.read_runs(tmp_path / "runs.toml")

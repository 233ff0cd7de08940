"""What a search optimises and what draws its trials: samplers, objectives and their front, spaces from a file."""

import json
import re
import tomllib
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from ltbench.errors import LtbenchError
from ltbench.method import Choice, Range
from ltbench.results.store import read
from ltbench.runs import search_settings, tune
from ltbench.runs.conclusion import best_trials, conclude, rounded
from ltbench.runs.options import RunOptions
from ltbench.runs.resolve import check_search, search_space
from ltbench.runs.run_list import read_runs
from ltbench.runs.search_settings import SearchSettings, metrics
from ltbench.runs.shared_search import tune_shared
from ltbench.runs.space_file import read_space
from tests.runs.searches import BASE, study_in, trials_in
from tests.test_docs import PAGES, section, walk

pytestmark = pytest.mark.usefixtures("small_network")
TWO = {"mixup": Range(0.0, 1.0), "tau": Range(0.5, 2.0)}
LA = BASE.replace(method="logit_adjustment")


@pytest.fixture
def figures(monkeypatch, make_result):
    """Trials that take no time, whose accuracy and ECE both grow with mixup, up to 0.6, then only the ECE."""

    def result(config, options):
        chosen = config.hyperparameters
        mixup = chosen["mixup"]
        macro, few = 60 + 10 * min(mixup, 0.6) - abs(chosen.get("tau", 1.0) - 1.2), 50 - mixup
        made = make_result(settings={"hyperparameters": chosen}, macro=macro, ece=2 + 3 * mixup, few=few, many=90.0)
        return made.model_copy(update={"metrics": {"validation": made.test}})

    monkeypatch.setattr(tune, "run", result)
    monkeypatch.setattr("ltbench.runs.shared_search.run", result)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_each_sampler_draws_the_same_search_again_and_one_of_its_own(search, tmp_path, figures, sampler):
    settings = SearchSettings(sampler=sampler)
    found = search(12, LA, name="whole", settings=settings)
    for trials in (5, 12):
        parts = search(trials, LA, name="parts", settings=settings)
    whole = [trial.params for trial in trials_in(tmp_path / "whole")]
    assert whole == [trial.params for trial in trials_in(tmp_path / "parts")]
    assert found.best_file.read_bytes() == parts.best_file.read_bytes()
    assert all(0 <= params["mixup"] <= 1 and 0.5 <= params["tau"] <= 2 for params in whole)
    assert len({params["tau"] for params in whole}) == 12
    other = SearchSettings(sampler={"tpe": "random"}.get(sampler, "tpe"))
    search(12, LA, name="other", settings=other)
    assert whole != [trial.params for trial in trials_in(tmp_path / "other")]
    assert tomllib.loads(found.best_file.read_text())["tuning"]["sampler"] == sampler


@pytest.mark.slow
def test_cma_es_learns_from_its_trials(search, tmp_path, figures):
    """The first generation is drawn around the middle of the space; the best of 80 trials is nearly the best of all."""
    found = search(80, LA, settings=SearchSettings(sampler="cmaes"))
    trials = trials_in(tmp_path / "search")
    late = [trial.value for trial in trials[60:]]
    assert sum(late) / 20 > sum(trial.value for trial in trials[:20]) / 20 + 0.2
    assert 65.9 < found.accuracy <= 66
    assert any("cma" in name for trial in trials for name in trial.system_attrs)


@pytest.mark.slow
def test_workers_on_a_storage_share_the_state_of_cma_es(tmp_path, figures):
    settings, url = SearchSettings(sampler="cmaes"), f"sqlite:///{tmp_path}/search.db"
    found = tune_shared(LA, 8, tmp_path / "search", url, RunOptions(device="cpu"), settings=settings)
    assert found.trials == 8


@pytest.mark.parametrize(
    ("settings", "space", "message"),
    [
        ({"sampler": "cmaes"}, {"mixup": Range(0, 1), "loss": Choice((1, 2))}, "loss is chosen from a list"),
        ({"sampler": "cmaes"}, {"mixup": Range(0, 1)}, "how numbers vary together, and mixup alone is searched"),
        ({"sampler": "cmaes", "objectives": ("macro", "ece")}, TWO, "CMA-ES has one objective"),
        ({"objectives": ("macro", "eec")}, TWO, "unknown metric 'eec'"),
        ({"objectives": ("macro", "eec")}, TWO, "did you mean ece?"),
        ({"objectives": ("ece", "ece")}, TWO, "a metric is named twice"),
        ({"objectives": ()}, TWO, "no metric is named"),
        ({"objectives": ("macro", "ece"), "pruner": "median"}, TWO, "may be ahead in another"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(settings, space, message):
    with pytest.raises(LtbenchError) as error:
        SearchSettings(**settings).check(space)
    assert message in str(error.value)


def test_cma_es_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(search_settings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LtbenchError, match=r"python -m pip install 'ltbench\[cmaes\]'"):
        SearchSettings(sampler="cmaes").check(TWO)
    SearchSettings().check(TWO)


def test_metrics_that_may_be_optimised_are_figures_of_images():
    assert set(metrics()) == {
        "top1", "macro", "many", "medium", "few", "worst_class", "nll", "brier",
        "ece", "mce", "overconfidence", "adaptive_ece", "classwise_ece",
    }  # fmt: skip
    assert SearchSettings(("macro", "ece", "nll", "few")).directions == ["maximize", "minimize", "minimize", "maximize"]


def test_the_front_has_what_nothing_beats():
    """Worked out by hand: (macro up, ece down); 3 is beaten by 0, 4 by 2; 5 equals 1, 6 failed, 7 was pruned."""
    points = [(90, 5), (91, 6), (80, 1), (89, 5), (79, 1), (91, 6)]
    trials = [create_trial(values=point) for point in points]
    trials += [create_trial(state=TrialState.FAIL), create_trial(state=TrialState.PRUNED)]
    best = best_trials(trials, SearchSettings(("macro", "ece")))
    assert [trials.index(one) for one in best] == [1, 5, 0, 2]
    low = [create_trial(value=value) for value in (5.0, 3.0, 4.0)]
    assert best_trials(low, SearchSettings(("ece",))) == [low[1]]
    assert best_trials(low, SearchSettings()) == [low[0]]


@pytest.mark.filterwarnings("error::optuna.exceptions.ExperimentalWarning")
def test_several_objectives_give_a_front_that_is_stored_trial_by_trial(search, tmp_path, figures):
    settings = SearchSettings(objectives=("macro", "ece"))
    search(4, settings=settings)
    found = search(15, settings=settings)
    trials = trials_in(tmp_path / "search")
    below = [trial for trial in trials if trial.params["mixup"] <= 0.6]  # each is on the front: less ECE, less accuracy
    above = min((trial for trial in trials if trial.params["mixup"] > 0.6), key=lambda trial: trial.params["mixup"])
    expected = {trial.number for trial in [*below, above]}
    assert {trial.number for trial in found.front.values()} == expected
    assert len(expected) < 15
    assert study_in(tmp_path / "search").metric_names == ["macro", "ece"]
    assert next(iter(found.front.values())).number == above.number, "the best in the first objective"
    tuning = tomllib.loads(found.best_file.read_text())["tuning"]
    assert (tuning["objectives"], set(tuning["front"])) == (["macro", "ece"], expected)
    assert tuning["objective"] == "macro accuracy and ECE on the validation part of train"
    assert tuning["best_trial"] == above.number
    assert tuning["history"][3] == {
        "number": 3,
        "params": {"mixup": round(trials[3].params["mixup"], 4)},
        "macro": trials[3].values[0],
        "ece": trials[3].values[1],
    }
    files = {int(path.stem) - 1: path for path in (tmp_path / "search" / "front").glob("*.toml")}
    assert set(files) == expected == {int(path.stem) - 1 for path in found.front}
    for number, path in files.items():
        [config], chosen = read_runs(path)
        assert config["hyperparameters"] == trials[number].user_attrs["hyperparameters"]
        assert (chosen["best_trial"], chosen["best_ece"]) == (number, trials[number].values[1])


def test_another_metric_may_be_the_objective(search, tmp_path, figures):
    found = search(6, settings=SearchSettings(objectives=("few",)))
    mixups = [trial.params["mixup"] for trial in trials_in(tmp_path / "search")]
    assert found.best.hyperparameters["mixup"] == round(min(mixups), 4)
    tuning = tomllib.loads(found.best_file.read_text())["tuning"]
    assert tuning["best_few"] == found.values[0]
    assert tuning["best_macro_accuracy"] == pytest.approx(60 + 10 * min(mixups) - 0.2, abs=1e-3)


def test_an_objective_that_the_data_do_not_have_fails_the_trial(search, monkeypatch, figures):
    works = tune.run

    def without(config, options):
        made = works(config, options)
        metrics = {"validation": made.metrics["validation"].model_copy(update={"few": None})}
        return made.model_copy(update={"metrics": metrics})

    monkeypatch.setattr(tune, "run", without)
    with pytest.raises(LtbenchError, match="all 2 trials failed, the last: there is no few without such classes"):
        search(2, settings=SearchSettings(objectives=("few",)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "random"}, "other sampler (tpe there, random here)"),
        ({"pruner": "median"}, "other pruner (none there, median here)"),
        ({"objectives": ("macro", "ece")}, "other objectives (macro there, macro,ece here)"),
    ],
)
def test_a_search_does_not_go_on_in_another_way(search, figures, change, words):
    search(2)
    with pytest.raises(LtbenchError) as error:
        search(3, settings=SearchSettings(**change))
    assert words in str(error.value)
    search(2, name="unusual", settings=SearchSettings(**change))
    with pytest.raises(LtbenchError, match="holds a search with other"):
        search(3, name="unusual")


def space_of(tmp_path, text, *methods):
    (tmp_path / "space.toml").write_text(text)
    return read_space(tmp_path / "space.toml", list(methods or ["logit_adjustment"]))


def test_a_file_takes_the_place_of_the_ranges_of_a_method(tmp_path, search, figures):
    text = """
    [mixup]
    low = 0.2
    high = 0.4
    step = 0.1
    [tau]
    choices = [0.5, 1.0]
    [method.balpoe.spread]
    low = 1e-5
    high = 1e-3
    log = true
    [method.balpoe.experts]
    low = 1
    high = 3
    step = 1
    """
    spaces = space_of(tmp_path, text, "logit_adjustment", "balpoe")
    own = {"mixup": Range(0.2, 0.4, step=0.1), "tau": Choice((0.5, 1.0))}
    assert spaces["logit_adjustment"] == own
    assert spaces["balpoe"] == {
        "mixup": own["mixup"],
        "spread": Range(1e-5, 1e-3, log=True),
        "experts": Range(1, 3, step=1),
    }
    found = search(12, LA, space=search_space(LA, space=spaces["logit_adjustment"]))
    params = [trial.params for trial in trials_in(tmp_path / "search")]
    assert {round(one["mixup"], 9) for one in params} == {0.2, 0.3, 0.4}
    assert {one["tau"] for one in params} == {0.5, 1.0}
    tuning = tomllib.loads(found.best_file.read_text())["tuning"]
    assert tuning["space"] == {
        "tau": {"options": [0.5, 1.0]},
        "mixup": {"low": 0.2, "high": 0.4, "log": False, "step": 0.1},
    }
    with pytest.raises(LtbenchError, match=r"other search space \(mixup.high: 0.4 there, 1 here"):
        search(13, LA)


def test_small_numbers_keep_their_digits_and_whole_ones_are_whole(tmp_path, search, monkeypatch, figures):
    space = {"sam": Range(1e-5, 1e-4, log=True), "sam_tail": Range(5, 50, step=5), "mixup": Range(0.0, 1.0)}
    base = BASE.replace(hyperparameters={"sam_variant": "imbsam"})
    search(6, base, space=search_space(base, space=space))
    for trial in trials_in(tmp_path / "search"):
        chosen = trial.user_attrs["hyperparameters"]
        assert chosen["sam"] == pytest.approx(trial.params["sam"], rel=1e-3)
        assert type(chosen["sam_tail"]) is int
        assert chosen["sam_tail"] % 5 == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no option in it"),
        ("[mixup]\nlow = 0.1\nhgih = 0.3", "unknown key 'hgih'"),
        ("[mixup]\nlow = 0.1\nhgih = 0.3", "did you mean high?"),
        ("[mixup]\nlow = 0.3\nhigh = 0.1", "low = 0.3 is not below high = 0.1"),
        ("[mixup]\nlow = 0.0\nhigh = 0.1\nlog = true", "a logarithmic range takes low > 0"),
        ("[mixup]\nlow = 0.1\nhigh = 0.2\nlog = true\nstep = 0.1", "log and step exclude each other"),
        ("[mixup]\nlow = 0.1\nhigh = 0.2\nstep = 0.5", "step = 0.5 does not lie between 0 and high - low"),
        ("[mixup]\nlow = 0.1", "a range takes low and high"),
        ("[mixup]\nchoices = [1]", "there is nothing to choose"),
        ("[mixup]\nchoices = [1, 1]", "a choice is there twice"),
        ("[mixup]\nchoices = [0, 1]\nlow = 1", "choices and a range exclude each other"),
        ("mixup = 0.3", "no table of a hyper-parameter"),
        ("[mixup]\nlow = nan\nhigh = 1.0", "low: Input should be a finite number"),
        ("[mixup]\nlow = 0.0\nhigh = inf", "high: Input should be a finite number"),
        ("[method.ce.mixup]\nchoices = [0, 1]", "there are options for ce, which is not searched"),
        ("method = 3", "'method' must be a table"),
        ("[mixup", "not a valid TOML file"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(LtbenchError) as error:
        space_of(tmp_path, text)
    assert message in str(error.value)
    assert "space.toml" in str(error.value)


def test_a_table_holds_for_the_methods_that_have_the_hyperparameter(tmp_path):
    text = "[tau]\nlow = 1.0\nhigh = 2.0\n[mixup]\nchoices = [0.0, 0.5]"
    spaces = space_of(tmp_path, text, "ce", "logit_adjustment")
    assert {name: set(space) for name, space in spaces.items()} == {
        "ce": {"mixup"},
        "logit_adjustment": {"mixup", "tau"},
    }
    with pytest.raises(LtbenchError, match="unknown hyper-parameter of ce, focal 'tau'"):
        space_of(tmp_path, text, "ce", "focal")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"mixpu": Range(0.0, 1.0)}, "unknown hyper-parameter of ce 'mixpu'"),
        ({"mixpu": Range(0.0, 1.0)}, "did you mean mixup?"),
        ({"mixup": Range(-1.0, 1.0)}, "mixup"),
        ({"cmo": Range(0.1, 1.5)}, "cmo"),
        ({"cutmix": Choice((0.5, "much"))}, "cutmix"),
        ({"remix": Range(1.0, 3.0)}, "remix is both fixed and searched"),
    ],
)
def test_a_space_that_does_not_suit_the_method_is_refused(space, message):
    base = BASE.replace(hyperparameters={"remix": 2.0})
    with pytest.raises(LtbenchError) as error:
        check_search(base, search_space(base, (), space))
    assert message in str(error.value)


def test_the_command_searches_as_it_is_told(cli, tmp_path, figures):
    (tmp_path / "space.toml").write_text("[mixup]\nlow = 0.1\nhigh = 0.5\n")
    words = ("tune", "--method", "logit_adjustment", "--trials", 4, "--device", "cpu")
    done = cli(*words, "--space", "space.toml", "--sampler", "cmaes", "--out", "one")
    assert done.code == 0, done.err
    tuning = tomllib.loads((tmp_path / "one" / "best.toml").read_text())["tuning"]
    assert (tuning["sampler"], tuning["space"]["mixup"]["high"]) == ("cmaes", 0.5)
    done = cli(*words, "--objectives", "macro, ece", "--out", "two")
    assert done.code == 0, done.err
    assert re.search(r"Pareto front: \d of 4 trials \(0 failed\), best macro first:", done.out)
    front = [line for line in done.out.splitlines() if line.startswith("  two/front/")]
    files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "two" / "front").glob("*.toml")}
    assert {line.strip().partition(": ")[0] for line in front} == files
    assert files <= {f"two/front/{number}.toml" for number in range(1, 5)}
    assert "ECE " in front[0]
    for more, message in (
        (("--objectives", "macro,eec"), "did you mean ece"),
        (("--space", "nowhere.toml"), "nowhere.toml"),
        (("--sampler", "cmaes", "--set", "tau=1"), "mixup alone is searched"),
        (("--objectives", "macro,ece", "--pruner", "median"), "none can end early"),
    ):
        done = cli(*words, *more, "--out", "three")
        assert done.code == 2
        assert message in done.err
    assert not (tmp_path / "three").exists()


def test_optuna_dashboard_opens_the_search_of_a_folder(search, tmp_path, figures):
    """Its own server, asked as a browser asks it."""
    search(3)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "search" / "study.journal")))
    server = optuna_dashboard.wsgi(storage)

    def get(path):
        request = {"PATH_INFO": path}
        setup_testing_defaults(request)
        answers = []
        body = b"".join(server(request, lambda status, headers, fault=None: answers.append(status)))
        assert answers == ["200 OK"]
        return json.loads(body)

    [summary] = get("/api/studies")["study_summaries"]
    assert summary["study_name"] == "ltbench"
    trials = get(f"/api/studies/{summary['study_id']}")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete"] * 3
    assert [trial["values"] for trial in trials] == [one.values for one in trials_in(tmp_path / "search")]


def test_the_file_of_the_guide_is_a_space(tmp_path):
    [text] = re.findall(r"^```text\n# space.toml\n(.*?)^```", PAGES["docs/tune.md"], re.MULTILINE | re.DOTALL)
    spaces = space_of(tmp_path, text, "logit_adjustment", "balpoe")
    own = spaces["logit_adjustment"]
    assert set(own) == {"mixup", "tau", "cutmix"}
    check_search(LA, search_space(LA, (), own))
    assert spaces["balpoe"]["spread"] == Range(0.0, 1.0)


@pytest.mark.slow
def test_a_user_can_follow_the_guide_to_a_front_and_its_figures(cli, tmp_path):
    text = PAGES["docs/tune.md"]
    walk(cli, section("Several objectives", text) + section("A look at a search", text))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"tuning", "tuning-slice", "pareto-front"}
    [result] = map(read, (tmp_path / "runs").rglob("*.json"))
    assert (result.tuning["objectives"], result.tuning["trials"]) == (["macro", "ece"], 2)
    shown = cli("show", result.run_id).out
    assert "tuned by" in shown
    assert "2 trials, sampler tpe, for macro accuracy and ECE on the validation part of train, trial " in " ".join(
        shown.split()
    )


@pytest.mark.parametrize(
    ("low", "high", "value", "used"),
    [
        (0.0, 1.0, 0.123456, 0.1235),
        (0.0, 0.00004, 0.0000123456, 0.00001235),
        (0.01, 0.01004, 0.0100123456, 0.01001235),
        (1e-5, 1e-2, 0.000123456, 0.0001235),
        (2.0, 2.0, 2.0, 2.0),
    ],
)
def test_values_are_rounded_by_their_range(low, high, value, used):
    assert rounded(value, FloatDistribution(low, high)) == pytest.approx(used, rel=1e-9)


@pytest.mark.slow
def test_a_range_of_a_whole_number_needs_a_step(cli, tmp_path):
    """Its ends are whole, and what a search draws between them is not."""
    words = ("tune", "--method", "ride", "--trials", 1, "--space", "space.toml")
    (tmp_path / "space.toml").write_text("[experts]\nlow = 2\nhigh = 4\n")
    done = cli(*words)
    assert done.code == 2
    assert "a search of experts from 2 to 4 draws 2.764, too: " in done.err
    assert "step = 1" in done.err
    assert not (tmp_path / "tune").exists()


def test_what_a_search_found_is_written_by_a_worker_whose_folder_is_new(search, tmp_path, figures):
    search(3)
    study, folder = study_in(tmp_path / "search"), tmp_path / "far" / "away"
    found = conclude(study, BASE, search_space(BASE), SearchSettings(), folder)
    assert found.best_file == folder / "best.toml"
    assert found.best_file.is_file()

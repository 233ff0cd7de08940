"""Stored runs evaluated again, from Python: tables by hand, the published code's numbers, and what is refused."""

import numpy as np
import pytest
import torch

from ltbench import registry
from ltbench.cli.evaluate import _fill_in
from ltbench.data.label_shift import DISTRIBUTIONS, shifted
from ltbench.data.long_tail import ShotRule
from ltbench.errors import LtbenchError
from ltbench.evaluation import reevaluate
from ltbench.evaluation.label_shift import under_shift
from ltbench.evaluation.predict import Predictions
from ltbench.evaluation.reevaluate import EvaluationSettings, evaluate, filled_in, load, look
from ltbench.method.paper import paper_of
from ltbench.metrics.calibration import calibration, fit_temperature
from ltbench.metrics.prior_correction import estimated
from ltbench.metrics.temperature import TargetPrior, TrainingPrior, fit_for_prior
from ltbench.results.predictions import PackedPredictions
from ltbench.results.store import read, write

COUNTS = [200, 50, 5]
BY_NAME = {distribution.name: distribution for distribution in DISTRIBUTIONS}


def noisy(images=300, seed=0, certainty=2.0):
    """Logits that favour the true class, of as many images a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(images // 3)
    noise = torch.randn(len(labels), 3, generator=generator)
    return noise + certainty * torch.nn.functional.one_hot(labels, 3), labels


def test_as_it_stands_a_view_gives_the_stored_figures(stored_run):
    run = stored_run(*noisy(), COUNTS)
    found = evaluate(run.path, run.result)
    assert found.metrics == run.result.test
    assert (found.images, found.classes, found.temperature, found.prior_error) == (300, 3, None, None)


def test_the_published_codes_calibration_comes_out_of_the_stored_logits(stored_run, golden_losses):
    case = golden_losses("calibration")
    logits, labels = torch.from_numpy(case["logits"]).float(), torch.from_numpy(case["targets"])
    run = stored_run(logits, labels, [10] * logits.shape[1])
    metrics = evaluate(run.path, run.result, EvaluationSettings(bins=int(case["bins"]))).metrics
    for name in ("ece", "mce", "overconfidence"):
        assert getattr(metrics, name) == pytest.approx(100 * float(case[name]), rel=1e-4)


def test_other_bins_by_hand(stored_run):
    # Confidences .6 right, .7 wrong, .9 right, .8 right. One bin: accuracy 3/4, confidence .75: no error.
    # Two bins: all lie in (.5, 1], the same. Four: (.5, .75]: 1/2 against .65; (.75, 1]: 1 against .85.
    first = torch.tensor([0.6, 0.7, 0.9, 0.8])
    logits = torch.stack([first, 1 - first], 1).log()
    run = stored_run(logits, torch.tensor([0, 1, 0, 0]), [30, 3])
    errors = {bins: evaluate(run.path, run.result, EvaluationSettings(bins=bins)).metrics for bins in (1, 2, 4)}
    assert [errors[bins].ece for bins in (1, 2, 4)] == pytest.approx([0, 0, 15], abs=1e-4)
    assert errors[4].mce == pytest.approx(15, abs=1e-4)
    assert errors[4].bins.count == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        # Accuracies by class: 1, 1/2, 0; training images 200, 50, 5.
        (None, (100, 50, 0)),
        (ShotRule(40, 40), (75, None, 0)),  # 200 and 50 are more than 40
        (ShotRule(50, 6), (100, 50, 0)),  # 50 is not more than 50
        (ShotRule(300, 201), (None, None, 50)),
    ],
)
def test_other_shot_rules_by_hand(stored_run, rule, groups):
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    logits = 3.0 * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 0, 0, 1]), 3)
    run = stored_run(logits, labels, COUNTS)
    metrics = evaluate(run.path, run.result, EvaluationSettings(shots=rule)).metrics
    assert (metrics.many, metrics.medium, metrics.few) == groups


def test_a_temperature_is_that_of_the_validation_images(stored_run):
    generator = torch.Generator().manual_seed(3)
    scores = 3 * torch.randn(3000, 3, generator=generator)
    drawn = torch.multinomial((scores / 2).softmax(1), 1, generator=generator).squeeze(1)  # made with temperature 2
    logits, labels = noisy(certainty=6.0)  # test images that would rather have another
    run = stored_run(logits, labels, COUNTS, validation=(scores, drawn))
    found = evaluate(run.path, run.result, EvaluationSettings(temperature=True))
    assert found.temperature == pytest.approx(fit_temperature(scores, drawn), rel=1e-2) == pytest.approx(2, rel=0.05)
    assert found.fitted_for.prior == "balanced"
    assert abs(fit_temperature(logits, labels) - 2) > 0.5
    for name, value in calibration(logits / found.temperature, labels).items():
        assert getattr(found.metrics, name) == pytest.approx(value, rel=1e-9)
    assert found.metrics.top1 == run.result.test.top1


@pytest.mark.slow
def test_a_temperature_does_not_know_the_frequencies_of_a_shifted_test_set(stored_run):
    # Class 0 is overconfident and the others are not, so that each set of frequencies asks for another temperature.
    generator = torch.Generator().manual_seed(4)
    scores = 2 * torch.randn(1800, 3, generator=generator)
    drawn = torch.multinomial((scores / torch.tensor([4.0, 1.0, 1.0])).softmax(1), 1, generator=generator).squeeze(1)
    run = stored_run(*noisy(certainty=6.0), COUNTS, logit_prior=1.0, validation=(scores, drawn))

    def found(**view):
        return evaluate(run.path, run.result, EvaluationSettings(temperature=True, **view))

    whole, unknown = found(), found(distribution=BY_NAME["forward-50"])
    known = found(distribution=BY_NAME["forward-50"], prior="known")
    assert (unknown.temperature, unknown.fitted_for) == (whole.temperature, whole.fitted_for)
    assert (unknown.fitted_for.prior, known.fitted_for.prior) == ("balanced", "forward-50")
    assert unknown.images < whole.images
    assert abs(known.temperature - whole.temperature) > 0.05


def bayes(frequencies, images, exponent, seed):
    """Twice the logits whose softmax is the posterior where class c has the density N(2 e_c, 1), and labels.

    Of the frequencies that classes are trained with, ``exponent`` is left in the logits.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(COUNTS).double()
    labels = torch.multinomial(torch.tensor(frequencies).double(), images, replacement=True, generator=generator)
    x = torch.randn(images, 3, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 3)
    return (2 * (2 * x + exponent * (counts / counts.sum()).log())).float(), labels


@pytest.mark.parametrize("prior", ["unknown", "known", "estimated"])
@pytest.mark.parametrize("exponent", [1.0, 0.0])
def test_a_temperature_is_for_the_frequencies_that_are_known(stored_run, prior, exponent):
    validation, test = bayes(COUNTS, 2000, exponent, 6), bayes([1, 1, 1], 300, exponent, 7)
    run = stored_run(*test, COUNTS, logit_prior=exponent, validation=validation)
    view = EvaluationSettings(temperature=True, distribution=BY_NAME["backward-2"], prior=prior)
    found = evaluate(run.path, run.result, view)
    labels = test[1].numpy()
    index = shifted(labels, np.array(COUNTS), BY_NAME["backward-2"])
    drawn = np.bincount(labels[index], minlength=3)
    train = torch.tensor(COUNTS).double()
    name, target = {
        "unknown": ("test", torch.from_numpy(np.bincount(labels, minlength=3))),
        "known": ("backward-2", torch.from_numpy(drawn)),
        "estimated": ("backward-2, estimated", estimated(test[0][index], exponent, train)),
    }[prior]
    corrected = prior != "unknown"

    def fitted(counts=target, left=exponent, corrected=corrected):
        goal = TargetPrior(name, counts.double())
        return fit_for_prior(*validation, goal, TrainingPrior(train, left), corrected=corrected)

    want = fitted()
    assert (found.temperature, found.fitted_for) == (want.value, want.fitted_for)
    assert found.fitted_for.prior == name
    # What is fitted for anything else is another temperature; that for corrected logits is the true one.
    others = [fitted(counts=train), fitted(left=0.5), fitted(corrected=not corrected)]
    assert all(abs(other.value - found.temperature) > 1e-4 for other in others)
    if corrected:
        assert found.temperature == pytest.approx(2, rel=0.1)


def test_an_unknown_share_of_the_training_prior_asks_for_a_temperature_all_the_same(stored_run):
    validation, test = bayes(COUNTS, 2000, 1.0, 6), bayes([1, 1, 1], 300, 1.0, 7)
    run = stored_run(*test, COUNTS, logit_prior=None, validation=validation)
    found = evaluate(run.path, run.result, EvaluationSettings(temperature=True))
    goal = TargetPrior("test", torch.bincount(test[1]).double())
    want = fit_for_prior(*validation, goal, TrainingPrior(torch.tensor(COUNTS).double(), None))
    assert (found.temperature, found.fitted_for) == (want.value, want.fitted_for)
    for prior in ("known", "estimated"):
        with pytest.raises(LtbenchError, match="cannot be corrected"):
            evaluate(run.path, run.result, EvaluationSettings(temperature=True, prior=prior))


def test_a_temperature_that_the_validation_images_do_not_determine_is_an_error(stored_run):
    labels = torch.arange(60) % 3
    right = 3.0 * torch.nn.functional.one_hot(labels, 3)
    run = stored_run(*noisy(), COUNTS, validation=(right, labels))
    with pytest.raises(LtbenchError, match="do not say which temperature is best"):
        evaluate(run.path, run.result, EvaluationSettings(temperature=True))


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["unknown", "known", "estimated"])
@pytest.mark.parametrize("name", ["forward-50", "uniform", "backward-2"])
def test_a_shifted_test_set_has_the_figures_that_results_store(stored_run, name, prior):
    logits, labels = noisy()
    run = stored_run(logits, labels, COUNTS, logit_prior=1.0)
    table = under_shift(logits, labels, np.array(COUNTS), 1.0, run.result.data.groups)
    row = next(i for i in range(len(table.prior)) if (table.distribution[i], table.prior[i]) == (name, prior))
    found = evaluate(run.path, run.result, EvaluationSettings(distribution=BY_NAME[name], prior=prior))
    assert found.images == table.images[row] == len(shifted(labels.numpy(), np.array(COUNTS), BY_NAME[name]))
    assert (found.classes, found.prior_error) == (table.classes[row], table.prior_error[row])
    for figure in ("top1", "macro", "many", "medium", "few", "ece", "mce", "nll"):
        assert getattr(found.metrics, figure) == getattr(table, figure)[row]


def test_classes_that_a_test_set_lacks_are_counted_and_left_out_of_means(stored_run):
    labels = torch.arange(3).repeat_interleave(10)
    run = stored_run(9.0 * torch.nn.functional.one_hot(labels, 3), labels, COUNTS)
    found = evaluate(run.path, run.result, EvaluationSettings(distribution=BY_NAME["forward-50"], prior="known"))
    # 10 * 50 ** (-1/2) is 1.4 and 10 / 50 is .2: ten images, one, and none
    assert (found.images, found.classes) == (11, 2)
    assert (found.metrics.macro, found.metrics.few, found.metrics.total) == (100.0, None, [10, 1, 0])


def test_a_temperature_comes_before_the_correction(stored_run):
    scores, drawn = noisy(seed=5, certainty=1.0)
    logits, labels = noisy()
    run = stored_run(logits, labels, COUNTS, validation=(scores, drawn), logit_prior=1.0)
    view = EvaluationSettings(temperature=True, distribution=BY_NAME["uniform"], prior="known")
    found = evaluate(run.path, run.result, view)
    train = torch.tensor(COUNTS).double()
    # log p(y|x) - log pi_train + log pi_test, with the uniform pi_test a constant
    expected = logits / found.temperature - (train / train.sum()).log()
    for name, value in calibration(expected, labels).items():
        assert getattr(found.metrics, name) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("bins", [1, 7, 100])
def test_bins_change_no_accuracy_and_no_proper_score(stored_run, bins):
    run = stored_run(*noisy(), COUNTS)
    metrics = evaluate(run.path, run.result, EvaluationSettings(bins=bins)).metrics
    for name in ("top1", "macro", "few", "worst_class", "nll", "brier", "correct"):
        assert getattr(metrics, name) == getattr(run.result.test, name)
    assert len(metrics.bins.count) == bins


REFUSED = [
    ({}, EvaluationSettings(temperature=True), ["no validation images", "--temperature", "train with --validation"]),
    ({"logit_prior": None}, EvaluationSettings(prior="known"), ["cannot be corrected", "Method.logit_prior"]),
    (
        {"transductive": True},
        EvaluationSettings(distribution=BY_NAME["uniform"]),
        ["the method adapts to its test set", "--test-prior"],
    ),
]


@pytest.mark.parametrize(("options", "view", "parts"), REFUSED)
def test_what_a_run_cannot_give_is_refused(stored_run, options, view, parts):
    run = stored_run(*noisy(), COUNTS, **options)
    with pytest.raises(LtbenchError) as caught:
        evaluate(run.path, run.result, view)
    assert all(part in str(caught.value) for part in parts)


def test_classes_without_test_images_are_left_out_of_a_shifted_set(stored_run):
    run = stored_run(torch.eye(3), torch.zeros(3, dtype=torch.int64), COUNTS)  # classes 1 and 2 have no image
    found = evaluate(run.path, run.result, EvaluationSettings(distribution=BY_NAME["backward-2"]))
    assert (found.images, found.classes) == (3, 1)
    assert found.metrics.top1 == pytest.approx(100 / 3)


def test_logits_that_are_gone_are_named_with_the_command_that_makes_them(stored_run):
    run = stored_run(*noisy(), COUNTS)
    run.file.unlink()
    with pytest.raises(LtbenchError) as caught:
        load(run.path, run.result)
    assert "not in the cache" in str(caught.value)
    assert f"ltbench run --config {run.path} --rerun" in str(caught.value)


def swapped(predictions):
    """Two classes' logits changed places: other accuracies."""
    return Predictions(predictions.logits[:, [1, 0, 2]], predictions.experts, predictions.labels)


def sharper(predictions):
    """The same predictions, surer: another ECE only."""
    return Predictions(1.01 * predictions.logits, predictions.experts, predictions.labels)


def shorter(predictions):
    return Predictions(predictions.logits[:-1], predictions.experts[:, :-1], predictions.labels[:-1])


@pytest.mark.parametrize("change", [swapped, sharper, shorter])
def test_logits_of_another_training_are_refused(stored_run, change):
    run = stored_run(*noisy(), COUNTS)
    change(run.predictions).save(run.file, run_id=run.result.run_id)
    with pytest.raises(LtbenchError, match=r"not those that the result was made from"):
        load(run.path, run.result)


def test_logits_of_another_run_are_refused(stored_run):
    run = stored_run(*noisy(), COUNTS)
    run.predictions.save(run.file, run_id="another")
    with pytest.raises(LtbenchError, match=r"not those that the result was made from"):
        load(run.path, run.result)


def test_validation_logits_of_another_training_choose_no_temperature(stored_run):
    run = stored_run(*noisy(), COUNTS, validation=noisy(seed=1))
    sharper(run.predictions).save(run.file.with_name("validation.npz"), run_id=run.result.run_id)
    with pytest.raises(LtbenchError, match=r"not those that the result was made from"):
        evaluate(run.path, run.result, EvaluationSettings(temperature=True))


def flipped(whole):
    """One bit of a number of an expert."""
    changed = bytearray(whole)
    changed[whole.index(b"experts.npy") + 1000] ^= 64
    return bytes(changed)


@pytest.mark.parametrize("damage", [lambda whole: whole[:200], lambda whole: b"", lambda whole: b"text", flipped])
def test_damaged_logits_are_refused(stored_run, damage):
    run = stored_run(*noisy(), COUNTS)
    run.file.write_bytes(damage(run.file.read_bytes()))
    with pytest.raises(LtbenchError, match=r"cannot be read"):
        load(run.path, run.result)


def test_a_result_that_has_changed_meanwhile_is_not_written_over(stored_run, monkeypatch):
    """For example since the run was carried out again while its logits were evaluated."""
    run = stored_run(*noisy(), COUNTS)
    write(run.path, run.result.model_copy(update={"shift": None}))
    newer = run.result.model_copy(update={"shift": None, "reason": "newer"})

    def load_slowly(*words):
        found = load(*words)
        write(run.path, newer)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(reevaluate, "load", load_slowly)
        with pytest.raises(LtbenchError, match="has changed meanwhile"):
            _fill_in(run.path)
    assert read(run.path) == newer
    assert _fill_in(run.path)
    assert read(run.path).shift is not None


def test_an_unfinished_run_has_nothing_to_evaluate(stored_run, make_result):
    run = stored_run(*noisy(), COUNTS)
    failed = run.result.model_copy(update={"status": "failed", "metrics": {}})
    with pytest.raises(LtbenchError, match=r"no figures of test images: the run is failed"):
        load(run.path, failed)


@pytest.mark.slow
def test_an_older_result_gets_what_it_lacks_and_keeps_the_rest(stored_run):
    run = stored_run(*noisy(), COUNTS, method="balpoe")
    whole, added = filled_in(run.result, run.predictions)
    assert added == ["outcomes", "shift", "method.paper"]
    assert whole.method.paper.title == paper_of(registry.method("balpoe")).title
    labels, predicted, _ = whole.outcomes.unpack()
    assert np.array_equal(labels, run.predictions.labels)
    assert np.array_equal(predicted, run.predictions.logits.argmax(1))
    assert whole.shift == under_shift(*noisy(), np.array(COUNTS), 0.0, run.result.data.groups)
    fresh = {"outcomes": True, "shift": True, "method": {"paper"}}
    assert whole.model_dump(exclude=fresh) == run.result.model_dump(exclude=fresh)
    assert filled_in(whole, run.predictions) == (whole, [])


def test_what_a_result_has_is_not_replaced(stored_run):
    run = stored_run(*noisy(), COUNTS)
    own = PackedPredictions.of(np.array([0]), np.array([1]), np.array([0.5], dtype=np.float32))
    whole, added = filled_in(run.result.model_copy(update={"outcomes": own}), run.predictions)
    assert whole.outcomes == own
    assert "outcomes" not in added


def test_a_transductive_run_gets_no_shifted_test_sets(stored_run):
    run = stored_run(*noisy(), COUNTS, transductive=True)
    whole, added = filled_in(run.result, run.predictions)
    assert whole.shift is None
    assert "shift" not in added


def test_a_view_needs_no_files(stored_run):
    run = stored_run(*noisy(), COUNTS)
    run.file.unlink()
    assert look(run.result, run.predictions).metrics == run.result.test

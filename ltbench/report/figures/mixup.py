"""Whether mixup leads each expert to the prior that its loss is made for."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltbench.config import canonical_json
from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material, Setting, summary
from ltbench.report.figures.style import BLACK, SINGLE, error_bars, key, look, plain_log, title
from ltbench.results.records import Metrics


def draw(material: Material) -> Figure:
    """KL divergence of mean predictions on the test set to their targets against mixup's alpha, all else equal.

    The target of an expert with strength tau is pi^(1 - tau), normalised: the training prior pi for 0, uniform for 1,
    the inverse of the prior for 2; that of the ensemble is uniform. Aimar et al. (CVPR 2023). Mean and standard
    deviation over seeds.

    Raises:
        LtbenchError: if no method whose experts have taus was run with several alphas.
    """
    line = sweep(material.finished())
    if len(line) < 2:
        raise LtbenchError(
            "no method whose experts have taus was run with several alphas of mixup, all else equal",
            hint="ltbench run --set mixup=0 --seeds 0-4, and so on with 0.2, 0.4, ...; "
            "benchmarks/suites/digits-lt-poster.toml does it for BalPoE",
        )
    figure = Figure(figsize=(SINGLE, 2.7))
    axes = figure.subplots()
    alphas = [setting.hyperparameters["mixup"] for setting in line]
    points = [summary([divergences(test, setting) for test in setting.tests]) for setting in line]
    taus = line[0].hyperparameters["taus"]
    for number, name in enumerate([*(f"expert to {_target_name(tau)}" for tau in taus), "ensemble to uniform"]):
        means, deviations = ([table[column][number] for table in points] for column in ("mean", "sd"))
        ensemble = number == len(taus)
        style = {"color": BLACK, "marker": "*", "markersize": 5} if ensemble else look(number)
        error_bars(axes, alphas, means, deviations, high=np.inf, label=name, **style)
    axes.set(xlabel="mixup α", ylabel="KL divergence (nats)", yscale="log")
    plain_log(axes.yaxis)
    axes.set_title(line[0].method, fontsize=7)
    key(figure, axes, 2)
    title(figure, material.title(line, measure="mean ± SD"))
    return figure


def sweep(settings: Sequence[Setting]) -> list[Setting]:
    """The most settings of one method, with one number tau an expert, that differ in mixup's alpha only; by alpha."""
    groups: dict[str, dict[float, Setting]] = {}
    for setting in settings:
        values = setting.hyperparameters
        taus = values.get("taus")
        if not isinstance(taus, list):  # a hyper-parameter of a user's own method
            continue
        if len(taus) == setting.experts and all(isinstance(tau, int | float) for tau in taus) and "mixup" in values:
            config = setting.runs[0].config.without_seed()
            config["hyperparameters"] = {name: value for name, value in values.items() if name != "mixup"}
            groups.setdefault(canonical_json(config), {})[values["mixup"]] = setting
    most = max(groups.values(), key=len, default={})
    return [most[alpha] for alpha in sorted(most)]


def divergences(test: Metrics, setting: Setting) -> NDArray[np.float64]:
    """(M + 1,) of every expert's mean prediction to its target, and of the ensemble's to uniform; nats."""
    strengths = [*setting.hyperparameters["taus"], 1.0]
    predicted = [*test.expert_mean_probability, test.mean_probability]
    pairs = zip(predicted, strengths, strict=True)
    return np.array([kl_divergence(np.array(mean), target(setting.prior, tau)) for mean, tau in pairs])


def target(prior: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """(C,) pi^(1 - tau), normalised."""
    powers = prior ** (1 - tau)
    return np.asarray(powers / powers.sum())


def kl_divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The sum of p log(p / q) over classes, nats; a class with p = 0 adds nothing."""
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())


def _target_name(tau: float) -> str:
    names = {0.0: "LT prior", 1.0: "uniform", 2.0: "inverse LT"}
    return names.get(tau, f"$\\pi^{{{1 - tau:g}}}$")

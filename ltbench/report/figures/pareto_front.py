"""The Pareto front of a search with several objectives."""

from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material
from ltbench.report.figures.style import BLUE, GREY, SINGLE, VERMILLION, key, title
from ltbench.report.figures.tuning import axis_label, searches
from ltbench.results.records import LOWER_IS_BETTER


def draw(material: Material) -> Figure:
    """Trials by the first two objectives, and those of the Pareto front: none is better in one and as good in the rest.

    Each of the front bears its number from 1, that of its file in front/. Of several searches, the one with the most
    trials.

    Raises:
        LtbenchError: if no search with several objectives is stored, or its front lacks them.
    """
    found = [search for search in searches(material) if len(search.objectives) > 1 and search.front]
    if not found:
        raise LtbenchError(
            "no search with several objectives is stored",
            hint="ltbench tune --objectives macro,ece, then --results tune/DATASET-METHOD",
        )
    search = max(found, key=lambda one: len(one.history))
    first, second = search.objectives[:2]
    figure = Figure(figsize=(SINGLE, 2.6))
    axes = figure.subplots()
    done = [trial for trial in search.done if second in trial]
    front = {trial["number"]: trial for trial in done if trial["number"] in search.front}
    if not front:
        raise LtbenchError(f"no trial of the front has its {second} on record", hint="ltbench tune makes it anew")
    others = [trial for trial in done if trial["number"] not in front]
    axes.plot([one[first] for one in others], [one[second] for one in others], "o", color=GREY, label="trial")
    points = sorted((one[first], one[second]) for one in front.values())
    step = "steps-post" if first in LOWER_IS_BETTER else "steps-pre"
    line = step if len(search.objectives) == 2 else "default"
    axes.plot(*zip(*points, strict=True), "-", color=VERMILLION, drawstyle=line, lw=0.8, alpha=0.6)
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, label="Pareto front")
    for number, one in front.items():
        axes.annotate(str(number + 1), (one[first], one[second]), (2, 2), textcoords="offset points", fontsize=5.5)
    axes.set(xlabel=axis_label(first), ylabel=axis_label(second))
    key(figure, axes, 2)
    title(figure, search.title)
    return figure

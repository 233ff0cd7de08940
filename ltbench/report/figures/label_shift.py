"""Accuracy and calibration on test sets with other class frequencies."""

from matplotlib.figure import Figure

from ltbench.errors import LtbenchError
from ltbench.report.figures.material import Material, shown_name
from ltbench.report.figures.style import DOUBLE, error_bars, key, look, title
from ltbench.report.label_shift import under_shift

PRIORS = {"unknown": "prior unknown", "known": "prior known", "estimated": "prior estimated\n(from the test images)"}


def draw(material: Material) -> Figure:
    """Accuracy and ECE against the imbalance of the test set, from as the training set's to its reverse.

    One column for each of what a method may know of the test prior: nothing, the class frequencies, or their estimate
    from the unlabelled images. Mean and standard deviation over seeds.

    Raises:
        LtbenchError: if no run has such figures.
    """
    settings = material.ranked()
    assert material.leaderboard is not None, "there are settings"
    figures = under_shift(material.leaderboard, material.stored, floors=False)
    found = dict(iter(figures.groupby("setting")))
    able = [setting for setting in settings if setting.row["setting"] in found]
    if not able:
        raise LtbenchError(
            "the stored runs have no figures under label shift: they are of an older ltbench, or adapt to the test set",
            hint="ltbench evaluate --all --store adds them where logits are kept, ltbench run --rerun anywhere",
        )
    settings = material.chosen(7, able)
    tables = [found[setting.row["setting"]].set_index(["prior", "distribution"]) for setting in settings]
    figure = Figure(figsize=(DOUBLE, 3.7))
    panels = figure.subplots(2, len(PRIORS), sharex=True, sharey="row")
    places = list(dict.fromkeys(name for table in tables for _, name in table.index))
    for column, (prior, words) in enumerate(PRIORS.items()):
        for row, metric in enumerate(("top1", "ece")):
            axes = panels[row, column]
            for number, (setting, table) in enumerate(zip(settings, tables, strict=True)):
                if prior in table.index:
                    points = table.loc[prior].reindex(places)
                    x = range(len(places))
                    style = {"label": setting.label, "elinewidth": 0.6, **look(number)}
                    error_bars(axes, x, points[metric], points[f"{metric}_sd"], **style)
            axes.set_xticks(range(len(places)), [shown_name(_ratio(name)) for name in places], fontsize=6)
        panels[0, column].set_title(words)
    panels[0, 0].set_ylabel("accuracy (%)")
    panels[1, 0].set_ylabel("ECE (%)")
    figure.supxlabel("← forward     imbalance ratio of the test set     backward →", fontsize="medium")
    key(figure, panels[0, 0], 4)
    title(figure, material.title(settings, measure="mean ± SD"))
    return figure


def _ratio(distribution: str) -> str:
    return "1" if distribution == "uniform" else distribution.split("-")[-1]

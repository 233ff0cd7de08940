"""What a search found along each hyper-parameter."""

from matplotlib.figure import Figure

from ltbench.method.search_space import Choice, from_description
from ltbench.report.figures.material import Material, shown_name
from ltbench.report.figures.style import DOUBLE, title
from ltbench.report.figures.tuning import axis_label, largest


def draw(material: Material) -> Figure:
    """Validation accuracy of the trials against each hyper-parameter; later trials are darker.

    Trials that were pruned or have failed are left out. Of several searches, the one with the most trials.

    Raises:
        LtbenchError: if no search with its trials on record is stored.
    """
    search = largest(material)
    columns = min(4, len(search.space))
    rows = -(-len(search.space) // columns)
    figure = Figure(figsize=(DOUBLE, 0.3 + 1.9 * rows))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    values = [trial[search.objective] for trial in search.done]
    for axes, (name, record) in zip(panels, search.space.items(), strict=False):
        option = from_description(record)
        places = [trial["params"][name] for trial in search.done]
        if isinstance(option, Choice):
            places = [option.options.index(place) for place in places]
            axes.set_xticks(range(len(option.options)), [shown_name(str(one)) for one in option.options])
            axes.set_xlim(-0.5, len(option.options) - 0.5)
        elif option.log:
            axes.set_xscale("log")
        numbers = [trial["number"] for trial in search.done]
        points = axes.scatter(places, values, c=numbers, cmap="Blues", vmin=-len(search.history) / 3, s=12, zorder=3)
        points.set_edgecolor("0.3")
        points.set_linewidth(0.4)
        axes.set_xlabel(shown_name(name))
    for axes in list(panels):
        axes.set_visible(False)
    figure.supylabel(axis_label(search.objective), fontsize=8)
    title(figure, f"{search.title} · darker: later trials")
    return figure

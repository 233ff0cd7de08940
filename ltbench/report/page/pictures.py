"""The figures inside the page, as SVG."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree

from ltbench.errors import LtbenchError
from ltbench.report.collection import Collection
from ltbench.report.figures import FIGURES, draw
from ltbench.report.figures.material import Material, gather
from ltbench.report.figures.style import svg
from ltbench.report.leaderboard import Leaderboard, largest

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Picture:
    """One figure, or why there is none."""

    name: str
    caption: str
    svg: str
    missing: str


def pictures(
    stored: Collection,
    leaderboards: Sequence[Leaderboard],
    folders: Sequence[Path],
    *,
    asked: bool,
    numbers: Iterable[int],
) -> dict[int, Picture]:
    """Figures of the largest leaderboard, by their number.

    Args:
        stored: the results.
        leaderboards: the leaderboards made of them.
        folders: where the results were found.
        asked: whether the user named the methods.
        numbers: of the figures in ``FIGURES``, up to the first one beyond it.
    """
    material = gather(stored, largest(leaderboards), asked=asked, folders=folders)
    names = list(FIGURES)
    return {number: _picture(names[number], material) for number in takewhile(len(names).__gt__, numbers)}


def _picture(name: str, material: Material) -> Picture:
    caption = " ".join((inspect.getdoc(FIGURES[name]) or "").split("\n\nRaises:")[0].split())
    try:
        return Picture(name, caption, inline(svg(draw(name, material)), name), "")
    except LtbenchError as error:
        return Picture(name, caption, "", "; ".join(line.strip() for line in str(error).splitlines()))


def inline(picture: bytes, name: str) -> str:
    """An SVG file of matplotlib's as an element of a page.

    Ids begin with ``name``, so that those of two figures do not clash, and only those that something points to stay;
    the style sheet, which would hold for the whole page, becomes the style of the element.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(picture)
    for parent in [*root.findall(f".//{{{_SVG}}}style/.."), root]:
        for child in list(parent):
            if child.tag in {f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"}:
                parent.remove(child)
    used = set(re.findall(rb"(?:url\(|href=\")#([^)\"]+)", picture))
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id" and value.encode() not in used:
                del element.attrib[key]
            else:
                element.set(key, _renamed(key, value, name))
    width = root.attrib.pop("width").removesuffix("pt")  # the page scales it; the viewBox keeps the shape
    del root.attrib["height"]
    root.attrib.update(style=f"--points: {width}; stroke-linejoin: round; stroke-linecap: butt", role="img")
    root.set("aria-labelledby", f"figure-{name}")
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{_XLINK}}}href":
        return re.sub("^#", f"#{name}-", value)
    if key == "d":
        return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)  # of a point of 1/72 inch
    return value.replace("url(#", f"url(#{name}-")

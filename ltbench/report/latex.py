"""Reports as LaTeX."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ltbench.printable import printable_name
from ltbench.report.table import Block, Bold, Command, Folded, Lack, Notes, Table


def latex(parts: Iterable[Block]) -> str:
    r"""Floats over both columns of a page, with booktabs; numbered notes are printed, other paragraphs are comments.

    A table that is too long for a page becomes several floats with one number. The preamble needs
    ``\usepackage{booktabs}``; papers are cited by the keys of ``ltbench report --format bibtex``. The first lines say
    so.
    """
    labels: list[str] = []
    return "\n".join([_NEEDS, *(_block(part, labels) for part in parts)])


_NEEDS = r"""% Needs \usepackage{booktabs}. Papers: ltbench report --format bibtex --output refs.bib, with the
% same --results; then \bibliographystyle{plain} and \bibliography{refs}.
"""


def _block(part: Block, labels: list[str]) -> str:
    if isinstance(part, Folded):
        return ""
    if isinstance(part, Notes):
        return _notes(part, labels[-1])
    if isinstance(part, str):
        return f"{_comment(part)}\n"
    fitting, left_out = _fitted(part)
    chooses = "; --columns chooses" if part.level == 1 else ""
    said = [_comment(f"Left out to fit the page: {', '.join(left_out)}{chooses}.")] if left_out else []
    said += [f"% {printable_name(one)}" for one in part.above if isinstance(one, Command | Lack)]
    first, *others = _pages(fitting)
    return "\n".join([*said, _first_float(first, _label(part.title, labels)), *map(_further_float, others)])


_SIGNS = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "†": r"$\dagger$",
    "−": "$-$",
    "←": r"$\leftarrow$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "–": "--",
}
_TEXT_WIDTH = 490.0
"""Points that both columns of a page of the field's conferences have."""
_SMALL, _SMALL_BOLD, _SEPARATION = 4.25, 4.9, 6.0
"""Points of a digit in footnote size, of a bold one, and between two columns."""
_NOTE = "Note"
"""The column with numbers of notes."""
_ROWS = 45
"""Rows of a page, below a caption of some lines."""


def escaped_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_SIGNS.get(character, character) for character in printable_name(text))


def _comment(text: str) -> str:
    return "\n".join(f"% {escaped_latex(line)}" for line in text.splitlines())


def _notes(text: str, label: str) -> str:
    lines = [rf"Notes to Table~\ref{{{label}}}.", *map(escaped_latex, text.splitlines())]
    return "\n".join(["{\\footnotesize\\raggedright\\noindent", "\n\n".join(lines), "", "}", ""])


def _pages(table: Table) -> Iterator[Table]:
    """The table in parts of a page; a part that begins with a subordinate row repeats the row that this belongs to."""
    if len(table.rows) <= _ROWS:
        yield table
        return
    pages = -(-len(table.rows) // _ROWS)
    start, size = 0, -(-len(table.rows) // pages)  # of equal length
    while start < len(table.rows):
        rows = list(range(start, min(start + size, len(table.rows))))
        start = rows[-1] + 1
        if start < len(table.rows) and start in table.subordinate and rows[-1] not in table.subordinate:
            start = rows.pop()  # a row is not parted from the first one that belongs to it
        above = [row for row in range(rows[0]) if row not in table.subordinate]
        if rows[0] in table.subordinate and above:
            rows.insert(0, above[-1])
        yield replace(
            table,
            rows=[table.rows[row] for row in rows],
            keys=[table.keys[row] for row in rows] if table.keys else (),
            subordinate=frozenset(place for place, row in enumerate(rows) if row in table.subordinate),
            rule=rows.index(table.rule - 1) + 1 if table.rule is not None and table.rule - 1 in rows else None,
        )


def _first_float(table: Table, label: str) -> str:
    said = [
        f"{table.title}.",
        table.legend,
        *(one for one in table.above if not isinstance(one, Command | Lack)),
        table.caption,
    ]
    return _float(table, [rf"\caption{{{escaped_latex(' '.join(filter(None, said)))}}}", rf"\label{{{label}}}"])


def _further_float(table: Table) -> str:
    return _float(table, [r"\addtocounter{table}{-1}", rf"\caption{{{escaped_latex(table.title)} (continued).}}"])


def _float(table: Table, caption: list[str]) -> str:
    rows = [_row(_cells(table, place)) for place in range(len(table.rows))]
    if table.rule is not None:
        rows.insert(table.rule, r"\midrule")
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering",
            r"\footnotesize",
            rf"\setlength{{\tabcolsep}}{{{_SEPARATION / 2:g}pt}}",
            *caption,
            rf"\begin{{tabular}}{{{''.join(one[0] for one in table.alignment)}}}",
            r"\toprule",
            _row(list(map(escaped_latex, table.header))),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _cells(table: Table, place: int) -> list[str]:
    cells = [
        rf"\textbf{{{escaped_latex(cell)}}}" if isinstance(cell, Bold) else escaped_latex(cell)
        for cell in table.rows[place]
    ]
    if place in table.subordinate:
        cells[0] = rf"\quad {cells[0]}"
    if table.keys and table.keys[place]:
        cells[0] += rf"~\cite{{{table.keys[place]}}}"
    return cells


def _label(title: str, labels: list[str]) -> str:
    """A label that no other table has, e.g. "tab:cifar100-lt-ir-100-resnet-32"."""
    words = re.sub(r"[^a-z0-9]+", "-", " ".join(title.lower().split(" · ")[:3])).strip("-") or "results"
    names = (f"tab:{words}{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, len(labels) + 3))))
    found = next(name for name in names if name not in labels)
    labels.append(found)
    return found


def _fitted(table: Table) -> tuple[Table, list[str]]:
    """The table without the columns that are too many for a page, and their names."""

    def points(one: Table) -> float:
        widths = [max(map(cell_points, column)) for column in zip(one.header, *one.rows, strict=True)]
        return sum(widths) + 5 * _SMALL * bool(one.keys) + _SEPARATION * len(widths)

    def cell_points(cell: str) -> float:
        return (_SMALL_BOLD if isinstance(cell, Bold) else _SMALL) * len(cell)

    kept = replace(table, expendable=[name for name in table.expendable if name != _NOTE])  # the notes are printed
    return kept.without_expendable(lambda one: points(one) > _TEXT_WIDTH)


def _row(cells: list[str]) -> str:
    # After the end of a row, a bracket or a star would be taken for its argument.
    return f" {'{}' if cells[0][:1] in ('[', '*') else ''}{' & '.join(cells)} \\\\"

"""The output of commands that pages quote, between two comments that name the command.

python docs/quoted_output.py      makes all of it anew

    <!-- output of: ltbench report ... -->
    <!-- end of output -->

A page may quote some columns of a table alone, the first that has them: ``<!-- output of: ltbench ...; columns: Method,
Acc -->``, in one line.
"""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_QUOTED = re.compile(
    r"(<!-- output of: ltbench (?P<command>[^;>]*?)(?:; columns: (?P<columns>.*?))? -->\n).*?(<!-- end of output -->)",
    re.DOTALL,
)


def renewed(text: str, output_of: Callable[..., str]) -> str:
    """A page with every quoted output made anew.

    Args:
        text: the page.
        output_of: gives what ltbench prints, for the words of a command.
    """

    def quote(found: re.Match[str]) -> str:
        output = output_of(*shlex.split(found["command"])).strip()
        shown = first_table(output, found["columns"].split(", ")) if found["columns"] else output
        return f"{found[1]}\n{shown}\n\n{found[4]}"

    return _QUOTED.sub(quote, text)


def first_table(markdown: str, columns: list[str]) -> str:
    """Some columns of the first table of a page that has them, without padding."""
    tables = re.findall(r"(?:^\|.*\n?)+", markdown, re.MULTILINE)
    found = ([[cell.strip() for cell in line.strip("|").split("|")] for line in one.splitlines()] for one in tables)
    rows = next((rows for rows in found if set(columns) <= set(rows[0])), None)
    if rows is None:
        raise ValueError(f"no table has the columns {columns}")
    places = [rows[0].index(column) for column in columns]
    rows[1] = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join("| " + " | ".join(row[place] for place in places) + " |" for row in rows)


def main() -> None:
    """Rewrite the pages."""

    def output_of(*words: str) -> str:
        return subprocess.run(["ltbench", *words], check=True, capture_output=True, text=True, cwd=ROOT).stdout

    for page in PAGES:
        page.write_text(renewed(page.read_text(), output_of))


if __name__ == "__main__":
    main()

"""The papers of a report's methods: their BibTeX, and keys that no two papers share."""

import re
import unicodedata
from collections.abc import Iterator

from ltbench.report.collection import Collection

_KEY = re.compile(r"(@\w+\{)([^,\s]+)(,)")
_TITLE = re.compile(r"\btitle\s*=\s*[{\"]+([^}\"]+)", re.IGNORECASE)
_NO_CONTENT = {"a", "an", "the", "on", "of", "in", "to", "for", "with", "and", "from", "by", "is", "are"}
"""Words of titles that no key is made of."""


def citation_keys(stored: Collection) -> dict[str, str]:
    """The BibTeX key of each method's paper, e.g. "aimar2023balanced" of balpoe; methods without a paper are left out.

    Author, year and first word of the title, as search engines have it: a key does not depend on which other methods
    a report has, so that the tables of one article can share a bibliography.
    """
    papers = _papers(stored)
    return {method: key for key, (_, methods) in papers.items() for method in methods}


def bibtex(stored: Collection) -> str:
    """The BibTeX entries of all papers, by key."""
    entries = (_KEY.sub(rf"\g<1>{key}\g<3>", entry, count=1) for key, (entry, _) in sorted(_papers(stored).items()))
    return "\n\n".join(entries) + "\n"


def _papers(stored: Collection) -> dict[str, tuple[str, list[str]]]:
    """Key -> BibTeX entry and methods; papers that would have one key get letters."""
    entries: dict[str, list[str]] = {}
    for method, entry in dict.fromkeys(_entries(stored)):
        entries.setdefault(entry, []).append(method)
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in sorted(entries):
        stated = _KEY.match(entry)
        key = re.sub(r"[^A-Za-z0-9:_-]", "", stated[2]) if stated else ""
        if not key:
            continue
        key += _first_word(entry)
        letters = (key + letter for letter in ("", *"bcdefghijklmnopqrstuvwxyz"))
        free = next((one for one in letters if one not in found), None)
        if free is not None:
            found[free] = (entry, sorted(entries[entry]))
    return found


def _first_word(entry: str) -> str:
    """The first word of a title that says something, in lower case; empty without one."""
    title = _TITLE.search(entry)
    plain = unicodedata.normalize("NFKD", title[1] if title else "").encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", plain.lower())
    return next((word for word in words if word not in _NO_CONTENT), "")


def _entries(stored: Collection) -> Iterator[tuple[str, str]]:
    for result in stored.results.values():
        if result.method.paper is not None:
            yield result.config.method, result.method.paper.bibtex.strip()

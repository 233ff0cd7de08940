"""The settings of Sphinx, which makes HTML of every page of the project.

sphinx-build -W --keep-going -c docs . docs/_build

The source folder is the repository, so that a link between two pages is the same on GitHub and in HTML.
"""

import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

import ltbench

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "reference" / "commands.md"

project = "ltbench"
author = "The ltbench authors"
project_copyright = author
release = ltbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/reference/*.md", "results/*.md", "benchmarks/**.md"]
exclude_patterns = ["docs/_build"]

myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # pages of ltbench report have tables' titles below the page's own
smartquotes = False  # options begin with two hyphens

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"exclude-members": "model_config"}

html_theme = "furo"
html_title = f"ltbench {release}"
html_extra_path = ["site"]


def write_commands(app: Sphinx) -> None:
    """Write the reference of all commands, from the command line's own declarations."""
    made = ROOT / "docs" / "_build" / "commands.md"
    made.parent.mkdir(exist_ok=True)
    typer = [sys.executable, "-m", "typer", "ltbench.cli", "utils", "docs", "--name", "ltbench", "--title", "Commands"]
    subprocess.run([*typer, "--output", str(made)], check=True, capture_output=True)
    text = made.read_text()
    if not COMMANDS.exists() or COMMANDS.read_text() != text:  # an unchanged page is not read again
        COMMANDS.write_text(text)


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep napoleon from taking the beginning of an attribute's docstring, up to a colon, for a type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # which reStructuredText drops


def describe_fields(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Add the types and descriptions of a record's fields."""
    if isinstance(obj, type) and issubclass(obj, BaseModel):
        lines.append("")
        for field, about in obj.model_fields.items():
            lines.append(f":param {field}: {about.description or ''}")
            lines.append(f":type {field}: {stringify_annotation(about.annotation, 'smart')}")


def setup(app: Sphinx) -> None:
    """Make the generated pages before Sphinx looks for pages."""
    app.connect("builder-inited", write_commands)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-process-docstring", describe_fields)

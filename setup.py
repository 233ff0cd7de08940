"""The packages of this checkout; everything else about the project is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["ltbench", "ltbench.*"]), "ltbench_methods", "ltbench_speed", "ltbench_suites"])

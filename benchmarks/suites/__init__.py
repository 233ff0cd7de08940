"""Suites: what is compared, as data, one TOML file each. ``ltbench run --suite NAME`` carries one out."""

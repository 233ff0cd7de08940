"""A method that cannot be divided over processes."""

from ltbench.method import Method


class Coupled(Method):
    """Couples the images of a batch and gathers none."""

    couples_batch = True

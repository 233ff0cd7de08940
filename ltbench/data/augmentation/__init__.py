"""Augmentation: recipe (pipeline) to operations (policies, operations) to pixels (geometry, colour, filters)."""

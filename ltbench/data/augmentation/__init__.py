"""Augmentation: recipe to operations to pixels."""

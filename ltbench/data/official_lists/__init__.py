"""Data sets whose parts are given by official lists: what is published, the lists, where images lie, preparation."""

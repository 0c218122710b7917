"""Recipes: defaults with their reasons. Loads no torch."""

from kudari.tune.recipe import recipe

__all__ = ["recipe"]

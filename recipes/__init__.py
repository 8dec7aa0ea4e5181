"""Recipes: how the models that StepER Serve serves are made.

The folder stands at the root of the repository and is installed as `steper_serve.recipes`, by a
link of that name, so that no package of a common name ends up in a user's environment.
"""

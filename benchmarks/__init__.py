"""Benchmarks: how right, how fast, and at what price, each a command of `steper-serve bench`.

The folder stands at the root of the repository and is installed as `steper_serve.benchmarks`, by
a link of that name. Answers that are measured are asked for as a user asks: over HTTP, but for
those to hostile passages (attack).
"""

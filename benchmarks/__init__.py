"""Benchmarks: how right, how fast, and at what price, each a command of `steper-serve bench`.

The folder stands at the root of the repository and is installed as `steper_serve.benchmarks`, by
a link of that name. What is measured is reached as a user reaches it: by the official `openai`
client over HTTP.
"""

"""`bench peers`: a system that a user might pick instead, on the same questions and engine.

What is left out: the command (cli.bench_peers).
"""

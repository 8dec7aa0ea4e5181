"""`bench attack`: passages written to sway the answer, and what the product makes of them.

What is left out: the command (cli.bench_attack).
"""

"""The paper's tables and figures again, by name: its own figures beside what was measured here.

Each command of `steper-serve bench paper` takes what was answered (rows of a benchmark, or a
recipe's evaluations), draws from it what the paper's table or figure shows, and prints both, with
what differs between the two. What is left out: answering (running), and training (recipes).
"""

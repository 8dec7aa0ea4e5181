"""`python -m steper_serve` is `steper-serve`."""

from steper_serve.cli import main

if __name__ == "__main__":
    main(prog_name="steper-serve")

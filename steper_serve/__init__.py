"""StepER Serve: multi-hop question answering with a small student, step by step."""

from importlib.metadata import version

__version__ = version("steper-serve")

"""What a request may set of a loop, with its bounds."""

from dataclasses import dataclass

from steper_serve.errors import InvalidRequest
from steper_serve.trajectory import Demonstration, PromptFormat, Sampling

MAX_STEPS = (1, 10)
TOP_K = (1, 20)
# Longer than a token ever is on average: what is longer by this need not be counted.
MOST_CHARACTERS_A_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one flow.

    Args:
        format: what the prompt writer must know of the model.
        max_steps: the most searches (IRCoT, Self-Ask) or thoughts (single, direct), 1..10;
            S in the paper, 5 by default.
        top_k: passages a search returns, 1..20; K in the paper, 4 by default.
        max_tokens: the most tokens the whole answer may take, reasoning included; None for no
            bound but the steps'.
        max_step_tokens: the most tokens one thought may take.
        sampling: how tokens are drawn.
        instruction: the line that tells the model what to do; "" for a trained student.
        demonstrations: worked examples before the passages; none for a trained student.

    Raises:
        InvalidRequest: a number is out of its bounds; `param` names it.
    """

    format: PromptFormat
    max_steps: int = 5
    top_k: int = 4
    max_tokens: int | None = None
    max_step_tokens: int = 128
    sampling: Sampling = Sampling()
    instruction: str = ""
    demonstrations: tuple[Demonstration, ...] = ()

    def __post_init__(self) -> None:
        for name, value, (low, high) in (
            ("max_steps", self.max_steps, MAX_STEPS),
            ("top_k", self.top_k, TOP_K),
        ):
            if not low <= value <= high:
                raise InvalidRequest(f"{name} is {value}; it must be {low} to {high}", param=name)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidRequest(
                f"max_tokens is {self.max_tokens}; it must be at least 1", param="max_tokens"
            )

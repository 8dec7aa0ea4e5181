"""What one request may take: of bytes, messages, characters, tokens and seconds.

What is left out: how many requests there may be (admission, rates).
"""

from dataclasses import dataclass

from steper_serve.api.request import ChatRequest
from steper_serve.errors import InvalidRequest, PromptTooLong


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on a request.

    Args:
        max_body_bytes: of its body.
        max_messages: turns in it, used or not.
        max_question_characters: of its last user turn or, without the loop, of all turns.
        max_answer_tokens: that may be generated for it, reasoning included; also what is
            generated at most where it asks for no number.
        max_seconds: time budget of its answer, waiting included; likewise.
        client_seconds: within which its body must come.
    """

    max_body_bytes: int = 2**20
    max_messages: int = 500
    max_question_characters: int = 10_000
    max_answer_tokens: int = 8192
    max_seconds: float = 600.0
    client_seconds: float = 30.0

    def check(self, request: ChatRequest) -> None:
        """Refuse what is beyond a cap.

        Raises:
            PromptTooLong: the question is.
            InvalidRequest: something else; `param` names the field.
        """
        if (num := len(request.messages)) > self.max_messages:
            said = f"there are {num:,} messages, and this server takes {self.max_messages:,}"
            raise InvalidRequest(said, param="messages")
        if (num := len(request.asked)) > self.max_question_characters:
            raise PromptTooLong(
                f"the question has {num:,} characters, and this server takes "
                f"{self.max_question_characters:,}",
                param="messages",
            )
        for name in ("max_tokens", "max_completion_tokens"):
            _check(name, getattr(request, name), self.max_answer_tokens)
        _check("steper.max_seconds", request.options.max_seconds, self.max_seconds)


def _check(name: str, asked: float | None, most: float) -> None:
    if asked is not None and asked > most:
        raise InvalidRequest(
            f"{name}: {asked:,.10g} is asked for, and this server allows {most:,.10g}", param=name
        )

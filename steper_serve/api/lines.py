"""One line of log for each answer and each refusal, with its fields beside its words.

No question, answer, passage or key is in it, nor what an error says, which may quote them, unless
that is wanted. What is left out: how a line is written (cli).
"""

import logging
from typing import Any

from steper_serve.api.account import BROKEN, Account, Answering
from steper_serve.drivers import Found, Generated
from steper_serve.trajectory import Trajectory

_log = logging.getLogger(__name__)

_MOST_CHARACTERS = 200  # of a path, which is whatever was asked for


class Lines:
    """Tells of closed accounts.

    Args:
        content: whether questions, answers and passages are told too.
    """

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def observe(self, account: Account) -> None:
        """Tell of an answer or a refusal; of nothing else."""
        if account.answer is not None:
            self._tell_answer(account, account.answer)
        elif account.error is not None:
            self._tell_refusal(account)

    def _tell_answer(self, account: Account, answer: Answering) -> None:
        fields = {"event": "answer", **_of_request(account), **_of_answer(account, answer)}
        if self._content:
            fields |= _content(answer)
        used = answer.usage
        _log.log(
            logging.ERROR if answer.outcome == BROKEN else logging.INFO,
            "%s answered %s: %s, %d steps, %d + %d tokens, %.3f s",
            account.request_id,
            account.model,
            answer.outcome,
            answer.num_steps,
            used.num_prompt_tokens,
            used.num_completion_tokens,
            account.seconds,
            extra=fields,
        )

    def _tell_refusal(self, account: Account) -> None:
        assert account.error is not None  # noqa: S101 - for the type checker
        error = account.error
        fields = {
            "event": "refusal",
            **_of_request(account),
            "method": account.method,
            "path": account.path[:_MOST_CHARACTERS],
            "client": account.client or None,
            "code": error.code,
            "type": error.type,
        }
        if self._content:
            fields["error"] = error.message
        _log.info(
            "%s refused %s: %s %r: %d %s",
            account.request_id,
            account.client or "a client",
            account.method,
            account.path[:_MOST_CHARACTERS],
            account.status,
            error.code or error.type,
            extra=fields,
        )


def _of_request(account: Account) -> dict[str, Any]:
    return {
        "request_id": account.request_id,
        "key": account.caller or None,
        "status": account.status,
        "seconds": _rounded(account.seconds),
    }


def _of_answer(account: Account, answer: Answering) -> dict[str, Any]:
    events = [event for _, event in answer.events]
    return {
        "model": account.model,
        "strategy": answer.strategy,
        "streamed": account.streamed,
        "outcome": answer.outcome,
        "num_steps": answer.num_steps,
        "num_prompt_tokens": answer.usage.num_prompt_tokens,
        "num_cached_tokens": answer.usage.num_cached_tokens,
        "num_completion_tokens": answer.usage.num_completion_tokens,
        "first_byte_seconds": _rounded(account.first_byte_seconds),
        "queued_seconds": _rounded(answer.queued_seconds),
        "retrieval_seconds": _rounded(sum(e.seconds for e in events if isinstance(e, Found))),
        "generation_seconds": _rounded(sum(e.seconds for e in events if isinstance(e, Generated))),
        "trace_id": account.trace_id,
    }


def _content(answer: Answering) -> dict[str, Any]:
    done = answer.trajectory
    told: dict[str, Any] = {"question": answer.question}
    if answer.error is not None:
        told["error"] = answer.error.message
    return told if done is None else {**told, "answer": done.answer, "steps": _steps(done)}


def _steps(done: Trajectory) -> list[dict[str, Any]]:
    return [
        {
            "query": step.query,
            "passages": [{"id": p.id, "title": p.title, "text": p.text} for p in step.passages],
            "thought": step.thought,
        }
        for step in done.steps
    ]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)

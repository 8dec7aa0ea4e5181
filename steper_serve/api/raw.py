"""The model itself, without the loop: `steper-raw`, for clients that ask for titles and tags.

Its prompt is the text of all messages, one after the other, as the user's turn. A student that
was trained for the loop alone has little to say here.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from openai.types.chat import ChatCompletion

from steper_serve.api.admitted import Admitted
from steper_serve.api.errors import error_frame
from steper_serve.api.reply import Reply
from steper_serve.api.request import ChatRequest
from steper_serve.api.streams import DONE, followed, frame
from steper_serve.errors import InvalidRequest, PromptTooLong, SteperError
from steper_serve.loop import Loop
from steper_serve.strategies.options import MOST_CHARACTERS_A_TOKEN
from steper_serve.trajectory import Delta, Generate, Prompt

DEFAULT_MAX_TOKENS = 256


async def answer(admitted: Admitted, request: ChatRequest) -> ChatCompletion:
    """The whole completion of a checked request."""
    done = await admitted.generate(_effect(admitted.loop, request), lambda _: None)
    return Reply(request.model).whole(done.text, done.finish_reason, done.usage)


async def stream(admitted: Admitted, request: ChatRequest) -> AsyncGenerator[bytes, None]:
    """The completion of a checked request as Server-Sent Events, as it comes."""
    reply = Reply(request.model)
    held = frame(reply.chunk(role="assistant", content=""))
    try:
        effect = _effect(admitted.loop, request)
        async with aclosing(followed(partial(admitted.generate, effect))) as output:
            async for part in output:
                if isinstance(part, Delta):
                    yield held + frame(reply.chunk(content=part.text))
                    held = b""
                else:
                    done = part
        held += frame(reply.chunk(finish_reason=done.finish_reason))
        if request.stream_options and request.stream_options.include_usage:
            held += frame(reply.usage_chunk(done.usage))
        yield held + DONE
    except SteperError as error:
        if held:
            raise
        yield error_frame(error)


def _effect(loop: Loop, request: ChatRequest) -> Generate:
    # A lone surrogate is valid in JSON and in no text.
    said = request.asked.encode(errors="replace").decode()
    if not said.strip():
        raise InvalidRequest("the messages are empty", param="messages")
    if len(said) > loop.format.max_prompt_tokens * MOST_CHARACTERS_A_TOKEN:
        raise PromptTooLong(
            f"the messages have {len(said):,} characters; this model reads at most "
            f"{loop.format.max_prompt_tokens} tokens",
            param="messages",
        )
    before, after = loop.format.chat or ("", "")
    prompt = Prompt(f"{before}{said}{after}", user=said, templated=loop.format.chat is not None)
    return Generate(
        step=1,
        prompt=prompt,
        max_tokens=request.token_budget or DEFAULT_MAX_TOKENS,
        stop=request.stop_strings,
        sampling=request.sampling,
    )

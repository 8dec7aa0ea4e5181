"""The state of a running flow that every strategy shares.

It keeps passages, steps and spent tokens, writes requests that fit the model, and ends in a
`Trajectory`. What is left out: any strategy's own prompt, stop rule and parser.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType

from steper_serve.errors import PromptTooLong, SteperError
from steper_serve.strategies.evidence import used_passages
from steper_serve.strategies.options import MOST_CHARACTERS_A_TOKEN, Options
from steper_serve.strategies.passages import one_line
from steper_serve.strategies.sentences import line_end, thought_end
from steper_serve.trajectory import (
    Completion,
    Demonstration,
    Effect,
    Generate,
    Outcome,
    OutOfTime,
    Passage,
    Prompt,
    PromptFormat,
    Retrieve,
    Step,
    StopReason,
    Trajectory,
)

# Tokens kept for a forced answer when a token budget runs out.
ANSWER_TOKENS = 32
# What a tokenizer may add to a text of its own accord.
_ADDED_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Context:
    """What a prompt is rendered from; `written` is what the model's turn already holds."""

    instruction: str
    demonstrations: Sequence[Demonstration]
    passages: Sequence[Passage]
    question: str
    written: str


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a generation, beside end-of-sequence; see `Generate`."""

    stop: tuple[str, ...] = ()
    cut: Callable[[str], int | None] | None = None


Renderer = Callable[[Context, PromptFormat], Prompt]


class Draft:
    """A trajectory in the making. As a context manager it hands its steps to a passing error.

    `written` is all that the model's turn holds so far; the strategy adds to it what it reads
    off each completion, in the form that its prompt wants.

    Raises:
        PromptTooLong: on entry, if the question alone is longer than the model reads.
    """

    def __init__(self, strategy: str, question: str, options: Options, render: Renderer) -> None:
        self.options = options
        self.format = options.format
        self._strategy = strategy
        self._question = question
        self._render = render
        self._refuse_beyond_all_bounds()
        self._asked = one_line(question, options.format.special_tokens)
        self._demonstrations = list(options.demonstrations)
        self._passages: dict[str, Passage] = {}
        self._dropped: dict[str, None] = {}
        self._steps: list[Step] = []
        self._spent = 0
        self.written = ""

    def __enter__(self) -> "Draft":
        self._check_question()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, SteperError):
            error.steps = tuple(step for step in self._steps if step.completions)

    @property
    def step(self) -> int:
        """The number of the step being written, from 1."""
        return len(self._steps)

    @property
    def found_nothing(self) -> bool:
        """Whether no search has found a passage."""
        return not any(step.passages for step in self._steps)

    @property
    def tokens_left(self) -> int | None:
        """Tokens that the whole answer may still take, None for no bound."""
        budget = self.options.max_tokens
        return None if budget is None else max(0, budget - self._spent)

    @property
    def must_answer(self) -> bool:
        """Whether what is left of the token budget is only enough for the answer itself."""
        return self.tokens_left is not None and self.tokens_left <= ANSWER_TOKENS

    @property
    def cut_short(self) -> bool:
        """Whether tokens or time, and not the model, ended the last completion of this step."""
        done = self._steps[-1].completions if self._steps else ()
        return bool(done) and done[-1].finish_reason == "length"

    def search(self, query: str) -> Generator[Effect, Outcome, bool]:
        """Open the next step with a search; False if time ran out before it."""
        outcome = yield Retrieve(self.step + 1, query, self.options.top_k)
        if isinstance(outcome, OutOfTime):
            return False
        if isinstance(outcome, Completion):
            raise TypeError("a Retrieve was answered with a Completion")
        self.open(query, tuple(outcome))
        return True

    def open(self, query: str | None = None, passages: tuple[Passage, ...] = ()) -> None:
        """Open the next step, with what it searched for and found."""
        self._steps.append(Step(query, passages, "", ()))
        for passage in passages:
            self._passages.setdefault(passage.id, passage)

    def generate(
        self,
        *,
        lead: str = "",
        final: bool = False,
        ends: Ends,
        max_tokens: int,
    ) -> Generator[Effect, Outcome, str | None]:
        """Let the model go on after `written` and `lead`; None if time or room ran out.

        The step's thought grows by `lead` and what the model wrote, up to where it `ends`.
        """
        prompt = self._fitted(lead)
        if prompt is None:
            return None
        if (left := self.tokens_left) is not None:
            max_tokens = min(max_tokens, left if final else left - ANSWER_TOKENS)
        outcome = yield Generate(
            step=self.step,
            prompt=prompt,
            max_tokens=max(1, min(max_tokens, self._room(prompt.text, max_tokens))),
            stop=ends.stop,
            cut=ends.cut,
            sampling=self.options.sampling,
            lead=lead,
            final=final,
        )
        if isinstance(outcome, OutOfTime):
            return None
        if not isinstance(outcome, Completion):
            raise TypeError("a Generate was answered with passages")
        self._write(outcome, lead + outcome.text, final)
        return outcome.text

    def line_ends(self, *, first_sentence: bool = False) -> Ends:
        """The end of a line, or of its first sentence, for a model that ends none itself."""
        if self.format.step_end == "eos":
            return Ends(stop=("\n",))
        # It may well begin with a new line, where a stop string would end it at once.
        return Ends(cut=thought_end if first_sentence else line_end)

    def conclude(
        self, marker: str, read: Callable[[str], str], reason: StopReason
    ) -> Generator[Effect, Outcome, Trajectory]:
        """Append the answer marker, let the model fill it in, and end.

        `reason` is why the flow came to this; it becomes the stop reason if no answer comes of
        it, and stays "budget" beside one. A thought that was cut short is a reason of its own.
        """
        if self.cut_short:
            reason = "budget"
        if not self._steps:
            self.open()
        text = yield from self.generate(
            lead=marker,
            final=True,
            ends=self.line_ends(first_sentence=True),
            max_tokens=ANSWER_TOKENS * 2,
        )
        answer = read(one_line(text, self.format.special_tokens)) if text else ""
        return self.finish(answer, reason) if not answer or reason == "budget" else self.say(answer)

    def say(self, answer: str) -> Trajectory:
        """The finished trajectory of an answer; "budget" if the model was cut off inside it."""
        cut_off = self.cut_short and self._steps[-1].thought.endswith(answer)
        return self.finish(answer, "budget" if cut_off else "answer")

    def finish(self, answer: str, stop_reason: StopReason) -> Trajectory:
        """The finished trajectory, with its citations."""
        return Trajectory(
            strategy=self._strategy,
            question=self._question,
            steps=tuple(self._steps),
            answer=answer,
            stop_reason=stop_reason,
            citations=used_passages(self._steps),
            dropped=tuple(self._dropped),
        )

    def _write(self, completion: Completion, text: str, forced: bool) -> None:
        """Add a completion, and the text that came with it, to the open step."""
        step = self._steps[-1]
        thought = f"{step.thought}{text}".strip()
        completions = (*step.completions, completion)
        self._steps[-1] = Step(step.query, step.passages, thought, completions, forced)
        self._spent += completion.num_completion_tokens

    def _fitted(self, lead: str) -> Prompt | None:
        """The prompt, less what had to go for it to fit the model."""
        while True:
            context = Context(
                instruction=self.options.instruction,
                demonstrations=self._demonstrations,
                passages=tuple(self._passages.values()),
                question=self._asked,
                written=self.written + lead,
            )
            prompt = self._render(context, self.format)
            if self._fits(prompt.text):
                return prompt
            if not self._make_room():
                return None

    def _room(self, prompt: str, wanted: int) -> int:
        """Tokens that the model's context has left behind a prompt; at least `wanted` if so."""
        length = self.format.max_model_len
        if length is None or len(prompt.encode()) + _ADDED_TOKENS + wanted <= length:
            return wanted
        return length - self.format.count_tokens(prompt) - _ADDED_TOKENS

    def _refuse_beyond_all_bounds(self) -> None:
        """Refuse what is too long by any count, without the time that counting it takes."""
        limit = self.format.max_prompt_tokens * MOST_CHARACTERS_A_TOKEN
        if len(self._question) > limit:
            raise PromptTooLong(
                f"the question has {len(self._question):,} characters; this model reads at most "
                f"{self.format.max_prompt_tokens} tokens: ask a shorter question",
                param="messages",
            )

    def _check_question(self) -> None:
        """Refuse a question that leaves no room for a passage, before anything is spent on it."""
        bare = self._render(Context(self.options.instruction, (), (), self._asked, ""), self.format)
        if not self._fits(bare.text):
            raise PromptTooLong(
                f"the question takes {self.format.count_tokens(bare.text)} tokens with its prompt; "
                f"this model reads at most {self.format.max_prompt_tokens}: ask a shorter question",
                param="messages",
            )

    def _fits(self, text: str) -> bool:
        limit = self.format.max_prompt_tokens
        # No tokenizer makes more tokens than bytes, so that a short prompt need not be counted.
        return (
            len(text.encode()) + _ADDED_TOKENS <= limit or self.format.count_tokens(text) <= limit
        )

    def _make_room(self) -> bool:
        """Leave out one thing: a demonstration, else the passage that is needed least."""
        if self._demonstrations:
            self._demonstrations.pop(0)
            return True
        if not self._passages:
            return False
        # Oldest first: what no step has used, then what one has; this step's own find goes
        # last, its worst passage first.
        used = used_passages(self._steps)
        found = [p.id for p in reversed(self._steps[-1].passages)] if self._steps else []
        old = [id for id in self._passages if id not in found]
        unused = [id for id in old if id not in used]
        order = unused or old or [id for id in found if id in self._passages]
        del self._passages[order[0]]
        self._dropped[order[0]] = None
        return True

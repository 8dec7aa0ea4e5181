"""The tables of a recipe's TOML file, one frozen model each: what can be set, and its default.

A key that none of them knows is an error. What is left out: reading the file, and what follows
from several tables at once (config).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steper_serve.fictional import World
from steper_serve.fictional.names import NUM_VOCABULARIES
from steper_serve.generation.vllm_args import EngineArg

Target = Literal["cumulative", "next"]
Weighting = Literal["difficulty", "uniform", "first", "last"]
StepEnd = Literal["eos", "sentence"]
# Steps that a student learns from: a kind, or a step by its number (from 1).
StepChoice = Literal["first", "mid", "final"] | Annotated[int, Field(ge=1, le=10)]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
# It becomes the name of a file or a folder.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A table of the file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Fictional(Section):
    """Invented worlds to be generated, `worlds` of them; see `steper_serve.fictional`.

    Each is a dataset of its own, of the seeds from `seed` on. Many worlds with few questions teach
    reading; of one world with many, a small model learns the facts by heart.
    """

    seed: Annotated[int, Field(ge=0)]
    passages: Annotated[int, Field(ge=100)]
    questions: Count
    worlds: Count = 1


class DatasetConfig(Section):
    """Questions and the passages that answer them: given, or an invented world.

    `questions` and `corpus` are laid out as `datasets.read_questions` and `corpus.read` say;
    `limit` takes so many of the questions only, drawn at random.
    """

    name: Name
    corpus: Path | None = None
    questions: Path | None = None
    index: Path | None = None
    fictional: Fictional | None = None
    limit: Count | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = self.questions is not None and (self.corpus or self.index) is not None
        mixed = any((self.corpus, self.questions, self.index))
        if (self.fictional is not None and mixed) or (self.fictional is None and not given):
            raise ValueError("give either `fictional`, or `questions` with `corpus` or `index`")
        return self

    def worlds(self) -> tuple["DatasetConfig", ...]:
        """This dataset, or one for each of its worlds."""
        if self.fictional is None or self.fictional.worlds == 1:
            return (self,)
        first = self.fictional.seed
        alone = [
            self.fictional.model_copy(update={"seed": seed, "worlds": 1})
            for seed in range(first, first + self.fictional.worlds)
        ]
        return tuple(
            self.model_copy(update={"name": f"{self.name}-{world.seed}", "fictional": world})
            for world in alone
        )


class EndpointConfig(Section):
    """A model behind an OpenAI-compatible URL; the key itself stays in the environment."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    model: str
    api: Literal["completions", "chat"] = "completions"
    api_key_env: str | None = None
    vllm_extensions: bool = True
    tokenizer: str | None = None
    """Directory or hub id, for exact token counts and the chat template."""


class ModelConfig(Section):
    """A model to run the loop with: `model` by vLLM in this process, or an `endpoint`.

    `model` is a directory, a hub id, or "pretrain:NAME" for what [pretrain.NAME] makes. `style`
    and `prompts` are as when serving.
    """

    model: str | None = None
    endpoint: EndpointConfig | None = None
    style: Literal["auto", "student", "few-shot"] = "auto"
    prompts: Path | None = None
    max_model_len: Annotated[int, Field(ge=64)] | None = None
    kv_cache_gib: Positive | None = None
    enforce_eager: bool | None = None
    engine_args: Mapping[str, EngineArg] = {}

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("give either `model` or `endpoint`")
        return self


class TeacherConfig(ModelConfig):
    """Whose trajectories are learnt. `concurrency` is questions in flight.

    What it says is kept in the file `recorded`, if one is given, and not asked for again
    (recorded.py).
    """

    concurrency: Count = 32
    temperature: NotNegative = 0.0
    recorded: Path | None = None


class JudgeConfig(Section):
    """A model that says whether passages support a thought."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    model: str
    api_key_env: str | None = None
    concurrency: Count = 16


class FilterConfig(Section):
    """Which trajectories are kept.

    Args:
        match: "exact" keeps an answer that equals a gold answer after normalising (the paper),
            "accuracy" one that contains it.
        steps: what becomes of a trajectory with a thought that is not supported: "off" does not
            look, "drop" leaves the trajectory out, "cut" ends it before that thought.
        support: how support is found: "lexical" or "judge".
        threshold: lexical support that a thought needs, a share of its content words.
        judge: the endpoint, for `support = "judge"`.
    """

    match: Literal["exact", "accuracy"] = "exact"
    steps: Literal["off", "drop", "cut"] = "off"
    support: Literal["lexical", "judge"] = "lexical"
    threshold: Share = 0.5
    judge: JudgeConfig | None = None

    @model_validator(mode="after")
    def _has_its_judge(self) -> Self:
        if self.steps != "off" and self.support == "judge" and self.judge is None:
            raise ValueError('`support = "judge"` needs a table `judge` with base_url and model')
        return self


class ExamplesConfig(Section):
    """The step-wise samples; a student may choose another `target`."""

    target: Target = "cumulative"
    format: Literal["parquet", "jsonl"] = "parquet"


class BaseStudent(Section):
    """The model that every student starts from.

    `model` as in `ModelConfig`. `instruction` is the line before a question that the student is
    trained and then served with; `chat` says whether its chat template is used.
    """

    model: str
    instruction: str = ""
    chat: bool = False


class LoraConfig(Section):
    """Train low-rank adapters in place of all weights (peft); merged at the end."""

    r: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class MuonConfig(Section):
    """Train the layers' matrices by Muon in place of AdamW, as DeepSpeed has it.

    Embeddings, norms and the output layer stay with AdamW and `TrainConfig.learning_rate`; both
    rates follow one schedule. `learning_rate` is the spectral norm of an update of a matrix that
    is not taller than wide.
    """

    learning_rate: Positive = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95


class TrainConfig(Section):
    """How students are trained.

    The defaults are the paper's where it tells, but for `zero_stage` (3 there) and
    `gradient_checkpointing` (on there).

    Args:
        questions_per_batch: global batch over all ranks and accumulation steps, in questions:
            all step samples of a question stay together.
        tokens_per_micro_batch: the most tokens that one rank takes through the model at once.
        shared_prefix: compute what the samples of a question share once.
        sigma_learning_rate: of the difficulty weighting's σ, which has an optimizer of its own.
        scale_expansion: multiply the mid-steps' loss by their average number a question (eq. 3).
        max_tokens: end after so many tokens of training rather than by `epochs`.
        max_length: samples longer than this many tokens are left out, and counted.
        save_every: optimizer steps between checkpoints.
    """

    epochs: Positive = 2.0
    max_tokens: Count | None = None
    learning_rate: Positive = 5e-6
    sigma_learning_rate: Positive = 1e-2
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    questions_per_batch: Count = 32
    tokens_per_micro_batch: Count = 16384
    max_length: Count = 8192
    zero_stage: Literal[0, 1, 2, 3] = 0
    bf16: bool = True
    gradient_checkpointing: bool = False
    shared_prefix: bool = True
    weighting: Weighting = "difficulty"
    scale_expansion: bool = True
    save_every: Count = 200
    lora: LoraConfig | None = None
    # Not told where there is none, so that students are known by what they were before it.
    muon: MuonConfig | None = Field(default=None, exclude_if=lambda muon: muon is None)

    @model_validator(mode="after")
    def _muon_on_whole_gradients(self) -> Self:
        if self.muon is not None and self.zero_stage != 0:
            raise ValueError(
                "`muon` needs `zero_stage = 0`: in the other stages DeepSpeed clips its updates to "
                "`max_grad_norm`, not the gradients"
            )
        return self


class StudentConfig(Section):
    """A student: which steps it learns from, and what it sets differently from [train].

    Vanilla-KD is `steps = ["final"]` with `weighting = "uniform"`. It writes a whole path where
    nothing but itself ends its steps: `max_step_tokens` is how much it may write at a time then,
    in place of a thought's 128 tokens.
    """

    steps: Annotated[tuple[StepChoice, ...], Field(min_length=1)] = ("first", "mid", "final")
    target: Target | None = None
    weighting: Weighting | None = None
    epochs: Positive | None = None
    max_tokens: Count | None = None
    max_step_tokens: Count | None = None
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)


class EvaluatedModel(ModelConfig):
    """A model beside the students: the teacher, or the base with few-shot prompts.

    `step_ends` in place of the section's: how a step of it may end.
    """

    name: Name
    step_ends: Annotated[tuple[StepEnd, ...], Field(min_length=1)] | None = None


class EvaluateConfig(Section):
    """How students, and `models` beside them, are evaluated on every `dev` set.

    `made` is a folder of summaries of earlier evaluations; those of the same settings count.
    """

    step_ends: Annotated[tuple[StepEnd, ...], Field(min_length=1)] = ("eos", "sentence")
    concurrency: Count = 64
    limit: Count | None = None
    max_model_len: Annotated[int, Field(ge=64)] | None = None
    kv_cache_gib: Positive | None = None
    enforce_eager: bool | None = None
    models: tuple[EvaluatedModel, ...] = ()
    made: Path | None = None


# ---- stage 0 ------------------------------------------------------------------------------------


# Worlds of one vocabulary that stage 0 can use before those of its next `seed`.
_WORLDS_OF_A_SEED = 1000


_SHARES = {"answered", "described", "missing"}
_KEYS_OF_LESSONS = {
    "pairs": {"name", "tokens", "passages"},
    "kin": {"name", "tokens", "passages", "facts"} | _SHARES,
    "search": {"name", "tokens"} | _SHARES,
    "plan": {"name", "tokens"},
    "loop": {"name", "tokens", "plans"},
}


class LessonConfig(Section):
    """A lesson of stage 0, so many tokens of it (readings.py, lessons.py).

    "pairs" are lines of two names, up to `passages` of them. "kin" asks about up to `passages`
    entities of one kind: `facts` of each, or whole passages. "search" asks about passages that
    searches found. Of the questions of both, the share `described` is for who or what fits a
    description and the share `missing` for what no passage tells; the share `answered` is to be
    answered at once, not with the fact as a sentence. "plan" is what comes next in the reasoning
    where nothing was found; "loop" is the gold reasoner's trajectories, with `plans` questions of
    "plan" behind each.
    """

    name: Literal["pairs", "kin", "search", "plan", "loop"]
    tokens: Count
    passages: Annotated[int, Field(ge=2)] = 3
    facts: Count | None = None
    answered: Share = 0.0
    described: Share = 0.0
    missing: Share = 0.0
    plans: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _has_no_idle_key(self) -> Self:
        if idle := sorted(self.model_fields_set - _KEYS_OF_LESSONS[self.name]):
            raise ValueError(f"a lesson `{self.name}` has no use for `{'`, `'.join(idle)}`")
        return self


class PretrainConfig(Section):
    """[pretrain.NAME]: a Llama made on invented worlds; keys of [pretrain] hold for all of them.

    It begins from scratch or as `start`, a folder or "pretrain:NAME" (growth.py). `made` is a
    folder in which an earlier run of this very table has left its model: it is copied, not made
    anew.

    `lessons` are taught in their order; `strategies` are those of the loop (none for a model that
    only reads; one that is named twice is twice as frequent). The names of its worlds are those of
    the seeds `first_seed` to `last_seed`; a world of other seeds modulo 256 shares none of them.
    `lm_weight` weighs the loss on what is read beside that on what is answered. The learning rate
    falls from the share `decay_from` of the tokens on.
    """

    start: str | None = None
    made: Path | None = None
    layers: Count
    width: Count
    heads: Count
    feed_forward: Count
    vocabulary: Annotated[int, Field(ge=512)] = 3072
    context: Count = 2048
    seed: int = 0
    first_seed: Annotated[int, Field(ge=0)]
    last_seed: Annotated[int, Field(ge=0)]
    passages_per_world: Annotated[int, Field(ge=100)] = 4000
    questions_per_world: Count = 60
    strategies: tuple[Literal["ircot", "self-ask"], ...] = ()
    lessons: Annotated[tuple[LessonConfig, ...], Field(min_length=1)]
    tokens_per_batch: Count = 12_000
    tokens_per_micro_batch: Count = 8192
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    decay_from: Annotated[float, Field(ge=0, lt=1)] = 0.3
    lm_weight: Annotated[float, Field(ge=0)] = 0.5

    def world(self, number: int) -> World:
        """The `number`-th world to learn from, of endlessly many."""
        rounds, place = divmod(number, self.last_seed - self.first_seed + 1)
        rounds += self.seed * _WORLDS_OF_A_SEED
        return World(self.first_seed + place + NUM_VOCABULARIES * rounds, self.passages_per_world)

    @model_validator(mode="after")
    def _knows_its_loop(self) -> Self:
        if any(lesson.name == "loop" for lesson in self.lessons) != bool(self.strategies):
            raise ValueError("a lesson `loop` needs `strategies`, and `strategies` such a lesson")
        return self

    @model_validator(mode="after")
    def _has_worlds(self) -> Self:
        if not self.first_seed <= self.last_seed < self.first_seed + NUM_VOCABULARIES:
            raise ValueError(f"`last_seed` must be `first_seed` to {NUM_VOCABULARIES - 1} above it")
        return self

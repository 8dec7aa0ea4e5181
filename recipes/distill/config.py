"""A recipe's configuration: read from a TOML file, checked, and frozen.

    config = load(Path("recipes/distill/configs/fictional.toml"))

Relative paths are taken from the directory that the command runs in. A stage is known by a hash
of those settings that its outcome depends on (`stage_hash`, `student_hash`), earlier stages'
included: a stage whose manifest has the same hash is done. Settings that change how fast
something is done and not what comes of it (concurrency, an address) are in no hash. What is left
out: the single tables (sections), and the stages.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from steper_serve.errors import ConfigurationError
from steper_serve.fictional.names import NUM_VOCABULARIES
from steper_serve.recipes.distill import manifest
from steper_serve.recipes.distill.sections import (
    BaseStudent,
    DatasetConfig,
    EvaluateConfig,
    EvaluatedModel,
    ExamplesConfig,
    FilterConfig,
    ModelConfig,
    Name,
    PretrainConfig,
    Section,
    StepEnd,
    StudentConfig,
    Target,
    TeacherConfig,
    TrainConfig,
)
from steper_serve.strategies.options import MAX_STEPS, TOP_K

PRETRAINED = "pretrain:"
Stage = Literal["rollout", "filter", "examples"]
_ORDER: tuple[Stage, ...] = ("rollout", "filter", "examples")
# What changes the pace of a model and not what it writes.
_PACE = {"concurrency", "kv_cache_gib", "enforce_eager", "engine_args", "recorded"}
_PACE_OF_TRAINING = {"tokens_per_micro_batch", "gradient_checkpointing", "save_every"}
_NAMES = {"name", "step_ends"}
_ADDRESS = {"base_url", "api_key_env", "vllm_extensions"}


class Config(Section):
    """A whole recipe. `out` is the folder that everything it makes goes to."""

    name: str
    out: Path
    seed: int = 0
    strategy: Literal["ircot", "self-ask"] = "ircot"
    max_steps: Annotated[int, Field(ge=MAX_STEPS[0], le=MAX_STEPS[1])] = 5
    top_k: Annotated[int, Field(ge=TOP_K[0], le=TOP_K[1])] = 4
    pretrain: Mapping[Name, PretrainConfig] = {}
    datasets: Annotated[tuple[DatasetConfig, ...], Field(min_length=1)]
    dev: tuple[DatasetConfig, ...] = ()
    teacher: TeacherConfig
    filter: FilterConfig = FilterConfig()
    examples: ExamplesConfig = ExamplesConfig()
    student: BaseStudent
    train: TrainConfig = TrainConfig()
    students: Mapping[Name, StudentConfig] = {"steper": StudentConfig()}
    evaluate: EvaluateConfig = EvaluateConfig()

    @field_validator("pretrain", mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """What stands in [pretrain] itself holds for each of its tables that says nothing else."""
        if not isinstance(given, Mapping):
            return given
        tables = {name: table for name, table in given.items() if isinstance(table, Mapping)}
        common = {key: value for key, value in given.items() if key not in tables}
        return {name: {**common, **table} for name, table in tables.items()}

    @field_validator("datasets", "dev")
    @classmethod
    def _one_a_world(cls, given: tuple[DatasetConfig, ...]) -> tuple[DatasetConfig, ...]:
        return tuple(world for dataset in given for world in dataset.worlds())

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> Self:
        _check_distinct("dataset", [d.name for d in (*self.datasets, *self.dev)])
        students = [self.student_name(s, k) for s in self.students for k in self.students[s].seeds]
        _check_distinct("model", [*students, *(m.name for m in self.evaluate.models)])
        return self

    @model_validator(mode="after")
    def _models_are_made_before_they_are_used(self) -> Self:
        for model in (self.student.model, self.teacher.model, *_models(self.evaluate)):
            name = pretrained(model)
            if name is not None and name not in self.pretrain:
                raise ValueError(f"`{model}` needs a table [pretrain.{name}]")
        before: list[str] = []
        for own, table in self.pretrain.items():
            start = pretrained(table.start)
            if start is not None and start not in before:
                raise ValueError(f"[pretrain.{own}] needs a table [pretrain.{start}] before it")
            before.append(own)
        return self

    @model_validator(mode="after")
    def _dev_worlds_are_new(self) -> Self:
        """Nothing of a world that is learnt from occurs in one that is evaluated on."""
        learnt = {d.fictional.seed: f"`{d.name}`" for d in self.datasets if d.fictional}
        for name, table in self.pretrain.items():
            seeds = range(table.first_seed, table.last_seed + 1)
            learnt |= dict.fromkeys(seeds, f"[pretrain.{name}]")
        named = {seed % NUM_VOCABULARIES: where for seed, where in learnt.items()}
        for dev in self.dev:
            if dev.fictional and (where := named.get(dev.fictional.seed % NUM_VOCABULARIES)):
                raise ValueError(
                    f"the dev set `{dev.name}` (seed {dev.fictional.seed}) has the names of a "
                    f"world that is learnt from, by {where}: take another seed (modulo "
                    f"{NUM_VOCABULARIES})"
                )
        return self

    def train_for(self, student: str) -> TrainConfig:
        """[train] with what the student sets differently.

        Raises:
            ConfigurationError: there is no such student.
        """
        chosen = self._student(student)
        names = ("weighting", "epochs", "max_tokens")
        own = {n: v for n in names if (v := getattr(chosen, n)) is not None}
        if "epochs" in own:  # in place of whatever the section ends by
            own.setdefault("max_tokens", None)
        return self.train.model_copy(update=own)

    def target_for(self, student: str) -> Target:
        """What the student's samples hold: all reasoning so far, or the next step alone."""
        return self._student(student).target or self.examples.target

    def targets(self) -> tuple[Target, ...]:
        """Every target that some student learns from."""
        return tuple(dict.fromkeys(self.target_for(name) for name in self.students))

    def student_name(self, student: str, seed: int) -> str:
        """The folder's name beneath `students/`."""
        return f"{student}-seed{seed}"

    def model_path(self, model: str) -> str:
        """A directory or hub id; "pretrain:NAME" becomes the folder that stage 0 writes."""
        name = pretrained(model)
        return model if name is None else str(self.out / "pretrain" / name)

    def pretrain_hash(self, name: str) -> str:
        """What a model of stage 0 depends on: its table, those of the models that it starts from
        (of one that `made` has, its own alone), and the loop that it learns, if any."""
        return digest([self._table(name), *self._loop_of(name)])

    def rollout_hash(self, dataset: DatasetConfig) -> str:
        """What a rollout record is keyed by, beside its question's id."""
        teacher = self._model_identity(self.teacher)
        loop = {"strategy": self.strategy, "max_steps": self.max_steps, "top_k": self.top_k}
        seed = {"seed": self.seed} if self.teacher.temperature else {}
        return digest(teacher | loop | seed | {"data": _identity(dataset, limit=False)})

    def teacher_hash(self) -> str:
        """What the teacher itself is known by, whatever it is asked and wherever it runs."""
        endpoint, model = self.teacher.endpoint, self.teacher.model
        if (name := pretrained(model)) is not None:
            return self.pretrain_hash(name)
        if model is not None and (made := manifest.read(Path(model))) is not None:
            return made.config_hash
        return digest(endpoint.model if endpoint else model)

    def stage_hash(self, stage: Stage) -> str:
        """The hash of a stage that is run once, over all datasets."""
        return self._stage_hash(stage, self.targets())

    def _stage_hash(self, stage: Stage, targets: tuple[Target, ...]) -> str:
        limits = [(self.rollout_hash(d), d.name, d.limit) for d in self.datasets]
        depends: dict[Stage, Any] = {
            "rollout": limits,
            "filter": self.filter.model_dump(mode="json", exclude={"judge": _ADDRESS | _PACE}),
            "examples": [self.examples, targets, self._reads()],
        }
        return digest([depends[s] for s in _ORDER[: _ORDER.index(stage) + 1]])

    def student_hash(self, student: str, seed: int) -> str:
        """The hash of one student's training."""
        chosen, target = self._student(student), self.target_for(student)
        train = self.train_for(student).model_dump(mode="json", exclude=_PACE_OF_TRAINING)
        own = [chosen.steps, target, train, seed]
        return digest([self._stage_hash("examples", (target,)), *own])

    def trained_hash(self, folder: str) -> str | None:
        """The hash of the training of the student in `folder`, a name; None for no student."""
        found = self._trained(folder)
        return None if found is None else self.student_hash(*found)

    def evaluation_hash(self, model: str, dev: DatasetConfig, step_end: StepEnd) -> str:
        """The hash of one evaluation, of a student (by its folder's name) or an extra model."""
        extra = {m.name: m for m in self.evaluate.models}
        identity: Any = self.trained_hash(model) or self._model_identity(extra[model])
        loop = [self.strategy, self.max_steps, self.top_k, self.evaluate.limit]
        if (most := self.step_tokens_for(model, step_end)) is not None:
            loop.append(most)
        return digest([identity, _identity(dev), step_end, loop])

    def step_tokens_for(self, model: str, step_end: StepEnd) -> int | None:
        """How much a student (by its folder's name) may write at a time; None for the default."""
        found = self._trained(model)
        if found is None or step_end != "eos":
            return None
        return self.students[found[0]].max_step_tokens

    def _trained(self, folder: str) -> tuple[str, int] | None:
        """The student and the seed whose folder it is."""
        names = {
            self.student_name(s, k): (s, k) for s in self.students for k in self.students[s].seeds
        }
        return names.get(folder)

    def _student(self, name: str) -> StudentConfig:
        if name not in self.students:
            raise ConfigurationError(
                f"there is no student {name!r} in the recipe {self.name!r}; there are: "
                + ", ".join(self.students)
            )
        return self.students[name]

    def _reads(self) -> dict[str, Any]:
        """What the student's prompts depend on."""
        return self.student.model_dump(mode="json") | self._pretraining(self.student.model)

    def _model_identity(self, model: ModelConfig) -> dict[str, Any]:
        left_out: dict[str, Any] = dict.fromkeys(_PACE | _NAMES, True)
        left_out["endpoint"] = _ADDRESS
        told = model.model_dump(mode="json", exclude=left_out) | self._pretraining(model.model)
        if model.prompts is not None:
            files = sorted(model.prompts.glob("*.toml"))
            told["prompts"] = {file.name: file.read_text(encoding="utf-8") for file in files}
        return told

    def _pretraining(self, model: str | None) -> dict[str, Any]:
        name = pretrained(model)
        return {} if name is None else {"pretrain": self._table(name)}

    def _table(self, name: str) -> dict[str, Any]:
        table = self.pretrain[name]
        own = table.model_dump(mode="json", exclude={"made"})
        start = pretrained(table.start)
        if start is None or self._is_made_of(name, own):
            return own
        return own | {"from": self._table(start)}

    def _is_made_of(self, name: str, own: dict[str, Any]) -> bool:
        made = self.pretrain[name].made
        return made is not None and bool(
            manifest.finished(made, digest([own, *self._loop_of(name)]))
        )

    def _loop_of(self, name: str) -> list[int]:
        return [self.max_steps, self.top_k] if self.pretrain[name].strategies else []


def load(file: Path) -> Config:
    """The configuration in a TOML file.

    Raises:
        ConfigurationError: the file cannot be read, or a key or a value is wrong; names both.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"cannot read the recipe {file}: {error}") from error
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(f"{file}: " + "; ".join(_problems(error))) from error


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that stand for `value`."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def pretrained(model: str | None) -> str | None:
    """NAME of "pretrain:NAME"; None for any other model."""
    if model is None or not model.startswith(PRETRAINED):
        return None
    return model.removeprefix(PRETRAINED)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Section) else str(value)


def _models(evaluate: EvaluateConfig) -> list[str | None]:
    models: tuple[EvaluatedModel, ...] = evaluate.models
    return [model.model for model in models]


def _identity(dataset: DatasetConfig, *, limit: bool = True) -> dict[str, Any]:
    return dataset.model_dump(mode="json", exclude=None if limit else {"limit"})


def _check_distinct(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the {what}s are called `{name}`")


def _problems(error: ValidationError) -> list[str]:
    """One sentence a key; of a union's complaints the last: the widest type's."""
    told: dict[str, str] = {}
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            told[key] = f"unknown key `{key}`"
        elif problem["type"] == "missing":
            told[key] = f"`{key}` is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            told[key] = f"`{key}`: {message}" if key else message
    return list(told.values())

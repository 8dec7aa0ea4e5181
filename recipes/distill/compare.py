"""How far one evaluated model is ahead of another, question by question.

Both were asked the same questions, so that what makes one of these hard for both falls out of the
difference, and its interval is narrower than theirs. What is left out: asking (evaluate).
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from steper_serve import evaluation, questions
from steper_serve.evaluation import Score
from steper_serve.recipes.distill import datasets, evaluate
from steper_serve.recipes.distill.config import Config
from steper_serve.recipes.distill.evaluate import Trial
from steper_serve.recipes.distill.failures import StageMissing

_SCORES = {"em": "EM", "f1": "F1", "acc": "Acc", "acc_generated": "Acc*"}
_NOTE = "Points, with 95% intervals by bootstrap over questions"


def table(config: Config, first: str, second: str) -> str:
    """What `first` has more than `second`, by dev set, way of ending a step, and type of question.

    Raises:
        ConfigurationError: there is no dev set, or no model of a name.
        StageMissing: one of them has not been evaluated here, to its end; names it.
        BadRecord: what was answered cannot be read; names file and line.
    """
    subjects = {s.name: s for s in evaluate.chosen_subjects(config, [first, second])}
    one, other = (evaluate.trials_of(config, subjects[name]) for name in (first, second))
    for trial in (*one, *other):
        _check_answered(config, trial)
    found = {(t.dev.name, t.step_end): t for t in other}
    pairs = [(a, b) for a in one if (b := found.get((a.dev.name, a.step_end)))]
    head = (f"{first} − {second}", "questions", *_SCORES.values())
    return f"{evaluation.aligned([head, *_rows(config, pairs)])}\n{_NOTE}"


def _rows(config: Config, pairs: Sequence[tuple[Trial, Trial]]) -> Iterator[tuple[str, ...]]:
    for trials in pairs:
        dev, end = trials[0].dev, trials[0].step_end
        asked = questions.drawn(datasets.read_questions(config, dev), config.evaluate.limit)
        one, other = (evaluate.scores_of(config, trial, asked) for trial in trials)
        both = list(zip(one, other, strict=True))
        for name, group in _groups(both):
            ahead = (_ahead(group, score) for score in _SCORES)
            yield f"{end}, {dev.name}{name}", f"{len(group)}", *ahead


def _check_answered(config: Config, trial: Trial) -> None:
    if evaluate.is_answered(config, trial):
        return
    first = f"run `steper-serve distill evaluate … --model {trial.model}` first"
    if evaluate.is_told(config, trial):
        first = (
            f"{config.evaluate.made} has its summary alone. Train the model here, or leave `made` "
            f"out of [evaluate] where nothing is to be trained; then {first}"
        )
    raise StageMissing(
        f"{trial.name} has not been evaluated here, and its answers are compared: {first}"
    )


def _groups(
    both: Sequence[tuple[Score, Score]],
) -> Iterator[tuple[str, Sequence[tuple[Score, Score]]]]:
    yield "", both
    for type in sorted({one.type for one, _ in both} - {""}):
        yield f", {type}", [pair for pair in both if pair[0].type == type]


def _ahead(group: Sequence[tuple[Score, Score]], score: str) -> str:
    values = [100 * (getattr(one, score) - getattr(other, score)) for one, other in group]
    low, high = evaluation.interval(values)
    return f"{fmean(values):+.1f} [{low:+.1f}, {high:+.1f}]"

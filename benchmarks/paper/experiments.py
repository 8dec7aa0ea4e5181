"""The paper's tables and figures by name: what is measured for each, and how it is drawn.

What is left out: Table 5 (one example), and whatever the paper only describes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steper_serve.benchmarks.cells import Setting, matrix
from steper_serve.benchmarks.paper import figures, judged, scores, searches
from steper_serve.benchmarks.paper.findings import Finding
from steper_serve.benchmarks.paper.forms import RATIONALE, REASONING, Form
from steper_serve.benchmarks.paper.gathering import Gathered
from steper_serve.benchmarks.paper.verdicts import Verdicts
from steper_serve.errors import ConfigurationError

TOP_K = 4  # section 5.1
_STEPS = 5

Asked = tuple[tuple[str | None, int], ...]
_IRCOT: Asked = (("ircot", _STEPS),)


@dataclass(frozen=True, slots=True)
class Material:
    """What a finding is drawn from.

    Args:
        gathered: all that was measured.
        trained: what a served model was trained on, as the command line says.
        verdicts: of a judge, where one is asked.
    """

    gathered: Gathered
    trained: Mapping[str, str]
    verdicts: Verdicts | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """A table or figure.

    Args:
        find: draws it.
        asked: strategies and most steps that are measured unless the command line says.
        needs: what it is drawn from: answers, answers that were timed, or a recipe's trainings.
        form: what a judge fills in of each answer.
    """

    find: Callable[[Material], Finding]
    asked: Asked = _IRCOT
    needs: Literal["answers", "times", "trainings"] = "answers"
    form: Form | None = None

    def settings(
        self,
        models: Sequence[str],
        strategies: Sequence[str],
        max_steps: Sequence[int],
        top_k: Sequence[int],
    ) -> list[Setting]:
        """The settings of its requests; what the command line says goes before.

        Raises:
            ConfigurationError: a model id is a strategy already, and another is asked for.
        """
        pairs = [
            (strategy, steps)
            for strategy in self._strategies(models, strategies)
            for steps in max_steps or dict.fromkeys(steps for _, steps in self.asked)
        ]
        if not strategies and not max_steps and pairs[0][0] is not None:
            pairs = list(self.asked)
        return [
            setting
            for strategy, steps in pairs
            for setting in matrix(models, [strategy], [steps], top_k or [TOP_K])
        ]

    def _strategies(self, models: Sequence[str], strategies: Sequence[str]) -> list[str | None]:
        if strategies:
            return list(strategies)
        if any("-" in model for model in models):  # a model id that is a strategy
            return [None]
        return list(dict.fromkeys(strategy for strategy, _ in self.asked))


def _of_subjects(draw: Callable[..., Finding]) -> Callable[[Material], Finding]:
    return lambda material: draw(material.gathered.subjects)


def _of_verdicts(draw: Callable[..., Finding]) -> Callable[[Material], Finding]:
    def find(material: Material) -> Finding:
        if material.verdicts is None:
            raise ConfigurationError("this is drawn from a judge's verdicts: give --judge")
        return draw(material.gathered.subjects, material.verdicts)

    return find


EXPERIMENTS: Mapping[str, Experiment] = {
    "table1": Experiment(
        _of_subjects(scores.table1),
        asked=tuple((name, _STEPS) for name in ("direct", "single", "ircot", "self-ask")),
    ),
    "table2": Experiment(_of_subjects(scores.table2)),
    "table3": Experiment(_of_subjects(scores.table3), asked=(("self-ask", _STEPS),)),
    "table4": Experiment(_of_verdicts(judged.table4), form=RATIONALE),
    "table6": Experiment(
        _of_subjects(searches.table6), asked=tuple(("ircot", n) for n in range(3, 8))
    ),
    "table7": Experiment(_of_subjects(searches.table7)),
    "table8": Experiment(
        _of_subjects(searches.table8),
        asked=(("ircot", 3), ("ircot", 4), ("ircot", 5), ("single", _STEPS)),
    ),
    "fig3": Experiment(_of_verdicts(judged.fig3), form=REASONING),
    "fig4": Experiment(_of_subjects(scores.fig4)),
    "fig5": Experiment(lambda m: scores.fig5(m.gathered.subjects, m.trained)),
    "fig6": Experiment(lambda m: figures.fig6(m.gathered.rows, m.gathered.sizes), needs="times"),
    "fig7": Experiment(lambda m: figures.fig7(m.gathered.trainings), needs="trainings"),
}

"""Recall, duplicativeness and numbers of searches, by hand."""

import pytest

from steper_serve import evaluation
from steper_serve.benchmarks.cells import Cell
from steper_serve.benchmarks.paper import searches
from steper_serve.benchmarks.paper.answered import Answer, Subject
from steper_serve.evaluation import Answered
from steper_serve.questions import Question
from steper_serve.trajectory import Passage, Usage


def found(*titles: str) -> tuple[Passage, ...]:
    return tuple(Passage(title.lower(), title, "") for title in titles)


def answer(number: int, right: bool, *searched: tuple[Passage, ...]) -> Answer:
    question = Question(f"q{number}", "Who?", ("Ada",), ("A", "B"))
    told = Answered(
        "Ada" if right else "Bo",
        ("It is so.",) * len(searched),
        frozenset(p.title for search in searched for p in search),
        Usage(),
    )
    return Answer(question, told.thoughts, searched, evaluation.score_answer(question, told))


def failed(number: int) -> Answer:
    question = Question(f"q{number}", "Who?", ("Ada",), ("A", "B"))
    return Answer(question, (), (), evaluation.score_answer(question, None))


def subject(*answers: Answer, steps: int | None = 5, strategy: str = "ircot") -> Subject:
    cell = Cell("world", "", "student", "", (), "steper", strategy, steps, 4)
    return Subject(cell, answers)


def test_duplicativeness_is_what_earlier_searches_had_found_over_all_that_was_found():
    """4 + 4 + 2 were found; B, C again in the second, C and E again in the third: 4 of 10."""
    searched = (found("A", "B", "C", "D"), found("B", "C", "E", "F"), found("C", "E"))
    assert searches.duplicates(searched) == ["B", "C", "C", "E"]
    assert searches.duplicativeness(searched) == pytest.approx(4 / 10)
    assert searches.duplicativeness((found("A", "B"),)) == 0
    assert searches.duplicativeness(()) is None
    assert searches.duplicativeness(((),)) is None


def test_passages_are_told_apart_by_their_id_and_not_by_their_title():
    first, second = Passage("p1", "Same", ""), Passage("p2", "Same", "")
    assert searches.duplicativeness(((first,), (second,))) == 0
    assert searches.duplicativeness(((first,), (first,))) == 0.5


def test_of_duplicates_the_share_that_is_supporting():
    """Two duplicates, A (supporting) and X (not), of the first; B, supporting, of the second."""
    answers = [
        answer(1, True, found("A", "X"), found("A", "X", "Y")),
        answer(2, True, found("B"), found("B")),
    ]
    assert searches.supporting_share(answers) == pytest.approx(2 / 3)
    assert searches.supporting_share([answer(3, True, found("A"))]) is None


def test_table_8_averages_over_answers():
    """Recall 1/2 and 2/2; duplicativeness 0 of 2 and 1 of 3; one of two right."""
    told = subject(
        answer(1, True, found("A", "X")), answer(2, False, found("A"), found("A", "B")), steps=3
    )
    (line,) = searches.table8([told]).lines
    assert line.kind == "3 steps"
    assert line.values["Accuracy"] == 50
    assert line.values["Recall"] == pytest.approx(0.75)
    assert line.values["Duplicativeness"] == pytest.approx((0 + 1 / 3) / 2)
    assert line.values["Again relevant"] == 1
    assert line.shown("Recall").startswith("0.75 [")


def test_table_8_names_what_searches_once_or_never():
    subjects = [
        subject(answer(1, True, found("A")), strategy="single"),
        subject(answer(1, True), strategy="direct"),
    ]
    single, direct = searches.table8(subjects).lines
    assert (single.kind, single.values["Duplicativeness"]) == ("1 search", 0)
    assert (direct.kind, direct.shown("Duplicativeness")) == ("no search", "–")


def test_table_7_counts_by_the_exact_number_of_searches():
    """One search: right, wrong. Three: right. One question failed and has none."""
    told = subject(
        answer(1, True, found("A")),
        answer(2, False, found("B")),
        answer(3, True, found("A"), found("B"), found("C")),
        failed(4),
    )
    finding = searches.table7([told])
    answers, right, accuracy = finding.lines
    columns = ("1", "2", "3", "4", "5", "Total")
    assert [answers.values[c] for c in columns] == [2, 0, 1, 0, 0, 3]
    assert [right.values[c] for c in columns] == [1, 0, 1, 0, 0, 2]
    assert [accuracy.values[c] for c in columns[:3]] == [50, None, 100]
    assert accuracy.values["Total"] == pytest.approx(200 / 3)
    assert finding.notes[-1] == "Failed, without a search, and left out: 1."


def test_table_6_has_one_line_for_what_differs_in_its_steps_alone():
    told = [
        subject(answer(1, right, found("A")), steps=steps)
        for steps, right in ((3, False), (8, True))
    ]
    finding = searches.table6([*told, subject(answer(1, True, found("A")), steps=None)])
    (line,) = finding.lines
    assert line.name == "student, world"
    assert line.values == {"3": 0, "8": 100}
    assert finding.notes[-1].startswith("1 without --max-steps")

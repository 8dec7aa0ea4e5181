"""Invented worlds: what they promise, read off their passages and questions."""

import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from steper_serve import answers
from steper_serve.cli import main
from steper_serve.fictional import Entity, World, passage, questions, write
from steper_serve.fictional.draws import Pairing, Permutation
from steper_serve.fictional.names import word
from steper_serve.fictional.schema import KINDS, RELATIONS

WORLD = World(7, 3000)
PASSAGES = {p.title: p for p in (passage(WORLD, e) for e in WORLD.entities())}
QUESTIONS = list(questions(WORLD, 600))


def test_there_are_kinds_and_relations_enough() -> None:
    assert len(KINDS) >= 12
    assert len(RELATIONS) >= 30
    assert all(len(relation.tells) + len(relation.asks) >= 2 for relation in RELATIONS)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 12_345])
def test_a_permutation_is_a_bijection_and_its_inverse_undoes_it(size: int) -> None:
    permutation = Permutation.of(size, "test")
    assert sorted(map(permutation, range(size))) == list(range(size))
    assert [permutation.inverse(permutation(n)) for n in range(size)] == list(range(size))


@pytest.mark.parametrize(("subjects", "objects"), [(10, 3), (3, 10), (1000, 7), (5, 5)])
def test_a_pairing_read_backwards_is_the_pairing(subjects: int, objects: int) -> None:
    pairing = Pairing.of(subjects, objects, "test")
    forwards = {(pairing.object(s), s) for s in range(subjects)}
    assert forwards == {(o, s) for o in range(objects) for s in pairing.subjects(o)}


def test_words_are_one_of_a_kind_within_a_world_and_between_worlds() -> None:
    here, there = ({word(seed, n) for n in range(5000)} for seed in (3, 4))
    assert len(here) == len(there) == 5000
    assert not here & there


def test_nothing_in_one_world_occurs_in_another() -> None:
    other = World(8, 3000)
    names = set(re.findall(r"[A-Z][a-z]+", " ".join(PASSAGES)))
    others = {w for e in other.entities() for w in re.findall(r"[A-Z][a-z]+", other.title(e))}
    english = {"The", "A", "Mount", "University", "Park", "River", "Prize", "Museum", "Herald"}
    english |= {"Province", "Republic", "Quartet", "Works", "Rovers", "Nights", "Rising", "Road"}
    english |= {"Lanterns", "Return", "Winter", "Last", "Day", "Letters", "Beyond", "House"}
    english |= {"Farewell", "Other"}
    assert names & others <= english


def test_every_title_is_one_passage_s_alone() -> None:
    assert len(PASSAGES) == WORLD.num_passages == 3000
    assert len({p.id for p in PASSAGES.values()}) == 3000


def test_names_are_shared_as_they_are_in_life() -> None:
    names = Counter(re.sub(r" \(.*\)$", "", title) for title in PASSAGES)
    shared = sum(count for count in names.values() if count > 1)
    assert 0.05 < shared / len(PASSAGES) < 0.3
    assert any(re.search(r"\(\d{4} film\)$", title) for title in PASSAGES)


def test_passages_have_two_to_five_sentences() -> None:
    counts = Counter(len(re.findall(r"\.(?= |$)", p.text)) for p in PASSAGES.values())
    assert set(counts) <= {2, 3, 4, 5}
    assert all(len(p.text.split()) < 120 for p in PASSAGES.values())


def test_behind_a_semicolon_only_names_have_capitals() -> None:
    joined = re.findall(r"; (\w+)", " ".join(p.text for p in PASSAGES.values()))
    assert {word for word in joined if word in {"he", "she", "her", "his"}}
    assert not {word for word in joined if word in {"He", "She", "It", "His", "Her", "Its"}}


def test_a_fact_is_told_in_several_ways() -> None:
    told = Counter(
        re.sub(r"[A-Z][a-z]+( [A-Z][a-z]+)*|\d+", "X", sentence)
        for p in PASSAGES.values()
        if p.id.startswith("film-")
        for sentence in p.text.split(". ")
    )
    assert len([form for form, count in told.items() if count > 5]) > 12


@pytest.mark.parametrize("question", QUESTIONS[:60], ids=lambda q: q.id)
def test_each_gold_fact_stands_in_the_passage_that_it_names(question) -> None:  # type: ignore[no-untyped-def]
    for step in question.steps:
        if step.title is None:
            continue
        text = f"{step.title}. {PASSAGES[step.title].text}"
        answer = re.sub(r" \(.*\)$", "", step.answer)
        assert answer in text


def test_what_fits_a_description_is_named_behind_what_it_is_described_by() -> None:
    num_described = 0
    for first in (question.steps[0] for question in QUESTIONS):
        if not first.question.startswith("Which ") or first.answer != first.title:
            continue
        assert first.statement.removesuffix(".") in PASSAGES[first.title].text
        assert first.statement.endswith(f"{first.title.partition(' (')[0]}.")
        told = re.findall(r"[A-Z]\w+|\d{4}", first.question)[1:]
        assert all(word in first.statement for word in told)
        num_described += 1
    assert num_described > 60


def test_types_and_hops_are_what_was_asked_for() -> None:
    kinds = Counter((q.type, q.hops) for q in QUESTIONS)
    assert set(kinds) == {
        ("bridge", 2),
        ("bridge", 3),
        ("bridge", 4),
        ("comparison", 2),
        ("yes-no", 2),
        ("bridge-comparison", 4),
    }
    assert all(len(q.supporting_titles) == q.hops for q in QUESTIONS)
    assert len({q.question for q in QUESTIONS}) == len(QUESTIONS)
    assert 0.3 < sum(q.answers == ("yes",) for q in QUESTIONS) / kinds["yes-no", 2] < 0.9


def test_a_bridge_marks_its_last_fact_alone_as_asked_for() -> None:
    bridges = [q for q in QUESTIONS if q.type == "bridge"]
    for question in bridges:
        marked = [" asked of " in step.statement for step in question.steps]
        assert marked == [False] * (len(marked) - 1) + [True]
        assert " asked of " in question.steps[-1].missing[0]
    named_first = [q for q in bridges if q.question.startswith("Take ")]
    assert 0.4 < len(named_first) / len(bridges) < 0.8


def test_comparisons_are_answered_rightly() -> None:
    compared = [q for q in QUESTIONS if q.type == "comparison"]
    for question in compared:
        first, second = question.steps[:2]
        values = [int(step.answer.split()[0]) for step in (first, second)]
        greater = bool(re.search(r"later|longer|higher|larger", question.question))
        wanted = (first, second)[values.index(max(values) if greater else min(values))]
        name = next(a for a in question.answers if a in wanted.statement)
        assert answers.exact_match(name, question.answers)
    assert compared


def test_the_same_numbers_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write(tmp_path / "a", seed=3, passages=300, questions=50)
    code = (
        "from pathlib import Path; from steper_serve.fictional import write; "
        f"write(Path({str(tmp_path / 'b')!r}), seed=3, passages=300, questions=50)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONHASHSEED": "77"})
    for name in ("corpus.jsonl", "questions.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_world_of_a_million_passages_takes_no_more_memory_than_a_small_one() -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        world = World(1, size)
        for number, entity in enumerate(world.entities()):
            passage(world, entity)
            if number == 300:
                break
        list(questions(world, 30))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)  # what is loaded once
    assert peak(1_000_000) < 2 * peak(1000) + 500_000


def test_a_world_of_a_hundred_passages_is_whole() -> None:
    world = World(2, 100)
    assert len({world.title(e) for e in world.entities()}) == 100
    assert {e.kind for e in world.entities()} == {kind.name for kind in KINDS}


def test_too_small_a_world_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 100"):
        World(0, 99)


def test_more_questions_than_a_world_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's `questions` is the function; the module is behind it.
    module = sys.modules[questions.__module__]
    monkeypatch.setattr(module, "_MAKERS", dict.fromkeys(module._MAKERS, lambda *_: None))
    with pytest.raises(ValueError, match=r"100 passages has no more [a-z-]+ questions"):
        list(questions(World(0, 100), 1))


def test_spouses_are_each_other_s() -> None:
    spouse = next(r for r in RELATIONS if r.key == "person.spouse")
    pairs = {
        person: fact.object
        for person in (Entity("person", n) for n in range(WORLD.counts["person"]))
        if (fact := WORLD.fact(spouse, person))
    }
    assert pairs
    assert all(pairs[other] == person for person, other in pairs.items())


def test_too_many_questions_leave_no_file_in_the_way_of_fewer(tmp_path):
    run = ["fictional", "--seed", "3", "--passages", "100", "--out", str(tmp_path / "w")]
    refused = CliRunner().invoke(main, [*run, "--questions", "100000"])
    assert refused.exit_code == 1
    assert "ask for fewer --questions" in refused.stderr
    assert CliRunner().invoke(main, [*run, "--questions", "10"]).exit_code == 0
    assert len((tmp_path / "w" / "questions.jsonl").read_text().splitlines()) == 10
    (tmp_path / "file").write_text("")
    run[-1] = str(tmp_path / "file" / "w")
    refused = CliRunner().invoke(main, [*run, "--questions", "10"])
    assert refused.exit_code == 1
    assert f"cannot write {run[-1]}" in refused.stderr

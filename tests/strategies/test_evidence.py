"""Which passages the steps used, and in which order."""

import pytest

from steper_serve.strategies.evidence import used_passages, words
from steper_serve.trajectory import Passage, Step

BERG = Passage("berg", "Alma Berg", "Alma Berg was a Norwegian painter, born in Oslo in 1880.")
HARBOUR = Passage("harbour", "Grey Harbour (painting)", "It was painted by Alma Berg in 1912.")
NOVEL = Passage("novel", "Grey Harbour (novel)", "It was written by Jon Dahl and sold well.")
OSLO = Passage("oslo", "Oslo", "Oslo is the capital and the largest city of Norway.")
UNTITLED = Passage("untitled", "(1912)", "The lighthouse keeper counted seventeen ships then.")


def steps(*parts: tuple[list[Passage], str]) -> list[Step]:
    return [Step("q", tuple(passages), thought, ()) for passages, thought in parts]


@pytest.mark.parametrize(
    ("passages", "thought", "used"),
    [
        # Title and a word of the text beyond it.
        ([BERG, OSLO], "Alma Berg was born in 1880.", ["berg"]),
        # A title alone says nothing of the text.
        ([BERG], "Alma Berg is somebody.", []),
        # Words of the title do not count as words of the text.
        ([OSLO], "Oslo, Oslo!", []),
        # Part of a title is not the title.
        ([BERG], "Berg was born.", []),
        ([OSLO], "The Oslos have a capital.", []),
        # The qualifier of a title need not be said.
        ([HARBOUR], "Grey Harbour was painted in 1912.", ["harbour"]),
        # Stop words are not shared content.
        ([HARBOUR], "Grey Harbour was it by in.", []),
        # Case and punctuation are ignored.
        ([OSLO], "OSLO: the 'Capital'.", ["oslo"]),
        # Of namesakes, the one that shares most.
        ([HARBOUR, NOVEL], "Grey Harbour was written by Jon Dahl.", ["novel"]),
        ([NOVEL, HARBOUR], "Grey Harbour was painted by Alma Berg.", ["harbour"]),
        # Four fifths of at least three content words, without the title.
        ([UNTITLED], "The keeper counted seventeen ships.", ["untitled"]),
        ([UNTITLED], "The keeper counted seventeen blue ships.", ["untitled"]),
        ([UNTITLED], "The keeper counted seventeen big blue ships.", []),
        ([UNTITLED], "The keeper counted blue ships.", []),
        ([UNTITLED], "The keeper counted.", []),
        # Title words count towards the four fifths.
        ([BERG], "Berg, Norwegian painter", ["berg"]),
        # Nothing.
        ([BERG, OSLO], "", []),
        ([BERG, OSLO], "So the answer is: yes", []),
        ([], "Alma Berg was born in 1880.", []),
    ],
)
def test_a_thought_uses(passages, thought, used):
    assert list(used_passages(steps((passages, thought)))) == used


def test_two_passages_in_one_thought():
    thought = "Alma Berg was born in Oslo, the capital."
    assert set(used_passages(steps(([BERG, OSLO], thought)))) == {"berg", "oslo"}


def test_order_is_that_of_first_use_and_each_counts_once():
    trail = steps(
        ([BERG, HARBOUR], "Grey Harbour was painted in 1912."),
        ([OSLO], "Alma Berg was born in 1880."),
        ([BERG], "Grey Harbour was painted by the painter Alma Berg, born in 1880."),
        ([], "Oslo is the capital."),
    )
    assert used_passages(trail) == ("harbour", "berg", "oslo")


def test_a_thought_cannot_use_what_was_retrieved_later():
    early = steps(([OSLO], "Alma Berg was born in 1880."), ([BERG], "Thus nothing."))
    assert used_passages(early) == ()
    late = steps(([BERG], "Thus nothing."), ([OSLO], "Alma Berg was born in 1880."))
    assert used_passages(late) == ("berg",)


def test_of_two_passages_with_one_id_the_first_counts():
    twin = Passage("berg", "Alma Berg", "A sculptor.")
    trail = steps(([BERG], "Hm."), ([twin], "Alma Berg was a sculptor."))
    assert used_passages(trail) == ()


def test_words():
    assert words("The “Óbuda”-bridge, 3.5 km") == ("the", "óbuda", "bridge", "3", "5", "km")

"""Scores against values worked out by hand from the official HotpotQA and MuSiQue scripts."""

import re
import string
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.answers import accuracy, clean, exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("  a   Tale of\tthe two\nCities ", "tale of two cities"),
        # Punctuation goes before articles do, and leaves no space.
        ("the-man", "theman"),
        ("A.N. Other", "other"),
        ("U.S.", "us"),
        ("rock 'n' roll!", "rock n roll"),
        ("1,000", "1000"),
        ("3.5%", "35"),
        # Only whole words are articles.
        ("Another Anthem Theatre", "another anthem theatre"),
        # Only ASCII punctuation is punctuation.
        ("«Óbuda» – “x”", "«óbuda» – “x”"),
        ("ÉCOLE", "école"),
        ("The", ""),
        ("", ""),
    ],
)
def test_normalise(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("answer", "gold", "matches"),
    [
        ("the Danube.", ["Danube"], True),
        ("DANUBE", ["The  Danube"], True),
        ("Danube river", ["Danube"], False),
        ("yes", ["Yes."], True),
        ("yes", ["no"], False),
        ("19 June 2013", ["June 19, 2013", "19 June, 2013"], True),
        ("1000", ["1,000"], True),
        ("Škoda", ["Skoda"], False),
        ("", ["x"], False),
        ("x", [], False),
        ("The", ["a"], True),
    ],
)
def test_exact_match(answer, gold, matches):
    assert exact_match(answer, gold) == float(matches)


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        # 1 of 2 right, 1 of 1 found: 2 · ½ · 1 / 1½.
        ("Danube river", ["Danube"], Fraction(2, 3)),
        # 2 of 3 right, 2 of 4 found: 2 · ⅔ · ½ / (⅔ + ½).
        ("Maria Anna Curie", ["Maria Skłodowska-Curie of Anna x"], Fraction(4, 8)),
        # A word counts as often as both have it: 2 of 3, 2 of 2.
        ("New York New", ["New New"], Fraction(4, 5)),
        ("the Danube", ["a Danube!"], 1),
        ("Rome", ["Paris"], 0),
        # The best of all golds.
        ("New York City", ["Boston", "New York", "York"], Fraction(4, 5)),
        # Yes, no and noanswer match whole or not at all (HotpotQA, 2WikiMultiHopQA).
        ("yes", ["yes"], 1),
        ("yes it is", ["yes"], 0),
        ("no", ["no way"], 0),
        ("noanswer", ["noanswer given"], 0),
        ("not yes", ["yes not"], 1),
        ("", ["Rome"], 0),
        ("Rome", [""], 0),
        # MuSiQue: no words on both sides is a match.
        ("the", ["a"], 1),
        ("Rome", [], 0),
        ("5 December 1890", ["December 5, 1890"], 1),
    ],
)
def test_f1(answer, gold, score):
    assert f1(answer, gold) == pytest.approx(float(score), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "gold", "holds"),
    [
        ("He was born in the city of Rome.", ["Rome"], True),
        ("It is The Eiffel Tower!", ["an Eiffel tower"], True),
        ("Romeo", ["Rome"], False),
        ("north", ["no"], False),
        ("no, it is not", ["No"], True),
        ("New York", ["New York City"], False),
        ("either", ["x", "either"], True),
        ("anything", [""], False),
        ("anything", ["the"], False),
        ("the", ["a"], False),
        ("anything", [], False),
        ("", ["x"], False),
    ],
)
def test_accuracy(text, gold, holds):
    assert accuracy(text, gold) == float(holds)


def official_words(text: str) -> list[str]:
    """`normalize_answer` of the official scripts, step by step."""
    lower = text.lower()
    bare = "".join(character for character in lower if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


@pytest.mark.parametrize(
    ("answer", "gold", "em", "score"),
    [
        # Articles are words of their own, wherever they stand, after punctuation has gone.
        ("Kingdom of the Isles", ["The Kingdom of Isles"], 1, 1),
        ("Plan A", ["Plan B"], 0, Fraction(2, 3)),  # {plan} of {plan} and {plan, b}
        ("A & B", ["B"], 1, 1),
        ("Theatre", ["The atre"], 0, 0),
        # Punctuation leaves no space: a hyphen joins, a slash does too.
        ("Jay-Z", ["Jay Z"], 0, 0),
        ("Jay-Z", ["JayZ"], 1, 1),
        ("AC/DC", ["ACDC"], 1, 1),
        ("a.m.", ["am"], 1, 1),
        ("Rock_and_roll", ["rockandroll"], 1, 1),
        # Numbers are words: no value is read from them.
        ("1,234", ["1234"], 1, 1),
        ("3.5", ["35"], 1, 1),
        ("$5 million", ["5 million"], 1, 1),
        ("three", ["3"], 0, 0),
        ("1st", ["first"], 0, 0),
        ("from 1986 to 2013", ["1986 to 2013"], 0, Fraction(6, 7)),
        # Yes, no and noanswer are worth nothing in part, on either side.
        ("Yes.", ["yes"], 1, 1),
        ("yes, both were", ["yes"], 0, 0),
        ("both", ["no"], 0, 0),
        ("no", ["no", "none of them"], 1, 1),
        ("the yes", ["yes"], 1, 1),
        # The best of the answer and its aliases, each score for itself.
        ("JFK", ["John F. Kennedy", "JFK", "Kennedy"], 1, 1),
        ("President Kennedy", ["John F. Kennedy", "Kennedy"], 0, Fraction(2, 3)),
        ("yes sir", ["yes", "yes sir, I do"], 0, Fraction(2, 3)),  # 2 of 2, 2 of 4
    ],
)
def test_the_official_scorers_cases(answer, gold, em, score):
    """What the definitions of HotpotQA, 2WikiMultiHopQA and MuSiQue give, worked out by hand; for
    "yes" and "no" those of the first two, since MuSiQue's scorer has no rule for them."""
    assert exact_match(answer, gold) == em
    assert f1(answer, gold) == pytest.approx(float(score), abs=1e-12)


words = st.sampled_from(["the", "a", "an", "yes", "no", "Rome", "rome.", "U.S.", "3,5", "é", ""])
phrases = st.lists(words, max_size=6).map(" ".join)


@given(phrases, phrases)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(answer, gold):
    ours, theirs = official_words(answer), official_words(gold)
    closed = [["yes"], ["no"], ["noanswer"]]
    left = list(theirs)
    common = 0
    for word in ours:
        if word in left:
            left.remove(word)
            common += 1
    if ours == theirs:
        expected = Fraction(1)
    elif ours in closed or theirs in closed or not common:
        expected = Fraction(0)
    else:
        precision, recall = Fraction(common, len(ours)), Fraction(common, len(theirs))
        expected = 2 * precision * recall / (precision + recall)
    assert f1(answer, [gold]) == pytest.approx(float(expected), abs=1e-12)
    assert exact_match(answer, [gold]) == float(ours == theirs)
    assert exact_match(answer, [gold]) <= f1(answer, [gold]) <= 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**Paris**.", "Paris"),
        ("** Paris.", "Paris"),
        ("`42`", "42"),
        (" Rome.", "Rome"),
        ("Rome", "Rome"),
        ("\n \n Rome.\nQ: what?", "Rome"),
        ('"Rome".', "Rome"),
        ('"Rome."', "Rome"),
        ('" Rome "', "Rome"),
        ("“Rome”.", "Rome"),
        ("“Rome.”", "Rome"),
        ("Washington, D.C.", "Washington, D.C."),
        ("the U.S.", "the U.S."),
        ("Sammy Davis Jr.", "Sammy Davis Jr"),
        ("3.5 million", "3.5 million"),
        ("14 May 1963.", "14 May 1963"),
        ("Who's Afraid of Virginia Woolf?", "Who's Afraid of Virginia Woolf?"),
        ('the song "Hey Jude" by the Beatles.', 'the song "Hey Jude" by the Beatles'),
        ('the song "Hey Jude"', 'the song "Hey Jude"'),
        ('"Heroes" by David Bowie', '"Heroes" by David Bowie'),
        ("", ""),
        (" \n ", ""),
        (".", ""),
        ('""', ""),
        ('" " "', ""),
        ("...", ""),
    ],
)
def test_clean(text, answer):
    assert clean(text) == answer


@given(st.text(max_size=30))
def test_a_clean_answer_is_one_line_and_stays_as_it_is(text):
    answer = clean(text)
    assert answer == answer.strip()
    assert len(answer.splitlines()) <= 1
    assert clean(answer) == answer

"""Where a sentence ends, on whole texts and on streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.strategies.sentences import line_end, sentence_end, thought_end

# The first sentence, then what follows it.
ENDS = [
    ("He died in Rome.", "She lived."),
    ("The film was made by Edward L. Cahn.", "He died in 1963."),
    ("J. R. R. Tolkien wrote it.", "It sold well."),
    ("He served in the U.S. Army.", "Later he left."),
    ("It rose by 3.5 million.", "Then it fell."),
    ("It costs $3.5.", "Nobody buys it."),
    ("It measures 1,234.75.", "It is long."),
    ("Dr. Berg met Mrs. Holm on St. Olav's day.", "They spoke."),
    ("Chanel No. 5 is a perfume.", "It was made in 1921."),
    ("The answer is no.", "They are not related."),
    ("He moved on Jan. 3 to Oslo.", "Snow fell."),
    ("Acme Corp. v. Beta Inc. was heard.", "It was lost."),
    ("Is it so?", "Perhaps."),
    ("It is!", "Really."),
    ("What?!", "Yes."),
    ("He paused...", "Then he went."),
    ("He paused ...", "Then he went."),
    ('He said "no."', "Then he left."),
    ("He said “no.”", "Then he left."),
    ("(It was late.)", "They slept."),
    ("It was late [and cold.]", "They slept."),
    ("It was late.", '"And cold," she said.'),
    ("It was late.", "(And cold.)"),
    ("It was late.", "iPods were new."),
    ("It was late.", "1963 came."),
    ("Oslo liegt in Norwegen.", "Übrigens nicht in Schweden."),
]


@pytest.mark.parametrize(("first", "rest"), ENDS)
@pytest.mark.parametrize("space", [" ", "\n", "\u00a0", "  "])
def test_first_sentence(first, rest, space):
    assert sentence_end(f"{first}{space}{rest}") == len(first)


@pytest.mark.parametrize(("first", "rest"), ENDS)
def test_it_is_not_known_before_the_next_word(first, rest):
    opening = rest[: len(rest) - len(rest.lstrip('"('))]
    assert sentence_end(f"{first} {opening}") is None
    assert sentence_end(f"{first} {rest[: len(opening) + 1]}") == len(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "He died in Rome",
        "He died in Rome.",
        "He died in Rome. ",
        "Edward L. Cahn",
        "the U.S. Army",
        "at 5 p.m. on Sunday",
        "about 3.5 million",
        "No. 5",
        "Mr. and Mrs. Berg",
        "e.g. Oslo",
        "Brown v. Board",
        "built c. 1880",
        "Smith et al. wrote",
        "www.example.com is",
    ],
)
def test_no_end(text):
    assert sentence_end(text) is None


words = st.sampled_from(
    [
        "He",
        "left",
        "Rome",
        "U.S",
        "L",
        "Dr",
        "3.5",
        "no",
        "5",
        "Inc",
        "said",
        '"',
        "(",
        ")",
        "”",
        "é",
    ]
)
marks = st.sampled_from([".", "!", "?", "...", ".”", '."', ".)", " ", " ", "\n", ",", ""])
prose = st.lists(st.one_of(words, marks), max_size=25).map("".join)


@given(st.one_of(prose, st.text(max_size=40)))
def test_a_stream_ends_where_the_whole_text_ends(text):
    end = sentence_end(text)
    ends = [sentence_end(text[:n]) for n in range(len(text) + 1)]
    known = [e for e in ends if e is not None]
    assert set(known) <= {end}
    # Once known it stays known: None, None, …, end, end.
    assert ends == [None] * (len(ends) - len(known)) + known
    if end is not None:
        assert text[:end].strip()
        assert text[end].isspace()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("\n\nIt was so.\nThen", len("\n\nIt was so.")),
        (" One. Two.\nThree", len(" One. Two.")),
        ("\n", None),
        (" One", None),
    ],
)
def test_line_end_is_behind_the_first_line_with_text(text, end):
    assert line_end(text) == end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("\n\nIt was so. Then", len("\n\nIt was so.")),
        (" no full stop\nThen", len(" no full stop")),
        (" Edward L. Cahn", None),
    ],
)
def test_thought_end_is_the_first_of_both(text, end):
    assert thought_end(text) == end

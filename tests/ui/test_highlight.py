"""Which sentence of a passage a thought used."""

import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_serve.ui.highlight import cut, sentences, used_sentence, words_of


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two!  Three?", ["One.", "Two!", "Three?"]),
        ("Edward L. Cahn made it. He lived.", ["Edward L. Cahn made it.", "He lived."]),
        ("Dr. May met St. John.", ["Dr. May met St. John."]),
        ('"It is." So he said', ['"It is."', "So he said"]),
        ("No end", ["No end"]),
        ("1.5 km long. Wide.", ["1.5 km long.", "Wide."]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == parts


@given(st.text(alphabet='ab. !?\n"L', max_size=60))
def test_sentences_hold_every_word_once_and_in_order(text: str) -> None:
    spans = sentences(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(a < b for a, b in spans)


PASSAGE = "It has 900 people. The town lies in Mujar. It is known for its harbour."


@pytest.mark.parametrize(
    ("thought", "sentence"),
    [
        ("Mubo Falls is in the country of Mujar.", "The town lies in Mujar."),
        ("Mubo Falls lies in Mujar.", "The town lies in Mujar."),
        ("Mubo Falls is known for its harbour.", "It is known for its harbour."),
        ("So the answer is: Mujar.", None),
        ("Mubo Falls", None),
        ("Zohol Zalur was born elsewhere.", None),
        ("", None),
    ],
)
def test_the_sentence_that_holds_the_thought(thought: str, sentence: str | None) -> None:
    span = used_sentence("Mubo Falls", PASSAGE, [thought])
    assert (span and PASSAGE[slice(*span)]) == sentence


def test_on_the_bundled_questions_gold_thoughts_find_their_gold_passages() -> None:
    folder = files("steper_serve") / "assets" / "corpus"
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    texts = {p["title"]: p["text"] for p in map(json.loads, lines)}
    hits = total = 0
    for line in (folder / "questions.jsonl").read_text().splitlines():
        question = json.loads(line)
        thoughts = [step["statement"] for step in question["steps"]]
        for title in question["supporting_titles"]:
            total += 1
            hits += used_sentence(title, texts[title], thoughts) is not None
    assert hits / total > 0.8


def test_words_of_a_query() -> None:
    text = "The Lumen is a film; the lumen's maker."
    assert [text[a:b] for a, b in words_of("Where is the Lumen?", text)] == ["Lumen", "lumen"]
    assert [text[a:b] for a, b in words_of("the", text)] == ["The", "the"]


@given(st.text(max_size=40), st.text(max_size=10))
def test_pieces_are_the_text_again(text: str, query: str) -> None:
    assert "".join(piece for piece, _ in cut(text, words_of(query, text))) == text

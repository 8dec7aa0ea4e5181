"""Few-shot prompts: the project's own files, a user's, and which model gets them."""

import pytest

from steper_serve.errors import ConfigurationError
from steper_serve.loop import Ask, Loop
from steper_serve.strategies import STRATEGIES, FewShot, demonstrations, options_for
from steper_serve.strategies.ircot import parse_answer
from steper_serve.strategies.sentences import sentence_end
from steper_serve.trajectory import Demonstration, Passage

SHOT = Demonstration("Where?", (Passage("demonstration-0", "Oslo", "A city."),), ("Hm.",), "Oslo")
FEW = FewShot("Do it.", (SHOT,))

WHOLE = """
instruction = "Do it."
[[demonstrations]]
question = "Where?"
thoughts = ["Hm."]
answer = "Oslo"
passages = [{ title = "Oslo", text = "A city." }]
"""


@pytest.mark.parametrize(("file", "number"), [("ircot.toml", 7), ("self-ask.toml", 3)])
def test_the_projects_own_demonstrations(file, number):
    """As many as the paper's (Tables 10 and 14), each in its strategy's own form."""
    few_shot = demonstrations.load(file)
    assert few_shot.instruction
    assert len(few_shot.demonstrations) == number
    for shown in few_shot.demonstrations:
        assert shown.question.endswith("?")
        assert shown.passages
        assert shown.answer
        if file == "ircot.toml":
            # One sentence a thought, none of which states the answer.
            assert [sentence_end(f"{t} Next") for t in shown.thoughts] == list(
                map(len, shown.thoughts)
            )
            assert all(parse_answer(t) is None for t in shown.thoughts)
        else:
            asked, answered = shown.thoughts[::2], shown.thoughts[1::2]
            assert len(asked) == len(answered)
            assert all(t.startswith("Follow up: ") and t.endswith("?") for t in asked)
            assert all(t.startswith("Intermediate answer: ") for t in answered)


def test_every_strategy_has_a_file():
    for strategy in STRATEGIES.values():
        assert demonstrations.load(strategy.prompt_file).demonstrations


def test_a_users_file_replaces_ours(tmp_path):
    (tmp_path / "ircot.toml").write_text(WHOLE)
    assert demonstrations.load("ircot.toml", tmp_path) == FEW


def test_both_parts_may_be_left_out(tmp_path):
    (tmp_path / "ircot.toml").write_text("")
    assert demonstrations.load("ircot.toml", tmp_path) == FewShot("", ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("instruction = = 1", "cannot read the demonstrations"),
        (b"instruction = '\xff'", "cannot read the demonstrations"),
        ("instruction = 1", "`instruction` is not a text"),
        ("demonstration = []", "unknown key 'demonstration'"),
        ("demonstrations = 'x'", "`demonstrations`"),
        ("demonstrations = {}", "`demonstrations`"),
        ("demonstrations = ['x']", "no. 1"),
        (WHOLE.replace('question = "Where?"', ""), "no. 1: `question` must be"),
        (WHOLE.replace('"Oslo"\npassages', "3\npassages"), "no. 1: `answer` must be"),
        (WHOLE.replace('["Hm."]', '"Hm."'), "no. 1: `thoughts` must be"),
        (WHOLE.replace('["Hm."]', "[1]"), "no. 1: each of `thoughts` must be"),
        (WHOLE.replace('title = "Oslo", ', ""), "each passage must have `title` and `text`"),
        (WHOLE.replace('title = "Oslo"', "title = 3"), "each passage must have `title` and `text`"),
        (WHOLE.replace('[{ title = "Oslo", text = "A city." }]', "[1]"), "each passage must have"),
        (WHOLE + 'note = "x"', "no. 1: it must be a table of question, thoughts, answer, passages"),
        (WHOLE + WHOLE.replace('instruction = "Do it."', "").replace("Where?", ""), None),
    ],
)
def test_a_malformed_file_is_refused_where_it_is_wrong(tmp_path, text, complaint):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "ircot.toml").write_bytes(content)
    if complaint is None:
        assert len(demonstrations.load("ircot.toml", tmp_path).demonstrations) == 2
        return
    with pytest.raises(ConfigurationError) as refused:
        demonstrations.load("ircot.toml", tmp_path)
    assert str(tmp_path / "ircot.toml") in str(refused.value)
    assert complaint in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"other\.toml"):
        demonstrations.load("other.toml", tmp_path)


def test_a_student_gets_the_bare_prompt(student):
    options = options_for("ircot", student(strategies=("ircot",)), FEW)
    assert (options.instruction, options.demonstrations) == ("", ())
    assert options.format.step_end == "eos"


def test_a_student_asked_for_another_strategy_is_shown_how(student):
    options = options_for("self-ask", student(strategies=("ircot",)), FEW)
    assert (options.instruction, options.demonstrations) == ("Do it.", (SHOT,))
    assert options.format.step_end == "sentence"


def test_an_untuned_model_is_shown_how(student):
    untuned = student(instruction=None, few_shot=True, step_end="sentence")
    options = options_for("ircot", untuned, FEW)
    assert (options.instruction, options.demonstrations) == ("Do it.", (SHOT,))


def test_a_model_may_have_an_instruction_of_its_own(student):
    options = options_for("ircot", student(instruction="Mine.", few_shot=False), FEW)
    assert (options.instruction, options.demonstrations) == ("Mine.", ())


def test_direct_neither_shows_passages_nor_speaks_of_them():
    few_shot = demonstrations.load(STRATEGIES["direct"].prompt_file)
    assert few_shot.demonstrations
    assert [p for shown in few_shot.demonstrations for p in shown.passages] == []
    assert "passage" not in few_shot.instruction


@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
def test_a_loop_makes_the_flow_that_was_asked_for(student, strategy):
    loop = Loop(None, None, student(), dict.fromkeys(STRATEGIES, FEW), top_k=3)
    effect = next(loop.flow(Ask("Where?", strategy)))
    assert effect.step == 1
    assert getattr(effect, "top_k", None) == (None if strategy == "direct" else 3)

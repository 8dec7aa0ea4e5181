"""How far one model is ahead of another, by the answers of both to the same questions."""

import re

import pytest

from steper_serve.recipes.distill import compare, evaluate
from steper_serve.recipes.distill.failures import StageMissing
from tests.recipes.test_evaluate import Opener, recipe
from tests.recipes.worlds import reason

NAMES = ("steper-seed0", "vanilla-seed0")


def mostly(request) -> str:
    """The right answer, but to every third question."""
    number = int(request.prompt.text.rpartition("painter of Work ")[2].split()[0])
    return reason(request) if number % 3 else " So the answer is: Nowhere."


async def test_the_difference_is_by_question(tmp_path):
    config = recipe(tmp_path, students={"steper": {}, "vanilla": {}})
    for name, respond in zip(NAMES, (reason, mostly), strict=True):
        await evaluate.run(config, Opener(respond), only=[name])
    head, *rows, note = compare.table(config, *NAMES).splitlines()
    assert head.startswith("steper-seed0 − vanilla-seed0")
    assert "bootstrap over questions" in note
    assert [row.partition("  ")[0] for row in rows[::2]] == ["eos, dev", "sentence, dev"]
    for row in rows:
        # Two of six: 33.3 points, and as two questions can be drawn never and six times.
        num, em, low, high = re.findall(r"[+-]?[\d.]+", row)[:4]
        assert (num, em) == ("6", "+33.3")
        assert 0 <= float(low) < 33.3 < float(high) <= 100
    # What both got wrong or right is no difference.
    for row in compare.table(config, NAMES[1], NAMES[1]).splitlines()[1:-1]:
        assert set(re.findall(r"[+-][\d.]+", row)) == {"+0.0"}
    back = compare.table(config, *reversed(NAMES)).splitlines()[1]
    assert "-33.3" in back


async def test_what_was_not_answered_here_is_named(tmp_path):
    config = recipe(tmp_path, students={"steper": {}, "vanilla": {}})
    await evaluate.run(config, Opener(), only=[NAMES[0]])
    with pytest.raises(StageMissing, match=r"vanilla-seed0-eos-dev has not been .*--model vanilla"):
        compare.table(config, *NAMES)


async def test_where_a_summary_alone_is_bundled_it_says_what_to_do(tmp_path):
    whole = recipe(tmp_path)
    await evaluate.run(whole, Opener())
    made = {"made": (whole.out / "evaluations").rename(tmp_path / "bundled")}
    (whole.out / "students" / "steper-seed0" / "manifest.json").unlink()
    config = whole.model_copy(update={"evaluate": whole.evaluate.model_copy(update=made)})
    with pytest.raises(StageMissing, match=r"bundled has its summary alone.*leave `made`"):
        compare.table(config, "steper-seed0", "steper-seed0")

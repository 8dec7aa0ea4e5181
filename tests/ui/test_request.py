"""What is copied asks the same: read back by a shell, by Python, and from the link."""

import ast
import json
import shlex
from urllib.parse import parse_qsl

import pytest

from steper_serve.ui.request import Ask, as_curl, as_python

ASKS = [
    Ask("Where was it made?"),
    Ask('Who\'s "it"? $HOME `ls` \\ & é\nnext', "steper-ircot", 3, 7, 0.5, 12),
    Ask("{{'} </script>", temperature=1.0),
]
URL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("ask", ASKS)
def test_curl_sends_the_same_body(ask: Ask) -> None:
    words = shlex.split(as_curl(ask, URL).replace("\\\n", " "))
    assert words[:3] == ["curl", "-sN", f"{URL}/chat/completions"]
    assert json.loads(words[-1]) == {**ask.body(), "stream": True}


@pytest.mark.parametrize("ask", ASKS)
def test_python_sends_the_same_body(ask: Ask) -> None:
    program = ast.parse(as_python(ask, URL))
    calls = [node for node in ast.walk(program) if isinstance(node, ast.Call)]
    create = next(c for c in calls if ast.unparse(c.func).endswith("completions.create"))
    sent = {k.arg: ast.literal_eval(k.value) for k in create.keywords}
    body = ask.body()
    del body["steper"]["trace"]  # which the program does not read
    assert {**sent.pop("extra_body"), **sent} == {**body, "stream": True}
    assert URL in ast.unparse(program)


@pytest.mark.parametrize("ask", ASKS)
def test_a_link_reproduces_question_and_settings(ask: Ask) -> None:
    params = dict(parse_qsl(ask.link().removeprefix("?")))
    assert Ask.of_link(params, Ask("", "other", 9, 9, 2.0)) == ask


def test_a_link_that_holds_nonsense_falls_back() -> None:
    default = Ask("", "steper", 5, 4, 0.0)
    params = {"max_steps": "99", "top_k": "x", "temperature": "nan", "seed": "1e3", "model": ""}
    assert Ask.of_link(params, default) == default
    for seed in ("1_0", "9223372036854775808", "٣"):
        assert Ask.of_link({"seed": seed}, default).seed is None
    assert Ask.of_link({"seed": "-9223372036854775808"}, default).seed == -(2**63)


def test_a_key_is_never_copied_but_where_it_is_taken_from() -> None:
    ask = Ask("Who?", keyed=True)
    assert '"Authorization: Bearer $API_KEY"' in as_curl(ask, URL)
    assert 'api_key=os.environ["API_KEY"]' in as_python(ask, URL)
    ast.parse(as_python(ask, URL))
    assert "API_KEY" not in as_curl(Ask("Who?"), URL) + as_python(Ask("Who?"), URL)


def test_greedy_asks_send_no_sampling() -> None:
    assert not {"temperature", "seed"} & Ask("Who?", seed=3).body().keys()
    assert Ask("Who?", temperature=0.5, seed=3).body()["seed"] == 3

"""What a client is told of a model that fails, by the official client over a real socket."""

import httpx
import openai
import pytest

from steper_serve.errors import EngineUnavailable
from steper_serve.generation.scripted import ScriptedModel
from steper_serve.trajectory import Generate
from tests.api.serving import ASKED, THOUGHTS, client_of, make_loop, served, streamed_to


async def test_a_failure_before_the_first_text_has_its_status() -> None:
    model = ScriptedModel([EngineUnavailable("the engine is down")] * 2)
    async with client_of(make_loop(model)) as client:
        for streamed in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(
                    model="steper", messages=ASKED, stream=streamed
                )
            assert caught.value.status_code == 503
            assert caught.value.code == "engine_unavailable"


async def test_a_failure_in_a_later_step_carries_the_steps_so_far() -> None:
    script = [THOUGHTS[0], EngineUnavailable("the engine is down")]
    async with client_of(make_loop(ScriptedModel(script))) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="steper", messages=ASKED)
        assert caught.value.body["steper"]["steps"][0]["thought"] == THOUGHTS[0].strip()
    async with client_of(make_loop(ScriptedModel(script))) as client:
        with pytest.raises(openai.APIError, match="the engine is down") as broken:
            await streamed_to(client)
        assert len(broken.value.body["steper"]["steps"]) == 1


async def test_readiness_follows_the_engine() -> None:
    model = ScriptedModel([])
    async with served(make_loop(model)) as url, httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/ready")).status_code == 200
        model.down = "the engine has died"
        response = await http.get(f"{url}/ready")
        assert response.status_code == 503
        assert response.json()["error"]["message"] == "the engine has died"
        assert (await http.get(f"{url}/health")).status_code == 200


async def test_an_unexpected_failure_in_a_stream_is_an_error_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_down(request: Generate) -> str:
        if request.step == 1:
            return THOUGHTS[0]
        raise KeyError("a bug")

    async with client_of(make_loop(ScriptedModel(break_down))) as client:
        with pytest.raises(openai.APIError, match="internal error"):
            await streamed_to(client)
    assert "a bug" in caplog.text

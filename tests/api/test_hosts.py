"""Who asks by which name: a page whose own name points to this machine reads nothing."""

import httpx
import pytest

from steper_serve.api.app import Policy
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import by_step, make_loop, served
from tests.ui.stage import site

LOCAL = Policy(hosts=("answers.example",))
PATHS = ["/v1/corpus", "/v1/nothing", "/metrics", "/openapi.json"]
OF_THE_PAGE = ["/", "/config", "/gradio_api/queue/data?session_hash=x", "/nothing"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.1", "[", ""]
)
async def test_a_name_that_points_here_is_refused(host: str) -> None:
    async with site(policy=LOCAL) as url, httpx.AsyncClient(base_url=url) as http:
        # A browser would call these requests of one origin.
        own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        for path in PATHS + OF_THE_PAGE:
            refused = await http.get(path, headers=own)
            assert refused.status_code == 403, path
            error = refused.json()["error"]
            assert error["code"] == "host_not_allowed"
            assert "--public-url" in error["message"]
        joined = await http.post("/gradio_api/queue/join", json={}, headers=own)
        assert joined.status_code == 403
        metrics = (await http.get("/metrics")).text
        # Which tell nothing, to whatever watches it.
        assert (await http.get("/health", headers=own)).status_code == 200
    assert 'code="host_not_allowed"' in metrics


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2:80",
        "localhost",
        "LocalHost.:9",
        "me.localhost:80",
        "[::1]:8000",
        "answers.example:8443",
    ],
)
async def test_its_own_names_and_a_proxys_are_answered(host: str) -> None:
    async with site(policy=LOCAL) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/v1/corpus", "/health", "/config"):
            assert (await http.get(path, headers={"Host": host})).status_code == 200, path


async def test_a_server_that_others_reach_is_asked_by_any_name() -> None:
    async with (
        served(make_loop(ScriptedModel(by_step))) as url,
        httpx.AsyncClient(base_url=url, headers={"Host": "box.example"}) as http,
    ):
        assert (await http.get("/v1/corpus")).status_code == 200

"""Who may ask: keys by the official client over a real socket, web pages by their origin."""

from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from steper_serve.api.app import Policy
from steper_serve.api.keys import Keyring, make_key
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import ASKED, by_step, client_of, make_loop, official, served

SECRET, KEY = make_key("ada")
OTHER, OTHER_KEY = make_key("bob")
KEYS = Policy(keys=Keyring((KEY, OTHER_KEY)))
DATA = [
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/steper"),
    ("GET", "/v1/passages?query=Lumen"),
    ("GET", "/v1/passages/p3"),
    ("GET", "/v1/corpus"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/nothing"),
    ("GET", "//health"),
    ("GET", "/health/"),
    ("GET", "/ready/../v1/corpus"),
]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with served(make_loop(ScriptedModel(by_step)), policy=KEYS) as url:
        yield url


@pytest.mark.parametrize("secret", [SECRET, OTHER], ids=["one", "other"])
async def test_every_key_opens(url: str, secret: str) -> None:
    async with official(url, secret) as client:
        done = await client.chat.completions.create(model="steper", messages=ASKED)
        assert done.choices[0].message.content == "Verla"
        assert [model.id async for model in client.models.list()]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "secret",
    ["none", SECRET[:-1], KEY.line(), KEY.digest.hex()],
    ids=["none", "cut", "line", "digest"],
)
async def test_a_wrong_key_is_an_authentication_error(
    url: str, secret: str, streamed: bool
) -> None:
    async with official(url, secret) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="steper", messages=ASKED, stream=streamed)
        assert refused.value.code == "invalid_api_key"
        assert refused.value.type == "invalid_request_error"
        assert secret not in str(refused.value)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


@pytest.mark.parametrize(("method", "path"), DATA)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", f"Basic {SECRET}", SECRET],
    ids=["none", "empty", "scheme alone", "basic", "key alone"],
)
async def test_every_route_with_data_wants_a_key(
    url: str, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with httpx.AsyncClient() as http:
        refused = await http.request(method, url + path, headers=headers)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "missing_api_key"
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_health_and_readiness_are_open(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        for path in ("/health", "/ready"):
            assert (await http.get(path)).status_code == 200
            assert (await http.head(path)).status_code == 200


async def test_no_byte_of_a_header_is_a_failure(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        for given in (b"Bearer \xff\xfe", b"bEARER   " + b"x" * 5000):
            refused = await http.get("/v1/corpus", headers={b"Authorization": given})
            assert refused.json()["error"]["code"] == "invalid_api_key"
        given = {"Authorization": f"bearer {SECRET}"}
        assert (await http.get("/v1/corpus", headers=given)).status_code == 200


async def test_without_keys_nobody_needs_one() -> None:
    async with client_of(make_loop(ScriptedModel(by_step))) as client:
        assert (await client.chat.completions.create(model="steper", messages=ASKED)).choices


async def test_pages_of_elsewhere_may_not_ask() -> None:
    """Without CORS a browser still sends what it calls simple requests; here they are refused."""
    async with client_of(make_loop(ScriptedModel(by_step))) as client:
        for origin in ("https://evil.example", "null", "http://["):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await client.models.list(extra_headers={"Origin": origin})
            assert refused.value.code == "origin_not_allowed"
            async with httpx.AsyncClient() as http:
                before = await http.options(f"{client.base_url}models", headers=_from(origin))
            assert before.status_code == 403
        own = str(client.base_url).removesuffix("/v1/")
        listed = await client.models.with_raw_response.list(extra_headers={"Origin": own})
        assert "access-control-allow-origin" not in listed.headers


def _from(origin: str) -> dict:
    """What a browser asks before it sends a request for a page."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return asked | {"Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize("allowed", ["https://app.example", "https://App.Example/"])
async def test_pages_that_are_allowed_may_ask_with_their_key(allowed: str) -> None:
    page = "https://app.example"
    policy = Policy(keys=KEYS.keys, origins=(allowed,), requests_per_minute=9)
    async with (
        served(make_loop(ScriptedModel(by_step)), policy=policy) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        before = await http.options("/v1/chat/completions", headers=_from(page))
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == page
        assert "authorization" in before.headers["access-control-allow-headers"].lower()
        body = {"model": "steper", "messages": ASKED}
        headers = {"Origin": page, "Authorization": f"Bearer {SECRET}"}
        done = await http.post("/v1/chat/completions", json=body, headers=headers)
        assert done.status_code == 200
        assert done.headers["access-control-allow-origin"] == page
        assert "x-ratelimit-remaining-requests" in done.headers["access-control-expose-headers"]
        # A refusal has to be readable for the page too.
        refused = await http.get("/v1/corpus", headers={"Origin": page})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == page
        evil = await http.get("/v1/corpus", headers={"Origin": "https://evil.example"})
        assert evil.status_code == 403


async def test_every_page_may_ask_where_all_are_allowed() -> None:
    async with (
        served(make_loop(ScriptedModel(by_step)), policy=Policy(origins=("*",))) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        for page in ("https://app.example", "null"):
            before = await http.options("/v1/chat/completions", headers=_from(page))
            listed = await http.get("/v1/models", headers={"Origin": page})
            for response in (before, listed):
                assert response.status_code == 200
                assert response.headers["access-control-allow-origin"] == "*"

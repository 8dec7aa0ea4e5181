"""The OpenAPI document: bounds that hold, and errors of the shape that it tells."""

import httpx
import jsonschema
import pytest

from steper_serve.api.app import Policy
from steper_serve.api.limits import Limits
from steper_serve.generation.scripted import ScriptedModel
from tests.api.serving import ASKED, by_step, make_loop, served

LIMITS = Limits(max_answer_tokens=300, max_seconds=5.0, max_messages=2)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ("ChatRequest", "max_tokens"),
        ("ChatRequest", "max_completion_tokens"),
        ("ChatRequest", "messages"),
        ("SteperOptions", "max_seconds"),
        ("SteperOptions", "max_steps"),
        ("SteperOptions", "top_k"),
    ],
)
async def test_what_is_told_as_the_most_is_taken_and_more_is_not(schema: str, field: str) -> None:
    loop = make_loop(ScriptedModel(by_step))
    async with (
        served(loop, policy=Policy(limits=LIMITS)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        told = (await http.get("/openapi.json")).json()
        found = told["components"]["schemas"][schema]["properties"][field]
        most = int(found.get("maxItems") or found["anyOf"][0]["maximum"])
        for value, status in ((most, 200), (most + 1, 400)):
            given = ASKED * value if field == "messages" else value
            body = {"model": "steper", "messages": ASKED}
            body |= {"steper": {field: given}} if schema == "SteperOptions" else {field: given}
            response = await http.post("/v1/chat/completions", json=body)
            assert response.status_code == status, response.text


async def test_refusals_are_of_the_shape_that_is_told() -> None:
    async with (
        served(make_loop(ScriptedModel(by_step))) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        told = (await http.get("/openapi.json")).json()
        operations = [of for path in told["paths"].values() for of in path.values()]
        assert all("422" not in of["responses"] for of in operations)
        schemas = {"components": told["components"]}
        refused = [
            await http.get("/v1/passages?top_k=99"),
            await http.get("/v1/models/none"),
            await http.post("/v1/chat/completions", json={"model": "none", "messages": ASKED}),
        ]
        assert [response.status_code for response in refused] == [400, 404, 404]
        for response in refused:
            shape = {**schemas, "$ref": "#/components/schemas/ErrorBody"}
            jsonschema.validate(response.json(), shape)

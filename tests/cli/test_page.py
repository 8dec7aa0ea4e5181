"""The page beside the endpoint: who answers which path, and what the page is given."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from steper_serve.benchmarks.paper import saved
from steper_serve.benchmarks.tables import Section
from steper_serve.cli.page import examples_of, own_url, report_of
from steper_serve.errors import ConfigurationError, CorpusError
from steper_serve.settings import Settings
from steper_serve.ui.client import Failed
from tests.api.serving import QUESTION
from tests.ui.stage import site


async def test_one_port_has_both() -> None:
    async with site() as url, httpx.AsyncClient(base_url=url) as http:
        assert "gradio" in (await http.get("/")).text
        corpus = (await http.get("/v1/corpus")).json()
        assert corpus["examples"] == [QUESTION]
        assert (await http.get("/ready")).json() == {"status": "ready"}
        # The endpoint's errors stay the endpoint's.
        for path in ("/v1/nothing", "/v1/chat/completions", "/v1/"):
            assert (await http.get(path)).json().keys() == {"error"}, path
        assert (await http.get("/v1x")).status_code == 404
        # A client whose address lacks the end is told so.
        lost = await http.post("/chat/completions", json={})
        assert lost.status_code == 404
        assert "begin with /v1" in lost.json()["error"]["message"]


async def test_the_page_lets_nothing_in_and_nothing_come_from_elsewhere() -> None:
    async with site() as url, httpx.AsyncClient(base_url=url) as http:
        page = await http.get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        upload = await http.post("/gradio_api/upload", files={"files": b"x" * 1000})
        assert upload.status_code == 404
        for path in ("file=/etc/passwd", "deep_link?session_hash=x", "proxy=http://a.example/"):
            assert (await http.get(f"/gradio_api/{path}")).status_code == 404, path
        theme = (await http.get("/theme.css")).text
        assert "url(http" not in theme
        assert "@import" not in theme


async def test_a_server_ends_although_a_page_is_open() -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        async with site() as url:
            beat = http.stream("GET", f"{url}/gradio_api/heartbeat/someone")
            response = await beat.__aenter__()
            assert response.status_code == 200
        await beat.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - the very thing
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("box.example", "http://box.example:80"),
    ],
)
def test_where_a_server_reaches_itself(host: str, url: str) -> None:
    assert own_url(host, 80) == url


def test_examples_are_the_corpuss_own(tmp_path: Path) -> None:
    bundled = examples_of(Settings())
    assert len(bundled) == 8
    assert all(question.endswith("?") for question in bundled)
    # Questions of another corpus would be misleading.
    assert examples_of(Settings(index=tmp_path)) == ()
    file = tmp_path / "mine.jsonl"
    file.write_text('{"id": "1", "question": "Who?", "answers": ["I"]}\n')
    assert examples_of(Settings(index=tmp_path, examples=file)) == ("Who?",)
    with pytest.raises(CorpusError, match=r"no\.jsonl"):
        examples_of(Settings(examples=tmp_path / "no.jsonl"))


def test_results_are_read_when_they_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no results"):
        report_of(tmp_path)
    inner = tmp_path / "accuracy"
    inner.mkdir()
    manifest = {"benchmark": "accuracy", "datasets": {}, "served": {}, "runs": []}
    (inner / "manifest.json").write_text(json.dumps(manifest))
    (inner / "rows.jsonl").write_text("")
    made = report_of(tmp_path)
    assert "<html" in made()
    (inner / "manifest.json").write_text("{")
    with pytest.raises(Failed) as caught:
        made()
    assert str(inner) in caught.value.problem.message


def test_what_bench_paper_kept_is_results_too(tmp_path: Path) -> None:
    saved.write(tmp_path / "mine", "table7", Section("Answers of five steps"), {})
    for folder in (tmp_path, tmp_path / "mine"):
        assert "Answers of five steps" in report_of(folder)()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["ui", "--endpoint", "gpu-box"], "gpu-box"),
        (["ui", "--results", "/no/such/folder"], "/no/such/folder"),
        (["ui", "--port", "99999"], "99999"),
        (["serve", "--results", "/no/such/folder"], "/no/such/folder"),
        (["serve", "--examples", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_cannot_start_ends_in_one_line(args: list[str], told: str) -> None:
    command = [sys.executable, "-m", "steper_serve", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 2)
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr

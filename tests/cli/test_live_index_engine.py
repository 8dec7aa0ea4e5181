"""A server as a user runs it, whose index another process changes while its student answers."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Semaphore

import httpx
import pytest

from steper_serve import corpus
from steper_serve.cli.wiring import CORPUS
from steper_serve.retrieval import bm25
from steper_serve.trajectory import Passage
from tests.bundled import QUESTIONS, bundled_server

NUM_SWITCHES, NUM_CLIENTS = 20, 6
WORD = "qwxzyvk"  # of no language and no invented world


@pytest.mark.engine
def test_twenty_switches_fail_no_answer_of_the_student(tmp_path: Path) -> None:
    index = tmp_path / "index"
    bm25.build(corpus.read(CORPUS), index)
    asked = [q.question for q in QUESTIONS[:60]]
    over, answered = Event(), Semaphore(0)

    def found(http: httpx.Client) -> list[str]:
        response = http.get("/v1/passages", params={"query": WORD, "top_k": 20})
        return [passage["id"] for passage in response.json()["data"]]

    with (
        bundled_server("--enforce-eager", "--no-page", "--index", str(index)) as (_, url),
        httpx.Client(base_url=url, timeout=120) as http,
        ThreadPoolExecutor(NUM_CLIENTS) as pool,
    ):

        def ask(client: int) -> list[tuple[int, str]]:
            done = []
            while not over.is_set():
                question = asked[(client + NUM_CLIENTS * len(done)) % len(asked)]
                body = {"model": "steper", "messages": [{"role": "user", "content": question}]}
                response = http.post("/v1/chat/completions", json=body)
                done.append((response.status_code, response.text))
                answered.release()
            return done

        clients = [pool.submit(ask, number) for number in range(NUM_CLIENTS)]
        try:
            for number in range(1, NUM_SWITCHES + 1):
                assert answered.acquire(timeout=120), "nobody is answered"
                new = Passage(f"new{number - (number + 1) % 2}", WORD, f"{WORD} {number}")
                if number % 2:
                    bm25.add([new], index)
                else:
                    bm25.delete([new.id], index)
                assert found(http) == ([new.id] if number % 2 else [])
        finally:
            over.set()
        answers = [answer for client in clients for answer in client.result()]
    assert len(answers) >= NUM_SWITCHES
    assert [text for status, text in answers if status != 200] == []
    choices = [json.loads(text)["choices"][0] for _, text in answers]
    assert all(c["message"]["content"] or c["finish_reason"] == "length" for c in choices)

"""The page in a real browser, over a real server with a scripted model.

Waits have generous bounds; how fast it is belongs to the benchmarks.
"""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from steper_serve.api.app import Policy, create_app
from steper_serve.api.keys import Keyring, make_key
from steper_serve.cli import server
from steper_serve.errors import EngineUnavailable
from steper_serve.trajectory import Generate
from steper_serve.ui.app import create_page
from steper_serve.ui.request import Ask
from tests.api.serving import QUESTION, THOUGHTS, make_loop, until
from tests.ui.stage import Actor, by_step, on_port, site
from tests.ui.visits import ask, compare, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAINT = (Path(__file__).parent / "faint.js").read_text()


async def test_an_answer_streams_in_and_its_citations_open(page: Page, actor: Actor) -> None:
    gate = asyncio.Event()
    actor.says(gate=gate)
    await ask(page)
    live = page.locator("#live .turn")
    await expect(live.locator(".query .said")).to_have_text(QUESTION)
    await expect(live.locator(".found .title")).to_have_text("The Lumen")
    await expect(live.locator(".thought .said")).to_have_text("The")
    await expect(live.locator(".answer")).to_have_count(0)
    gate.set()
    await expect(live.locator(".answer .text")).to_have_text("Verla")
    await expect(live.locator(".thought .said")).to_have_text([t.strip() for t in THOUGHTS])
    await expect(live.locator(".step").first.locator("mark")).to_have_text(
        "The Lumen is a film made by Ada Frost."
    )
    await expect(live.locator(".took")).to_contain_text("3 steps · 18 tokens")
    # By keyboard: open the second citation, read it, close it.
    await live.locator(".answer .cite").nth(1).focus()
    await page.keyboard.press("Enter")
    opened = page.locator(".passage:popover-open")
    await expect(opened.locator(".body")).to_have_text("Ada Frost was born in Verla.")
    await expect(opened.locator("a")).to_have_attribute("href", "https://example.org/ada")
    await page.keyboard.press("Escape")
    await expect(opened).to_have_count(0)


async def test_a_second_question_stands_below_the_first(
    browser: Browser, url: str, actor: Actor
) -> None:
    actor.says()
    async with opened(browser, url) as page:
        await page.click(f"#examples button:has-text('{QUESTION}')")
        await expect(page.locator("#live .answer .text")).to_have_text("Verla")
        await expect(page.locator("#examples")).to_be_hidden()
        await ask(page, "Who made The Lumen?")
        await expect(page.locator("#log .turn .asked")).to_have_text(QUESTION)
        await expect(page.locator("#live .turn .asked")).to_have_text("Who made The Lumen?")


async def test_stop_ends_the_work_of_the_server(page: Page, actor: Actor) -> None:
    actor.says(gate=asyncio.Event())
    await ask(page)
    await expect(page.locator("#live .thought .said")).to_have_text("The")
    assert actor.num_running() == 1
    await page.click("#stop")
    await expect(page.locator("#live .note")).to_contain_text("Stopped")
    await until(lambda: actor.num_running() == 0)
    await expect(page.locator("#live .thought .said")).to_have_text("The")
    actor.says()
    await ask(page)
    await expect(page.locator("#live .answer .text")).to_have_text("Verla")


async def test_a_page_that_is_closed_ends_its_work(
    browser: Browser, url: str, actor: Actor
) -> None:
    actor.says(gate=asyncio.Event())
    async with opened(browser, url) as page:
        await ask(page)
        await expect(page.locator(".thought .said")).to_have_text("The")
    await until(lambda: actor.num_running() == 0)


async def test_a_page_is_told_when_its_server_ends_before_the_answer(
    browser: Browser, url: str, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `steper-serve ui` ends, of an endpoint that goes on."""
    monkeypatch.setattr(server, "_FLUSH_SECONDS", 0.2)
    actor.says(gate=asyncio.Event())
    shell = create_page(f"{url}/v1")
    async with AsyncExitStack() as stack:
        async with on_port(shell, page=shell) as alone:
            page = await stack.enter_async_context(opened(browser, alone))
            await ask(page)
            await expect(page.locator("#live .thought .said")).to_have_text("The")
        await expect(page.locator("#live .note")).to_contain_text("Stopped")
    await until(lambda: actor.num_running() == 0)


async def test_what_is_copied(browser: Browser, url: str, actor: Actor) -> None:
    actor.says()
    link = Ask('Where\'s The Lumen & "it"?', "steper-single", 3, 2, 0.5, 7).link()
    allowed = ["clipboard-read", "clipboard-write"]
    async with opened(browser, url, f"/{link}", permissions=allowed) as page:
        await expect(page.locator("#question textarea")).to_have_value('Where\'s The Lumen & "it"?')
        await expect(page.locator("#strategy input")).to_have_value(
            "Single: search once, then reason"
        )
        await page.click("#ask")
        copied = {}
        for name in ("curl", "Python", "link"):
            button = page.locator(f"#live button.copy[data-name={name}]")
            await button.click()
            await expect(button).to_have_text("Copied")
            copied[name] = await page.evaluate("navigator.clipboard.readText()")
    assert f"curl -sN {url}/v1/chat/completions" in copied["curl"]
    assert f'base_url="{url}/v1"' in copied["Python"]
    assert copied["link"] == f"{url}/{link}"
    assert parse_qs(urlsplit(copied["link"]).query)["max_steps"] == ["3"]


async def test_what_a_link_chose_stays_where_the_page_is_slow(browser: Browser, url: str) -> None:
    async def late(route: Route) -> None:
        await asyncio.sleep(2.5)
        await route.continue_()

    page = await browser.new_page()
    await page.route("**/gradio_api/queue/data*", late)
    await page.goto(f"{url}/?model=steper-single")
    for _ in range(2):
        await expect(page.locator("#strategy input")).to_have_value(
            "Single: search once, then reason"
        )
        await page.wait_for_timeout(1000)
    await page.close()


async def test_two_and_three_side_by_side(page: Page, actor: Actor) -> None:
    await page.get_by_role("tab", name="Compare").click()
    await page.get_by_label("3 columns").check()
    await expect(page.get_by_label("Strategy 3")).to_be_visible()
    await compare(page)
    for number in (1, 2):
        shown = page.locator(f"#column-{number}")
        await expect(shown.locator(".answer .text")).to_have_text("Verla")
        await expect(shown.locator(".figures dd").nth(1)).to_have_text("3")
        await expect(shown.locator(".figures dd").nth(2)).to_have_text("18")
    await expect(page.locator("#column-3 .answer .text")).to_have_text("Verla")
    await expect(page.locator("#column-1 .step .query .said")).to_have_count(3)
    await expect(page.locator("#column-2 .step .query .said")).to_have_count(1)
    await expect(page.locator("#column-3 .step .query .said")).to_have_count(0)


async def test_a_comparison_is_stopped_in_all_its_columns(page: Page, actor: Actor) -> None:
    actor.says(gate=asyncio.Event())
    await page.get_by_role("tab", name="Compare").click()
    await page.get_by_label("2 columns").check()
    await expect(page.get_by_label("Strategy 3")).to_be_hidden()
    await compare(page)
    for number in (1, 2):
        await expect(page.locator(f"#column-{number} .thought .said")).to_have_text("The")
    assert actor.num_running() == 2
    await page.click("#compare-stop")
    for number in (1, 2):
        await expect(page.locator(f"#column-{number} .note")).to_contain_text("Stopped")
    await until(lambda: actor.num_running() == 0)
    await expect(page.locator("#compare")).to_be_visible()


async def test_the_corpus_is_searched_by_hand(page: Page) -> None:
    await page.get_by_role("tab", name="Corpus").click()
    await expect(page.locator("#corpus-numbers dd")).to_have_text(
        ["3", "12.3 kB", "2026-11-21 10:00 UTC"]
    )
    await page.fill("#query textarea", "Ada Lumen")
    await page.keyboard.press("Enter")
    await expect(page.locator("#hits strong")).to_have_text(["The Lumen", "Ada Frost"])
    await expect(page.locator("#hits .score").first).to_have_text("1.00")
    await expect(page.locator("#hits mark").first).to_have_text("Lumen")
    await page.fill("#query textarea", "zebra")
    await page.click("#search")
    await expect(page.locator("#hits .nothing")).to_contain_text("zebra")


async def test_results_are_shown_in_a_frame_of_their_height(page: Page) -> None:
    await page.get_by_role("tab", name="Benchmarks").click()
    await expect(page.frame_locator("iframe.report").locator("h1")).to_have_text("Accuracy")
    await page.wait_for_function("document.querySelector('iframe.report').offsetHeight > 1900")


def _then_down(request: Generate) -> object:
    return EngineUnavailable("the engine died") if request.step == 2 else by_step(request)


async def test_errors_are_shown_as_what_they_are(page: Page, actor: Actor) -> None:
    problem = page.locator("#live .problem")
    await ask(page, "why " * 600)
    await expect(problem).to_contain_text("The question is too long")
    actor.says(_then_down)
    await ask(page)
    await expect(problem).to_contain_text("The engine died")
    await expect(page.locator("#live .step").first).to_contain_text("made by Ada Frost")
    actor.says(lambda _: "")
    await ask(page)
    await expect(page.locator("#live .note")).to_contain_text("without saying")
    actor.says(lambda _: "<img src=x onerror=alert(1)> So the answer is: <b>Verla</b>.")
    await ask(page)
    await expect(page.locator("#live .answer .text")).to_contain_text("<b>Verla</b>")


async def test_a_server_that_goes_away_and_comes_back(browser: Browser) -> None:
    long = (
        "Which of the two painters who lived in the town of Verla made the film <b>The Lumen</b>?"
    )
    endpoint = create_app(make_loop(Actor()), examples=[long])
    async with on_port(endpoint) as first:
        port = int(first.rpartition(":")[2])
    shell = create_page(f"{first}/v1", shown_url=f"{first}/v1", look_seconds=0.2)
    async with on_port(shell, page=shell) as url:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(url)
        await expect(page.locator(".light.down")).to_contain_text("cannot be reached")
        for _ in range(2):
            await ask(page)
            await expect(page.locator("#live .problem")).to_contain_text(f"127.0.0.1:{port}")
            async with on_port(endpoint, port):
                await expect(page.locator(".light.up")).to_be_visible()
                await expect(page.locator("#examples button")).to_have_text(long)
                await ask(page)
                await expect(page.locator("#live .answer .text")).to_have_text("Verla")
            await expect(page.locator(".light.down")).to_be_visible()
        await context.close()


@pytest.mark.parametrize("begun", [False, True])
async def test_what_is_on_a_page_outlives_its_server(
    browser: Browser, actor: Actor, begun: bool
) -> None:
    """The page's own server goes, before a question or in its answer, and another one comes."""
    actor.says()
    endpoint = create_app(make_loop(actor))
    async with on_port(endpoint) as answering, AsyncExitStack() as stack:
        async with on_port(create_page(f"{answering}/v1"), dies=True) as url:
            link = Ask("What was asked?", "steper-single", 3, 2, 0.5, 7).link()
            page = await stack.enter_async_context(opened(browser, url, f"/{link}"))
            await page.click("#ask")
            await expect(page.locator("#live .copies")).to_be_visible()
            await page.fill("#question textarea", QUESTION)
            if begun:
                actor.says(gate=asyncio.Event())
                await page.click("#ask")
                await expect(page.locator("#live .thought .said")).to_have_text("The")
        if not begun:
            await page.click("#ask")
        gone = page.locator("#gone")
        await expect(gone).to_contain_text("The server of this page cannot be reached")
        await expect(page.locator(".light.down")).to_be_visible()
        await expect(page.locator(".toast-body")).to_be_hidden()
        await expect(page.locator("#question textarea")).to_have_value(QUESTION)
        if begun:
            await expect(page.locator("#live .problem")).to_contain_text("broke off")
        await page.fill("#question textarea", "What I wrote meanwhile")
        await page.get_by_role("tab", name="Compare").click()
        await page.fill("#compare-question textarea", "And side by side?")
        port = int(url.rpartition(":")[2])
        await stack.enter_async_context(on_port(create_page(f"{answering}/v1"), port))
        await expect(gone).to_have_count(0)
        await expect(page.locator(".light.up")).to_be_visible()
        side = page.locator("#compare-question textarea")
        await expect(side).to_have_value("And side by side?")
        await page.get_by_role("tab", name="Ask").click()
        asked = ["What was asked?", QUESTION] if begun else ["What was asked?"]
        await expect(page.locator("#log .asked")).to_have_text(asked)
        await expect(page.locator("#question textarea")).to_have_value("What I wrote meanwhile")
        await expect(page.locator("#seed textarea")).to_have_value("7")
        await expect(page.locator(".welcome").first).to_be_hidden()
        assert page.url == f"{url}/{link}"
        actor.says()
        await page.click("#ask")
        await expect(page.locator("#live .asked")).to_have_text("What I wrote meanwhile")


async def test_a_key_is_asked_for_and_used(browser: Browser) -> None:
    """By both in one, as they are served, and by the page of an endpoint elsewhere."""
    secret, key = make_key("reader")
    policy = Policy(keys=Keyring((key,)))
    async with site(policy=policy) as guarded:
        shell = create_page(f"{guarded}/v1", shown_url=f"{guarded}/v1")
        async with on_port(shell, page=shell) as alone:
            for url in (guarded, alone):
                await _enter(browser, url, secret)


async def _enter(browser: Browser, url: str, secret: str) -> None:
    async with opened(browser, url, light="A key is needed") as page:
        await ask(page)
        problem = page.locator("#live .problem")
        await expect(problem).to_contain_text("A key is needed")
        await page.locator("#key input").fill(secret[:-1])
        await expect(page.locator(".light.down")).to_have_text("The key is not accepted")
        await ask(page)
        await expect(problem.last).to_contain_text("The key is not accepted")
        await page.locator("#key input").fill(secret)
        await expect(page.locator(".light.up")).to_have_text("Ready")
        await page.get_by_role("tab", name="Corpus").click()
        await expect(page.locator("#corpus-numbers dd").first).to_have_text("3")
        await page.get_by_role("tab", name="Compare").click()
        for number, strategy in (("1", "IRCoT"), ("2", "Single")):
            chosen = page.get_by_label(f"Strategy {number}")
            await expect(chosen).to_have_value(re.compile(strategy))
        await ask(page)
        await expect(page.locator("#live .answer .text")).to_have_text("Verla")
        assert secret not in await page.locator("#live").inner_html()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_any_window_and_scheme(browser: Browser, url: str, actor: Actor, scheme: str) -> None:
    actor.says()
    narrow = {"width": 390, "height": 900}
    async with opened(browser, url, viewport=narrow, color_scheme=scheme) as page:
        await expect(page.locator("#strategy")).to_be_hidden()  # the settings begin closed
        await ask(page)
        await expect(page.locator("#live .copies")).to_be_visible()
        for width in (390, 1400):
            await page.set_viewport_size({"width": width, "height": 900})
            for name in ("Compare", "Corpus", "Benchmarks", "Ask"):
                await page.get_by_role("tab", name=name).click()
                wide = "document.documentElement.scrollWidth > window.innerWidth"
                assert not await page.evaluate(wide), (width, name)
                assert await page.evaluate(FAINT) == [], (width, name)
        dark = await page.evaluate("document.body.classList.contains('dark')")
        assert dark == (scheme == "dark")
        await page.click("[data-theme-toggle]")
        assert await page.evaluate("document.body.classList.contains('dark')") != dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_faint_whatever_an_answer_is_doing(
    browser: Browser, url: str, actor: Actor, scheme: str
) -> None:
    actor.says(gate=asyncio.Event())
    async with opened(browser, url, color_scheme=scheme) as page:
        await ask(page)
        await expect(page.locator("#live .thought .said")).to_have_text("The")
        assert await page.evaluate(FAINT) == []
        await page.locator("#live .found .title").click()
        await expect(page.locator(".passage:popover-open .body")).to_contain_text("Ada Frost")
        assert await page.evaluate(FAINT) == []
        await page.keyboard.press("Escape")
        await page.click("#stop")
        await expect(page.locator("#live .note")).to_be_visible()
        await ask(page, "why " * 600)
        await expect(page.locator("#live .problem")).to_be_visible()
        assert await page.evaluate(FAINT) == []

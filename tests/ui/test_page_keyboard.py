"""The page by keyboard: where the focus is, what is hidden from it, and what it is told."""

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from tests.api.serving import QUESTION
from tests.ui.stage import Actor, site
from tests.ui.visits import ask, compare, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOX = "#question textarea"
HIGH = "document.querySelector('.talk .composer').offsetHeight > 100"
# What has the focus, if the question box lies over it.
COVERED = """() => {
  const focused = document.activeElement;
  const edge = document.querySelector(".talk .composer").getBoundingClientRect().top;
  return focused.getBoundingClientRect().bottom > edge ? focused.outerHTML : null;
}"""


async def by_tab(page: Page, control: str, key: str = "Tab") -> None:
    """Go to a control as whoever has no mouse does."""
    for _ in range(40):
        if await page.locator(control).evaluate("e => e === document.activeElement"):
            return
        await page.keyboard.press(key)
    pytest.fail(f"{control} is not reached")


async def shown(page: Page) -> None:
    """The Ask tab, with nothing being asked."""
    await page.get_by_role("tab", name="Ask").click()
    await expect(page.locator("#ask")).to_be_visible()


async def test_ask_and_stop_hand_the_focus_on(page: Page, actor: Actor) -> None:
    await shown(page)
    gate = asyncio.Event()
    actor.says(gate=gate)
    await page.locator(BOX).fill(QUESTION)
    await by_tab(page, "#ask")
    await page.keyboard.press("Enter")
    await expect(page.locator("#stop")).to_be_focused()
    await expect(page.locator("#live .thought .said")).to_have_text("The")
    await page.keyboard.press("Enter")
    await expect(page.locator("#live .note")).to_contain_text("Stopped")
    await expect(page.locator(BOX)).to_be_focused()
    # By Enter in the box it stays there, and an end finds it wherever it is by then.
    await page.keyboard.type(QUESTION)
    await page.keyboard.press("Enter")
    await expect(page.locator("#stop")).to_be_visible()
    await expect(page.locator(BOX)).to_be_focused()
    await by_tab(page, "#stop")
    gate.set()
    await expect(page.locator("#live .answer .text")).to_have_text("Verla")
    await expect(page.locator(BOX)).to_be_focused()


async def test_an_end_leaves_the_focus_where_its_reader_has_put_it(
    page: Page, actor: Actor
) -> None:
    await shown(page)
    gate = asyncio.Event()
    actor.says(gate=gate)
    await ask(page)
    title = page.locator("#live .found .title").first
    await title.focus()
    gate.set()
    await expect(page.locator("#live .answer .text")).to_have_text("Verla")
    await expect(title).to_be_focused()


async def test_compare_hands_the_focus_on(page: Page, actor: Actor) -> None:
    actor.says(gate=asyncio.Event())
    await page.get_by_role("tab", name="Compare").click()
    await expect(page.locator("#compare")).to_be_visible()
    await page.locator("#compare-question textarea").fill(QUESTION)
    await by_tab(page, "#compare")
    await page.keyboard.press("Enter")
    await expect(page.locator("#compare-stop")).to_be_focused()
    await expect(page.locator("#column-1 .thought .said")).to_have_text("The")
    await page.keyboard.press("Enter")
    await expect(page.locator("#column-1 .note")).to_contain_text("Stopped")
    await expect(page.locator("#compare-question textarea")).to_be_focused()


async def test_an_example_hands_the_focus_on_and_leaves_a_draft(
    browser: Browser, url: str, actor: Actor
) -> None:
    gate = asyncio.Event()
    actor.says(gate=gate)
    async with opened(browser, url) as page:
        await page.locator(BOX).fill("What I wanted to")
        await by_tab(page, "#examples button", "Shift+Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#stop")).to_be_focused()
        gate.set()
        await expect(page.locator("#live .answer .text")).to_have_text("Verla")
        await expect(page.locator(BOX)).to_be_focused()
        await expect(page.locator(BOX)).to_have_value("What I wanted to")


@pytest.mark.parametrize("tab", ["Ask", "Compare"])
async def test_an_open_passage_stays_when_the_answer_ends(
    page: Page, actor: Actor, tab: str
) -> None:
    gate = asyncio.Event()
    actor.says(gate=gate)
    if tab == "Ask":
        await ask(page)
    else:
        await compare(page)
    turn = page.locator({"Ask": "#live .turn", "Compare": "#column-1 .turn"}[tab])
    await expect(turn.locator(".thought .said")).to_have_text("The")
    await turn.locator(".found .title").focus()
    await page.keyboard.press("Enter")
    passage = page.locator(".passage:popover-open")
    await expect(passage.locator(".body")).to_have_text("The Lumen is a film made by Ada Frost.")
    gate.set()
    await expect(turn.locator(".answer .text")).to_have_text("Verla")
    await expect(turn.locator(".copies")).to_have_count(1)
    await expect(passage).to_have_attribute("aria-label", "Passage: The Lumen")
    await expect(passage.locator(".close")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(passage).to_have_count(0)


async def test_copying_without_tls_keeps_the_focus(page: Page) -> None:
    await ask(page)
    button = page.locator("#live button.copy").first
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', {configurable: true})")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_text("Copied")
    await expect(button).to_be_focused()
    await page.evaluate("delete navigator.clipboard")


async def test_an_answer_scrolls_no_other_tab(page: Page, actor: Actor) -> None:
    gate = asyncio.Event()
    actor.says(gate=gate)
    await ask(page)
    await expect(page.locator("#live .thought .said")).to_have_text("The")
    await page.get_by_role("tab", name="Benchmarks").click()
    await page.wait_for_function("document.querySelector('iframe.report')?.offsetHeight > 1900")
    gate.set()
    await expect(page.locator("#live .copies")).to_have_count(1)
    await page.wait_for_timeout(100)
    assert await page.evaluate("window.scrollY") == 0


async def test_in_a_narrow_window_the_settings_come_last_in_sight_too(
    browser: Browser, url: str
) -> None:
    async with opened(browser, url, viewport={"width": 390, "height": 800}) as page:
        heights = []
        for control in (BOX, "#ask", "#settings button"):
            await by_tab(page, control)
            heights.append((await page.locator(control).bounding_box())["y"])
        assert heights[1] < heights[2] - 40
        await page.keyboard.press("Enter")
        await expect(page.locator("#strategy")).to_be_visible()


async def test_the_settings_say_whether_they_are_open(page: Page) -> None:
    await shown(page)
    label = page.get_by_role("button", name="Settings")
    for told in ("true", "false", "true"):
        await expect(label).to_have_attribute("aria-expanded", told)
        await expect(page.locator("#seed")).to_be_visible(visible=told == "true")
        await label.press("Enter")
    await label.press("Enter")


async def test_the_question_box_covers_nothing_that_has_the_focus(
    browser: Browser, url: str, actor: Actor
) -> None:
    actor.says()
    async with opened(browser, url, viewport={"width": 1400, "height": 400}) as page:
        await ask(page)
        controls = page.locator("#live .turn > :not(.passage) button")
        await expect(controls).to_have_count(13)
        await page.locator(BOX).fill("one\ntwo\nthree\nfour")
        await page.wait_for_function(HIGH)
        await page.evaluate("scrollTo(0, 0)")
        await controls.first.focus()
        for _ in range(await controls.count()):
            assert await page.evaluate(COVERED) is None
            await page.keyboard.press("Tab")


async def test_what_is_refused_is_put_back(page: Page) -> None:
    box = page.locator(BOX)
    too_long = " ".join(["why"] * 600)
    await ask(page, too_long)
    await expect(page.locator("#live .problem")).to_contain_text("The question is too long")
    await expect(box).to_have_value(too_long)
    await expect(page.locator("#live button.copy")).to_have_count(0)
    await box.fill("")
    await page.evaluate("document.querySelector('#live .problem').append('!')")
    await expect(box).to_have_value("")


@pytest.mark.parametrize(
    ("tab", "asker", "button"),
    [
        ("Ask", BOX, "#ask"),
        ("Compare", "#compare-question textarea", "#compare"),
        ("Corpus", "#query textarea", "#search"),
    ],
)
async def test_an_empty_box_says_that_it_is(page: Page, tab: str, asker: str, button: str) -> None:
    await page.get_by_role("tab", name=tab).click()
    box = page.locator(asker)
    await box.fill(" ")
    await page.click(button)
    said = "e => e.validationMessage"
    assert await box.evaluate(said) == "Write here what you ask for."
    await expect(box).to_be_focused()
    await box.fill("Who")
    assert await box.evaluate(said) == ""


async def test_a_link_says_what_to_do(browser: Browser, url: str) -> None:
    async with opened(browser, url, "/?question=Who") as page:
        await expect(page.locator(".linked")).to_be_visible()
    async with opened(browser, url) as page:
        await expect(page.locator(".linked")).to_be_hidden()


async def test_a_list_that_is_left_is_closed(page: Page) -> None:
    await shown(page)
    await page.locator("#ask").focus()
    await by_tab(page, "#strategy input")
    await expect(page.get_by_role("listbox")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("listbox")).to_have_count(0)
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("listbox")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("listbox")).to_have_count(0)


async def test_a_seed_that_is_no_number_is_told(browser: Browser, url: str) -> None:
    async with opened(browser, url, "/?temperature=0.5") as page:
        await page.locator("#seed textarea").fill("abc")
        await ask(page)
        await expect(page.locator("#live .problem")).to_contain_text("“abc” is no whole number")
        await expect(page.locator(BOX)).to_have_value(QUESTION)
        await page.locator("#seed textarea").fill("7")
        await ask(page)
        await expect(page.locator("#live .answer .text")).to_have_text("Verla")


async def test_the_light_says_the_same_once(browser: Browser) -> None:
    async with site(look_seconds=0.1) as url, opened(browser, url) as page:
        await page.wait_for_timeout(500)
        num_said = """() => new Promise((done) => {
          let said = 0;
          const light = document.querySelector("#up .light");
          const told = { childList: true, subtree: true, characterData: true };
          new MutationObserver((all) => (said += all.length)).observe(light, told);
          setTimeout(() => done(said), 1000);
        })"""
        assert await page.evaluate(num_said) == 0

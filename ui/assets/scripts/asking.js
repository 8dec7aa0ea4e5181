// What a page does around an answer: hands over the question, keeps the answer before, follows the
// new one, leads the focus.
(() => {
  "use strict";
  const KEPT = 30;
  const steper = window.steper;

  steper.put = (box, text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  steper.questionBox = () => document.querySelector("#question textarea");

  // What was asked last, as Gradio gives it: question (a list where one to try was chosen), most
  // steps, top-k, temperature, seed, model, key.
  steper.asked = [];

  // A turn as it is kept: a button that says for a moment that it has copied says what it is for.
  steper.copyOf = (turn) => {
    const copy = turn.cloneNode(true);
    copy.querySelectorAll("button.copy").forEach((b) => (b.textContent = `Copy ${b.dataset.name}`));
    return copy;
  };

  // Before a question is asked: the answer that is there goes up, above the next one.
  steper.keep = (inputs) => {
    const chosen = typeof inputs[0] !== "string";
    if (!steper.await("#live", chosen ? null : "#question")) return;
    steper.asked = inputs;
    const turn = document.querySelector("#live .turn");
    const turns = document.querySelector("#log .turns");
    if (!turn || !turns || turn.getAttribute("aria-busy") === "true") return;
    if (turns.lastElementChild?.dataset.turn === turn.dataset.turn) return;
    turns.appendChild(steper.copyOf(turn));
    while (turns.children.length > KEPT) turns.firstElementChild.remove();
  };

  // Something will change in a region, or it is asked for again what there is (see app.py). Not so
  // where the box is empty in which it is asked for, which is then said there.
  steper.await = (region, asker) => {
    const box = asker && document.querySelector(`${asker} textarea`);
    if (box && !box.value.trim()) {
      box.setCustomValidity("Write here what you ask for.");
      box.reportValidity();
      box.addEventListener("input", () => box.setCustomValidity(""), { once: true });
      return false;
    }
    let changed = false;
    let tries = 0;
    const observer = new MutationObserver(() => (changed = true));
    const shown = document.querySelector(`${region} .html-container`);
    if (shown) observer.observe(shown, { childList: true, subtree: true, attributes: true });
    const nudge = () => {
      if (changed || tries++ === 5) return void observer.disconnect();
      document.querySelector("#nudge")?.click();
      setTimeout(nudge, 1500);
    };
    setTimeout(nudge, 1500);
    return true;
  };

  // Follow an answer as it grows, to the question box below it, unless its reader is elsewhere.
  // Who scrolls up is; it may also be the answer that has grown since we scrolled down.
  let following = true;
  let waiting = false;
  let lastY = 0;
  const end = (talk) => window.scrollY + talk.getBoundingClientRect().bottom - window.innerHeight;
  window.addEventListener(
    "scroll",
    () => {
      const talk = document.querySelector(".talk");
      if (!talk?.offsetParent) return;
      const near = window.scrollY >= end(talk) - 80;
      following = near || (following && window.scrollY >= lastY);
      lastY = window.scrollY;
    },
    { passive: true },
  );
  const follow = (talk) => {
    waiting = false;
    const behind = talk.offsetParent && window.scrollY < end(talk); // else another tab is read
    if (following && behind) window.scrollTo(0, end(talk));
  };

  // A question is taken out of the box once its answer has begun, and is put back where it has
  // failed; whatever else is in the box is the reader's.
  let taken = "";
  let returned = "";
  const exchange = (turn, box) => {
    const id = turn.dataset.turn;
    const asked = turn.querySelector(".asked").textContent;
    if (id !== taken && box.value.trim() === asked) steper.put(box, "");
    taken = id;
    if (!turn.querySelector(".problem") || id === returned) return;
    returned = id;
    if (!box.value) steper.put(box, asked);
  };

  // Whoever uses the keyboard is led from a control that is hidden (page.css) to the first here
  // that is shown.
  const HEIRS = {
    "#ask, #stop, #examples": ["#stop", "#question textarea"],
    "#compare, #compare-stop": ["#compare-stop", "#compare-question textarea"],
  };
  const lead = () => {
    const focused = document.activeElement;
    if (!focused?.matches(":focus-visible") || focused.checkVisibility()) return;
    const from = Object.keys(HEIRS).find((controls) => focused.closest(controls));
    const heirs = (HEIRS[from] ?? []).map((heir) => document.querySelector(heir));
    heirs.find((heir) => heir.checkVisibility())?.focus({ preventScroll: true });
  };

  steper.begin.push(() => {
    const live = document.querySelector("#live");
    new MutationObserver(() => {
      const turn = live.querySelector(".turn");
      if (turn) exchange(turn, steper.questionBox());
      if (!waiting) requestAnimationFrame(() => follow(live.closest(".talk")));
      waiting = true;
    }).observe(live, { childList: true, subtree: true, characterData: true });
    const changes = { childList: true, subtree: true, attributeFilter: ["aria-busy"] };
    new MutationObserver(lead).observe(document.body, changes);
    const linked = new URLSearchParams(location.search).has("question");
    document.querySelector("#live .welcome")?.classList.toggle("of-link", linked);
  });
})();

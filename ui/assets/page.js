// What the page does without asking the server: copying, light or dark, following an answer, where
// the focus goes, and fitting a report.
(() => {
  "use strict";
  const PAGE = "http://page.invalid";

  const written = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      return navigator.clipboard.writeText(text);
    }
    // Browsers keep the clipboard from pages without TLS; a selection may still be copied.
    const focused = document.activeElement;
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.appendChild(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
    if (!copied) throw new Error("the browser does not let this page copy");
  };

  const copy = async (button) => {
    const name = button.dataset.name;
    try {
      await written(button.dataset.copy.replaceAll(PAGE, location.origin));
      button.textContent = "Copied";
    } catch (error) {
      button.textContent = "Not copied";
    }
    setTimeout(() => (button.textContent = `Copy ${name}`), 1600);
  };

  // Before a question is asked: the answer that is there goes up, above the next one.
  const KEPT = 30;
  window.steperKeep = (question) => {
    window.steperAwait("#live");
    const turn = document.querySelector("#live .turn");
    const turns = document.querySelector("#log .turns");
    const empty = typeof question === "string" && !question.trim(); // else: one to try
    if (empty || !turn || !turns || turn.getAttribute("aria-busy") === "true") return;
    if (turns.lastElementChild?.dataset.turn === turn.dataset.turn) return;
    turns.appendChild(turn.cloneNode(true));
    while (turns.children.length > KEPT) turns.firstElementChild.remove();
  };

  // Something will change in a region, or it is asked for again what there is (see app.py).
  window.steperAwait = (region) => {
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
  };

  const remembered = () => {
    try {
      return localStorage.getItem("steper-theme");
    } catch (error) {
      return null;
    }
  };

  const choose = (dark) => {
    document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    document.querySelectorAll("iframe.report").forEach(fit);
    try {
      localStorage.setItem("steper-theme", dark ? "dark" : "light");
    } catch (error) {
      // Not remembered, then.
    }
  };

  // A report as high as what it holds, in the page's colours.
  const fit = (frame) => {
    const inner = frame.contentDocument;
    if (!inner || !inner.body) return;
    const dark = document.body.classList.contains("dark");
    inner.documentElement.style.colorScheme = dark ? "dark" : "light";
    frame.style.colorScheme = dark ? "dark" : "light";
    frame.style.height = `${inner.documentElement.scrollHeight + 8}px`;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    if ("themeToggle" in button.dataset) choose(!document.body.classList.contains("dark"));
  });
  document.addEventListener(
    "load",
    (event) => event.target.matches?.("iframe.report") && fit(event.target),
    true,
  );
  window.addEventListener("resize", () => document.querySelectorAll("iframe.report").forEach(fit));

  // Follow an answer as it grows, to the question box below it, unless its reader is elsewhere.
  let following = true;
  let waiting = false;
  const end = (talk) => window.scrollY + talk.getBoundingClientRect().bottom - window.innerHeight;
  window.addEventListener(
    "scroll",
    () => {
      const talk = document.querySelector(".talk");
      if (talk?.offsetParent) following = Math.abs(window.scrollY - end(talk)) <= 80;
    },
    { passive: true },
  );
  const follow = (talk) => {
    waiting = false;
    const behind = talk.offsetParent && window.scrollY < end(talk); // else another tab is read
    if (following && behind) window.scrollTo(0, end(talk));
  };
  const watch = (live) =>
    new MutationObserver(() => {
      const turn = live.querySelector(".turn");
      if (turn) exchange(turn, document.querySelector("#question textarea"));
      if (!waiting) requestAnimationFrame(() => follow(live.closest(".talk")));
      waiting = true;
    }).observe(live, { childList: true, subtree: true, characterData: true });

  // A question is taken out of the box once its answer has begun, and is put back where it was
  // refused; whatever else is in the box is the reader's.
  let taken = "";
  let returned = "";
  const exchange = (turn, box) => {
    const id = turn.dataset.turn;
    const asked = turn.querySelector(".asked").textContent;
    if (id !== taken && box.value.trim() === asked) put(box, "");
    taken = id;
    const refused = turn.querySelector(".problem") && !turn.querySelector(".step");
    if (!refused || id === returned) return;
    returned = id;
    if (!box.value) put(box, asked);
  };
  const put = (box, text) => {
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
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

  // The light: whether the endpoint can answer. When it comes (back), what it serves is read.
  let last = null;
  const look = async () => {
    const light = document.querySelector("#up .light");
    const key = document.querySelector("#key input")?.value;
    let status = { ready: false, said: "The server of this page cannot be reached" };
    try {
      const headers = key ? { Authorization: `Bearer ${key}` } : {};
      const response = await fetch("steper/status", { headers, cache: "no-store" });
      if (response.ok) status = await response.json();
    } catch (error) {
      // Then it stands at that.
    }
    if (light) {
      light.classList.toggle("up", status.ready);
      light.classList.toggle("down", !status.ready);
      const said = light.querySelector(".said");
      if (said.textContent !== status.said) said.textContent = status.said; // it is read out
      // At the first look the page itself is still reading, and what a link chose is not there yet.
      const missed = last !== null && (!last || light.dataset.known !== "true");
      if (status.ready && missed) document.querySelector("#look")?.click();
    }
    last = status.ready;
    setTimeout(look, 1000 * window.steperLookSeconds);
  };
  setTimeout(look, 1000 * Math.min(1.5, window.steperLookSeconds));

  // Gradio's button does not say whether what it opens is open.
  const tell = (label) => label.setAttribute("aria-expanded", label.classList.contains("open"));

  // In a narrow window the settings stand below the question, so they begin closed.
  const begin = () => {
    const label = document.querySelector("#settings button");
    const live = document.querySelector("#live");
    if (!label || !live) return void setTimeout(begin, 50);
    new MutationObserver(() => tell(label)).observe(label, { attributeFilter: ["class"] });
    tell(label);
    if (window.innerWidth <= 820) label.click();
    watch(live);
    const changes = { childList: true, subtree: true, attributeFilter: ["aria-busy"] };
    new MutationObserver(lead).observe(document.body, changes);
    // Gradio decides which tabs fit before our type size is in effect.
    setTimeout(() => window.dispatchEvent(new Event("resize")), 100);
    const theme = remembered();
    if (theme && !location.search.includes("__theme")) choose(theme === "dark");
  };
  begin();
})();

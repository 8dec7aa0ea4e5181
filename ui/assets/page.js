// What the page does without asking the server: copying, light or dark, and fitting a report.
(() => {
  "use strict";
  const PAGE = "http://page.invalid";

  const written = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      return navigator.clipboard.writeText(text);
    }
    // Browsers keep the clipboard from pages without TLS; a selection may still be copied.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.appendChild(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
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

  // Follow an answer as it grows, unless its reader has scrolled up.
  let following = true;
  const bottom = () => document.documentElement.scrollHeight - window.innerHeight;
  window.addEventListener("scroll", () => (following = window.scrollY >= bottom() - 80), {
    passive: true,
  });
  let asked = "";
  let waiting = false;
  const follow = () => {
    waiting = false;
    if (following) window.scrollTo(0, bottom());
  };
  const watch = (live) =>
    new MutationObserver(() => {
      const turn = live.querySelector(".turn");
      if (turn && turn.dataset.turn !== asked) {
        asked = turn.dataset.turn;
        clear(document.querySelector("#question textarea"));
      }
      if (!waiting) requestAnimationFrame(follow);
      waiting = true;
    }).observe(live, { childList: true, subtree: true, characterData: true });

  // The question is taken once its answer has begun.
  const clear = (box) => {
    box.value = "";
    box.dispatchEvent(new Event("input", { bubbles: true }));
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
      light.querySelector(".said").textContent = status.said;
      const missed = light.dataset.known !== "true" || last === false;
      if (status.ready && missed) document.querySelector("#look")?.click();
    }
    last = status.ready;
    setTimeout(look, 1000 * window.steperLookSeconds);
  };
  setTimeout(look, 1000 * Math.min(1.5, window.steperLookSeconds));

  // In a narrow window the settings stand before the answers, so they begin closed.
  const begin = () => {
    const label = document.querySelector("#settings button");
    const live = document.querySelector("#live");
    if (!label || !live) return void setTimeout(begin, 50);
    if (window.innerWidth < 820) label.click();
    watch(live);
    // Gradio decides which tabs fit before our type size is in effect.
    setTimeout(() => window.dispatchEvent(new Event("resize")), 100);
    const theme = remembered();
    if (theme && !location.search.includes("__theme")) choose(theme === "dark");
  };
  begin();
})();

// Whether the server is there: the light, and what becomes of a page whose server goes away.
(() => {
  "use strict";
  const GONE = "The server of this page cannot be reached";
  const STORE = "steper-kept";
  const steper = window.steper;
  const keyField = () => document.querySelector("#key input");

  // --- the light: whether the endpoint can answer; when it comes (back), what it serves is read ---
  const status = async (known) => {
    const key = keyField()?.value;
    try {
      const headers = key ? { Authorization: `Bearer ${key}` } : {};
      const response = await fetch(`steper/status?known=${known}`, { headers, cache: "no-store" });
      if (response.ok) return await response.json();
    } catch (error) {
      // Then it stands at that.
    }
    return { ready: false, said: GONE, wants_key: false };
  };

  let wasReady = null;
  let keptKey = "";
  const lookOnce = async () => {
    const known = document.querySelector("#up .light")?.dataset.known === "true";
    const { ready, said, wants_key } = await status(known);
    const light = document.querySelector("#up .light");
    if (!light) return;
    light.classList.toggle("up", ready);
    light.classList.toggle("down", !ready);
    const words = light.querySelector(".said");
    if (words.textContent !== said) words.textContent = said; // it is read out
    if (wants_key) openSettings();
    if (wants_key && keptKey && keyField() && !keyField().value) steper.put(keyField(), keptKey);
    // At the first looks the page itself is still reading, and what a link chose is not there yet.
    const late = performance.now() > 10_000;
    const missed = ready ? !wasReady || (late && !known) : wants_key && !keyField();
    if (wasReady !== null && missed) document.querySelector("#look")?.click();
    wasReady = ready;
  };

  // In a narrow window they begin closed, and the field for the key is in them.
  let opened = false;
  const openSettings = () => {
    if (opened || !keyField()) return;
    opened = true;
    if (!keyField().checkVisibility()) document.querySelector("#settings button").click();
  };

  let looking = null;
  let timer = 0;
  const look = () => {
    clearTimeout(timer);
    looking ??= lookOnce().finally(() => {
      looking = null;
      if (!document.hidden) timer = setTimeout(look, 1000 * steper.lookSeconds);
    });
  };
  document.addEventListener("visibilitychange", () => document.hidden || look());
  timer = setTimeout(look, 1000 * Math.min(1.5, steper.lookSeconds));

  // --- a server that has gone: Gradio says so in a corner, and loads the page anew when it is back.
  // We say so in the page, and what was read and written on it is there again after that. ---
  let gone = false;
  const heed = () => {
    const toasts = gone ? null : document.querySelector(".toast-wrap");
    if (!toasts?.textContent.includes("Connection to the server was lost")) return;
    gone = true;
    document.body.classList.add("gone");
    look();
    const alarm = problem(GONE, "What you typed, and the answers of Ask, will be here when it is back.");
    alarm.id = "gone";
    document.querySelector("#tabs").before(alarm);
    document.querySelectorAll('.turn[aria-busy="true"]').forEach(breakOff);
    // It was put above a next one, which does not come.
    const last = document.querySelector("#live .turn")?.dataset.turn;
    document.querySelector(`#log .turn[data-turn="${last}"]`)?.remove();
    const box = steper.questionBox();
    if (!box.value) steper.put(box, [steper.asked[0] ?? ""].flat()[0]);
    intoAddress();
    window.addEventListener("pagehide", store);
  };

  const problem = (...said) => {
    const box = document.createElement("div");
    box.className = "problem";
    box.setAttribute("role", "alert");
    for (const [at, text] of said.entries()) {
      const part = document.createElement(at ? "span" : "strong");
      part.textContent = text;
      box.append(part);
    }
    return box;
  };

  const breakOff = (turn) => {
    turn.setAttribute("aria-busy", "false");
    turn.querySelectorAll(".caret, .waiting").forEach((part) => part.remove());
    turn.querySelector(".outcome").append(problem("The answer broke off", "Its server has gone."));
  };

  // Settings go through the address, as in a link, and only until they are set.
  const address = location.href;
  const intoAddress = () => {
    const [, max_steps, top_k, temperature, seed, model] = steper.asked;
    const link = new URLSearchParams(location.search);
    link.delete("question"); // which is kept with all that was typed
    for (const [name, value] of Object.entries({ model, max_steps, top_k, temperature, seed })) {
      if (value !== undefined && value !== "") link.set(name, value);
    }
    history.replaceState(history.state, "", `?${link}`);
  };

  const BOXES = ["#question textarea", "#compare-question textarea", "#query textarea"];
  const selectedTab = () => document.querySelector('#tabs [role="tab"][aria-selected="true"]');
  const store = () => {
    const turns = [...document.querySelectorAll("#log .turn, #live .turn")].map(steper.copyOf);
    const texts = BOXES.map((box) => [box, document.querySelector(box)?.value ?? ""]);
    const kept = {
      address,
      key: keyField()?.value ?? "",
      tab: selectedTab()?.textContent,
      texts: texts.filter(([, text]) => text),
      turns: turns.map((turn) => turn.outerHTML),
    };
    sessionStorage.setItem(STORE, JSON.stringify(kept));
  };

  const recall = ({ address, key, tab, texts, turns }) => {
    keptKey = key;
    document.querySelector("#log .turns").innerHTML = turns.join("");
    if (turns.length) document.querySelector("#live .welcome")?.remove();
    const tabs = [...document.querySelectorAll('#tabs [role="tab"]')];
    tabs.find((other) => other.textContent === tab)?.click();
    window.scrollTo(0, document.documentElement.scrollHeight);
    // Gradio fills the box in its own time, and has the boxes of a tab once that has been opened.
    let tries = 0;
    let left = texts;
    const fill = setInterval(() => {
      const settled = document.querySelector("#up .light")?.dataset.known === "true";
      if (!settled && tries++ < 20) return;
      if (location.href !== address) history.replaceState(history.state, "", address);
      left = left.filter(([box, text]) => {
        const found = document.querySelector(box);
        if (found && !found.value) steper.put(found, text);
        return !found;
      });
      if (!left.length) clearInterval(fill);
    }, 200);
  };

  steper.begin.push(() => {
    const kept = JSON.parse(sessionStorage.getItem(STORE) ?? "null");
    sessionStorage.removeItem(STORE);
    if (kept) recall(kept);
    new MutationObserver(heed).observe(document.body, { childList: true, subtree: true });
  });
})();

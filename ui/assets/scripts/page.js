// What a page needs that asks nothing: copying, light or dark, fitting a report, how it begins.
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

  // Gradio opens a list at any key, also at the one that leaves it, and so leaves it open.
  const leaves = (event) => event.key === "Tab" && event.target.matches?.('[role="combobox"]');
  window.addEventListener("keydown", (e) => leaves(e) && e.stopImmediatePropagation(), true);

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
    window.steper.begin.forEach((act) => act());
    // Gradio decides which tabs fit before our type size is in effect.
    setTimeout(() => window.dispatchEvent(new Event("resize")), 100);
    const theme = remembered();
    if (theme && !location.search.includes("__theme")) choose(theme === "dark");
  };
  begin();
})();

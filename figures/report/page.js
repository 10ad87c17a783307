"use strict";
// Filtering the verdicts, by hand or by the counts on top; opening those that a link leads to, and all of them for a printer.
(() => {
  const form = document.getElementById("filter");
  const claims = [...document.querySelectorAll(".claim")];
  const texts = claims.map((claim) => claim.textContent.toLowerCase());
  const fields = ["whose", "verdict", "level", "package", "source"];
  const filter = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    claims.forEach((claim, i) => {
      const fits = fields.every((name) => !form.elements[name].value || claim.dataset[name] === form.elements[name].value)
        && words.every((word) => texts[i].includes(word));
      claim.hidden = !fits;
      shown += fits;
    });
    form.elements.shown.value = `${shown} of ${claims.length}`;
  };
  if (form) {
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.querySelectorAll("a[data-whose]").forEach((link) => link.addEventListener("click", () => {
      form.reset();
      fields.forEach((name) => { form.elements[name].value = link.dataset[name] || ""; });
    }));
    filter();
  }
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const around = target && target.closest("details");
    if (!around) return;
    if (around.hidden) form.reset(), filter();
    around.open = true;
    target.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  reveal();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();

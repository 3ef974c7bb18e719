"use strict";
/* The page's only script: the switch of light and dark, and the explorer of questions. Every text of others enters the
   page as a text node, never as markup. */

const root = document.documentElement;
root.classList.add("js");

const stored = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); } catch { /* a page without storage forgets */ } },
};
const theme = stored.get("ragline-theme");
if (theme === "dark" || theme === "light") root.dataset.theme = theme;

document.addEventListener("DOMContentLoaded", () => {
  switchColours(document.getElementById("theme"));
  explore(JSON.parse(document.getElementById("explorer-data").textContent));
});

function switchColours(button) {
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (preferred.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored.set("ragline-theme", root.dataset.theme);
    name();
  });
  preferred.addEventListener("change", name);
  button.hidden = false;
  name();
}

/* --- parts of the page ------------------------------------------------------------------------- */

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(2).filter((child) => child !== null && child !== false));
  return made;
}
const bdi = (text) => el("bdi", null, text);
const fixed = (value) => (value === null || value === undefined ? "—" : value.toFixed(3).replace("-", "−"));
const count = (value) => value.toLocaleString("en");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/* --- the explorer ------------------------------------------------------------------------------ */

function explore(data) {
  const PAGE = 100;
  const USUAL = { text: "", sort: "worst", answerer: data.served };
  const FILTERS = ["set", "outcome", "kind", "language", "answerable", "document"];
  const form = document.getElementById("filters");
  const status = document.getElementById("hits");
  const rows = document.getElementById("rows");
  const dialog = document.getElementById("one");
  const pager = document.getElementById("pager");
  const order = Object.keys(data.outcomes);
  const search = data.systems.findIndex(([name]) => name === data.search);
  const questions = data.questions.map((values) => {
    const q = Object.fromEntries(data.fields.map((field, at) => [field, values[at]]));
    q.key = `${q.set}/${q.id}`;
    q.answerable = q.answerable ? "yes" : "no";
    const texts = [q.id, q.question, q.document, q.kind, ...q.references, ...q.answers.map((a) => a.text)];
    q.words = texts.join("\n").toLowerCase();
    return q;
  });
  const byKey = new Map(questions.map((q) => [q.key, q]));
  let found = questions;
  let page = 0;
  let open = null;

  const field = (name) => form.elements.namedItem(name);
  const answerer = () => data.answerers.indexOf(field("answerer").value);
  const outcome = (q) => q.answers[answerer()].outcome;
  const went = (q) => (data.fine.includes(outcome(q)) ? "fine" : "failed");
  const rank = (q) => q.ranks[search] || Infinity;

  const SORTS = {
    worst: (a, b) => order.indexOf(outcome(a)) - order.indexOf(outcome(b)) || SORTS.f1(a, b),
    f1: (a, b) => a.answers[answerer()].f1 - b.answers[answerer()].f1,
    rank: (a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)),
    confidence: (a, b) => b.confidence - a.confidence,
    id: () => 0,
  };

  function fill(name, entries) {
    field(name).append(...entries.map(([value, text]) => el("option", { value }, text)));
  }
  const values = (name) => [...new Set(questions.map((q) => q[name]))].sort();
  fill("set", Object.entries(data.sets));
  fill("outcome", order.filter((o) => questions.some((q) => q.answers.some((a) => a.outcome === o)))
    .map((o) => [o, data.outcomes[o]]));
  fill("kind", values("kind").map((value) => [value, value]));
  fill("language", values("language").map((value) => [value, value || "not known"]));
  fill("answerer", data.answerers.map((name) => [name, name === data.served ? `${name} (served)` : name]));
  const documents = new Set(values("document"));
  document.getElementById("documents").append(...[...documents].map((value) => el("option", { value })));

  /* state in the address: filters as they are, and `q` for the question that is open */

  const controls = () => [...Object.keys(USUAL), ...FILTERS];
  const usual = (name) => USUAL[name] ?? "";

  function choose(asked) {
    for (const name of controls()) field(name).value = asked.get(name) ?? usual(name);
    for (const select of form.querySelectorAll("select")) {
      if (select.selectedIndex < 0) select.value = usual(select.name);
    }
    filter();
  }

  function remember() {
    const names = controls().filter((name) => field(name).value !== usual(name));
    const text = new URLSearchParams(names.map((name) => [name, field(name).value])).toString();
    if (text || location.hash.includes("=")) history.replaceState(null, "", `#${text || "questions"}`);
  }

  function followAddress() {
    const asked = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    if (controls().some((name) => asked.has(name))) choose(asked);
    const q = byKey.get(asked.get("q"));
    if (q) return show(q);
    leave();
    if (asked.has("q")) status.textContent = `Question ${asked.get("q")} is not among those on this page.`;
    if (asked.size) document.getElementById("questions").scrollIntoView();
  }

  /* the list */

  function filter() {
    const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = FILTERS.map((name) => [name, field(name).value]).filter(([, value]) => value !== "");
    const kept = (q) => words.every((word) => q.words.includes(word)) && wanted.every(([name, value]) =>
      name === "outcome" ? value === outcome(q) || (value === "failed-any" && went(q) === "failed")
        : name === "document" && !documents.has(value) ? q.document.toLowerCase().includes(value.toLowerCase())
          : q[name] === value);
    found = questions.filter(kept).sort(SORTS[field("sort").value]);
    page = 0;
    list();
    const failed = found.filter((q) => went(q) === "failed").length;
    status.textContent = `${plural(found.length, "question")} of ${count(questions.length)}, ` +
      `${count(failed)} of them wrong with the ${field("answerer").value} answers.`;
  }

  function list() {
    rows.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((q) => el("tr", null,
      el("th", { scope: "row" }, el("a", { href: `#q=${encodeURIComponent(q.key)}` }, bdi(q.question))),
      el("td", { class: "text" }, chip(outcome(q))),
      el("td", null, q.answerable === "yes" ? fixed(q.answers[answerer()].f1) : "—"),
      el("td", null, q.answerable === "yes" ? String(q.ranks[search] || "–") : "—"),
      el("td", null, fixed(q.confidence)),
      el("td", { class: "text aside" }, bdi(q.kind)),
      el("td", { class: "text aside" }, data.sets[q.set]))));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    pager.hidden = pages === 1;
    pager.querySelector("span").textContent = `${page + 1} of ${pages}`;
    pager.querySelector("[name=previous]").disabled = page === 0;
    pager.querySelector("[name=next]").disabled = page + 1 >= pages;
  }

  const chip = (name) => el("span", { class: `chip ${data.fine.includes(name) ? "fine" : "wrong"}` },
    data.outcomes[name]);
  const links = () => [...rows.querySelectorAll("a")];

  function turn(by) {
    page += by;
    list();
    document.getElementById("questions").scrollIntoView();
    links()[0]?.focus();
  }

  function step(by) {
    if (dialog.open) {
      const next = found[found.indexOf(open) + by];
      if (!next) return;
      history.replaceState(null, "", `#q=${encodeURIComponent(next.key)}`);  // at once: keys may come faster than events
      show(next);
      return;
    }
    const at = links().indexOf(document.activeElement);
    links()[Math.max(0, at + by)]?.focus();
  }

  /* one question */

  function show(q) {
    open = q;
    const at = found.indexOf(q);
    const title = el("h2", { id: "one-title", tabindex: "-1", dir: "auto" }, q.question);
    const shownGold = q.shown.some(([, , gold]) => gold);
    const missing = q.answerable === "yes" && !shownGold ? q.gold : [];
    const facts = [data.sets[q.set], q.kind, q.language, q.document, q.id].filter(Boolean);
    dialog.querySelector(".body").replaceChildren(el("div", null,
      title,
      el("p", { class: "note" }, facts.flatMap((fact, place) => [place ? " · " : "", bdi(fact)])),
      el("h3", null, q.references.length === 1 ? "Reference" : "References"),
      q.references.length
        ? el("ul", { class: "references" }, q.references.map((text) => el("li", { dir: "auto" }, text)))
        : el("p", null, "None: the documents hold no answer."),
      el("div", { class: "answers" }, data.answerers.map((name, place) => answer(q, name, q.answers[place], place))),
      el("p", { class: "facts" },
        q.answerable === "yes" ? ["First gold passage at rank: ", data.systems.map(([, name], place) =>
          `${place ? " · " : ""}${name} ${q.ranks[place] || "not found"}`), ". "] : null,
        `Confidence ${fixed(q.confidence)}: the system ${q.declined ? "declined" : "answered"}.`),
      missing.length ? el("h3", null, "What should have been found") : null,
      missing.length ? el("ul", { class: "passages" }, missing.map((at) => passage(q, at, null, true))) : null,
      el("h3", null, "The first passages found; an answerer may read fewer"),
      legend(),
      el("ol", { class: "passages" }, q.shown.map(([at, score, gold]) => passage(q, at, score, gold)))));
    dialog.querySelector("[name=previous]").disabled = at <= 0;
    dialog.querySelector("[name=next]").disabled = at < 0 || at + 1 >= found.length;
    dialog.querySelector(".place").textContent = at < 0 ? "" : `${count(at + 1)} of ${count(found.length)}`;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    title.focus();
  }

  /* Closes the question, once, and goes to its line; the browser's own "close" comes later than the next key may. */
  function leave() {
    if (!open) return;
    const at = found.indexOf(open);
    open = null;
    dialog.close();
    remember();
    if (at >= 0 && Math.floor(at / PAGE) !== page) {
      page = Math.floor(at / PAGE);
      list();
    }
    links()[at - page * PAGE]?.focus();
  }

  function answer(q, name, said, place) {
    const judged = Object.entries(said.judged ?? {});
    return el("section", { class: "answer", "aria-label": `${name} answer` },
      el("h3", null, name[0].toUpperCase() + name.slice(1), name === data.served ? " (served)" : "", " ",
        chip(said.outcome)),
      el("p", { class: `said m${place + 1}`, dir: "auto" }, said.text || "—"),
      said.failed ? el("p", { class: "note", dir: "auto" }, `No reply: ${said.failed}`) : null,
      el("p", { class: "scores" }, q.answerable === "yes" ? `EM ${fixed(said.em)} · F1 ${fixed(said.f1)} · ` : "",
        `grounded ${fixed(said.grounded)}`),
      judged.length ? el("p", { class: "scores" }, "Judge: ", judged.map(([criterion, value]) =>
        `${criterion} ${fixed(value)}`).join(" · ")) : null);
  }

  function legend() {
    return el("p", { class: "note legend" }, el("mark", { class: "m0" }, "words of a reference"), " ",
      data.answerers.flatMap((name, place) => [el("mark", { class: `m${place + 1}` }, `words of the ${name} answer`),
        " "]));
  }

  function passage(q, at, score, gold) {
    const p = data.passages[at];
    const cited = data.answerers.filter((_, place) => q.answers[place].cited.includes(at));
    const marks = q.marks.filter(([where]) => where === at);
    const last = p.pieces[p.pieces.length - 1];
    return el("li", { class: gold ? "gold" : null },
      el("p", { class: "head" }, el("strong", null, bdi(p.title)), p.heading ? [" › ", bdi(p.heading)] : null,
        score === null ? null : ` · score ${fixed(score)}`,
        gold ? [" ", el("span", { class: "chip gold" }, "gold")] : null,
        cited.length ? el("span", { class: "tag" }, ` cited by ${cited.join(" and ")}`) : null),
      el("p", { class: "body", dir: "auto" },
        p.pieces.flatMap(([start, text]) => [start ? " … " : "", ...highlighted(start, text, marks)]),
        last[0] + [...last[1]].length < p.length ? " …" : null));
  }

  /* Offsets count characters, not UTF-16 units, hence the spread. */
  function highlighted(start, text, marks) {
    const characters = [...text];
    const inside = marks.map(([, from, to, kind]) => [from - start, to - start, kind])
      .filter(([from, to]) => to > 0 && from < characters.length);
    const ends = inside.flatMap(([from, to]) => [Math.max(0, from), Math.min(characters.length, to)]);
    const cuts = [...new Set([0, ...ends, characters.length])].sort((a, b) => a - b);
    return cuts.slice(1).map((end, at) => {
      const begin = cuts[at];
      const part = characters.slice(begin, end).join("");
      const kinds = [...new Set(inside.filter(([from, to]) => from <= begin && end <= to).map(([, , kind]) => kind))];
      return kinds.length ? el("mark", { class: kinds.map((kind) => `m${kind}`).join(" ") }, part) : part;
    });
  }

  /* what people do */

  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", () => { choose(new URLSearchParams()); remember(); });
  pager.querySelector("[name=previous]").addEventListener("click", () => turn(-1));
  pager.querySelector("[name=next]").addEventListener("click", () => turn(1));
  dialog.querySelector("[name=previous]").addEventListener("click", () => step(-1));
  dialog.querySelector("[name=next]").addEventListener("click", () => step(1));
  dialog.querySelector("[name=close]").addEventListener("click", leave);
  dialog.addEventListener("close", () => { if (!dialog.open) leave(); });
  addEventListener("hashchange", followAddress);
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === field("text")) links()[0]?.focus();
    if (event.key === "Escape" && dialog.open) leave();
    if (writing) return;
    if (event.key === "/" && !dialog.open) {
      event.preventDefault();
      field("text").focus();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });

  choose(new URLSearchParams());
  followAddress();
}

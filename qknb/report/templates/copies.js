const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const STEP = 30;
const decisions = new Map();
let limit = STEP;
let groupLimit = 10;

function make(tag, options = {}, ...children) {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
}

function figure(image, name, link, enlarge) {
  const picture = make("img", { src: image, alt: name, loading: "lazy", onclick: enlarge });
  const text = link ? make("a", { href: link, textContent: name }) : name;
  return make("figure", { className: "thumb" }, picture, make("figcaption", {}, text));
}

function outlined(image, name, region) {
  const box = make("div", { className: "picture" }, make("img", { src: image, alt: name }));
  if (region) {
    const points = region.map((point) => point.map(Number).join(",")).join(" ");
    const drawn = `<svg viewBox="0 0 1 1" preserveAspectRatio="none"><polygon points="${points}"/></svg>`;
    box.insertAdjacentHTML("beforeend", drawn);
  }
  return make("figure", {}, box, make("figcaption", { textContent: name }));
}

function enlarge(query, match) {
  const large = at("large");
  large.querySelector(".large").replaceChildren(
    outlined(query.image, query.name, match.region),
    outlined(match.image, match.name, match.original),
  );
  large.querySelector(".words").textContent = match.words;
  large.showModal();
}

function button(query, match, word) {
  const key = query.path + "\n" + match.path;
  const own = make("button", { textContent: word, type: "button" });
  own.setAttribute("aria-pressed", decisions.get(key)?.[2] === word);
  own.onclick = () => {
    if (decisions.get(key)?.[2] === word) decisions.delete(key);
    else decisions.set(key, [query.path, match.path, word]);
    for (const other of own.parentElement.children)
      other.setAttribute("aria-pressed", decisions.get(key)?.[2] === other.textContent);
    at("export").hidden = decisions.size === 0;
  };
  return own;
}

function article(query, match) {
  const sure = make("b", { textContent: match.verdict });
  const heading = make("header", {}, sure, ` ${match.percent} of 100`);
  const buttons = make("div", { className: "buttons" });
  buttons.append(...["right", "wrong", "ignore"].map((word) => button(query, match, word)));
  return make(
    "article", { className: match.verdict === "not sure" ? "unsure" : "good" }, heading,
    figure(match.image, match.name, match.link, () => enlarge(query, match)),
    make("p", { textContent: match.words }), buttons,
  );
}

function chosen() {
  const from = Number(at("from").value) / 100;
  const words = at("words").value.toLowerCase();
  const named = (name) => name.toLowerCase().includes(words);
  return data.queries
    .map((query) => ({
      ...query,
      matches: query.matches.filter(
        (match) => match.confidence >= from && (named(query.name) || named(match.name)),
      ),
    }))
    .filter((query) => query.matches.length);
}

function draw() {
  const queries = chosen();
  at("shown").textContent = `${at("from").value} of 100`;
  const pairs = queries.reduce((sum, query) => sum + query.matches.length, 0);
  at("counted").textContent = `${pairs} pairs of ${queries.length} images`;
  at("list").replaceChildren(
    ...queries.slice(0, limit).map((query) =>
      make(
        "section", { className: "query" },
        figure(query.image, query.name, query.link, () => enlarge(query, query.matches[0])),
        make("div", { className: "found" }, ...query.matches.map((match) => article(query, match))),
      ),
    ),
  );
  at("more").hidden = queries.length <= limit;
}

function drawGroups() {
  at("groups").replaceChildren(
    ...data.groups.slice(0, groupLimit).map((group) =>
      make(
        "div", { className: "group" },
        ...group.shown.map((file) => figure(file.image, file.name, file.link)),
        ...(group.more ? [make("p", { textContent: `and ${group.more} more files` })] : []),
      ),
    ),
  );
  at("more-groups").hidden = data.groups.length <= groupLimit;
}

function save() {
  const cell = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = [...decisions.values()].map((row) => row.map(cell).join(","));
  const text = ["query,match,decision", ...lines].join("\n") + "\n";
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: "decisions.csv" }).click();
}

at("from").value = Math.round(100 * data.from);
at("from").oninput = at("words").oninput = () => {
  limit = STEP;
  draw();
};
at("more").onclick = () => {
  limit += STEP;
  draw();
};
at("export").onclick = save;
if (data.groups.length) {
  at("more-groups").onclick = () => {
    groupLimit += 10;
    drawGroups();
  };
  drawGroups();
}
draw();

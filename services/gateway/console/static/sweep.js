// A slider over the settings of a sweep: it shows what the table below says of one setting, and
// marks it in the charts. Without this script the table says it all.

const SVG = "http://www.w3.org/2000/svg";
let made = 0;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function readSettings(table) {
  const attacks = [...table.querySelectorAll("thead th")].slice(4).map((th) => th.textContent.trim());
  return [...table.querySelectorAll("tbody tr")].map((row) => {
    const [name, test, cost, forget, ...leaks] = [...row.children];
    const text = (cell) => cell.textContent.trim().replace(/\s+/g, " ");
    return { row, name: text(name), test: text(test), cost: text(cost), forget: text(forget), leaks: leaks.map((cell, at) => ({ attack: attacks[at], text: text(cell), nodes: cell.firstElementChild })) };
  });
}

// The charts have a mark above each setting's name on their axis.
function markCharts(charts, at) {
  for (const svg of charts) {
    const ticks = svg.querySelectorAll('text.tick[text-anchor="middle"]');
    const x = ticks[at]?.getAttribute("x");
    let line = svg.querySelector("line.cursor");
    if (!line) {
      line = document.createElementNS(SVG, "line");
      line.setAttribute("class", "cursor");
      line.setAttribute("y1", "24");
      line.setAttribute("y2", String(svg.viewBox.baseVal.height - 40));
      svg.prepend(line);
    }
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    for (const circle of svg.querySelectorAll(".mark circle")) {
      circle.parentElement.classList.toggle("current", circle.getAttribute("cx") === x);
    }
  }
}

function addSlider(heading) {
  const charts = [];
  let table = null;
  let words = null;
  for (let next = heading.nextElementSibling; next && next.tagName !== "H3"; next = next.nextElementSibling) {
    if (next.tagName === "P") words ??= next;
    if (next.tagName === "FIGURE") charts.push(...next.querySelectorAll("svg"));
    if (next.querySelector("table")) { table = next.querySelector("table"); break; }
  }
  if (!table) return;
  const settings = readSettings(table);
  if (settings.length < 2) return;
  const strength = table.querySelector("thead th").textContent.trim();
  made += 1;
  const input = make("input", { type: "range", id: `setting-${made}`, min: "0", max: String(settings.length - 1), step: "1" });
  const chosen = settings.findIndex((one) => words?.querySelector("b")?.textContent.includes(`${strength} ${one.name}.`));
  input.value = String(Math.max(0, chosen));
  const shown = make("dl", { className: "setting" });
  const fact = (name, ...content) => make("div", {}, make("dt", { textContent: name }), make("dd", {}, ...content));
  const update = () => {
    const at = Number(input.value);
    const one = settings[at];
    input.setAttribute("aria-valuetext", `${strength} ${one.name}: ${one.leaks.map((leak) => `${leak.attack} ${leak.text}`).join("; ")}; test accuracy ${one.test}, cost ${one.cost}`);
    shown.replaceChildren(
      fact(strength, make("b", { className: "num", textContent: one.name })),
      ...one.leaks.map((leak) => fact(leak.attack, ...[...(leak.nodes?.childNodes ?? [])].map((node) => node.cloneNode(true)))),
      fact("test accuracy", make("span", { className: "num", textContent: one.test })),
      fact("cost", make("span", { className: "num", textContent: one.cost })),
      fact("forget accuracy", make("span", { className: "num", textContent: one.forget })),
    );
    for (const other of settings) other.row.classList.toggle("current", other === one);
    markCharts(charts, at);
  };
  input.addEventListener("input", update);
  const ends = make("div", { className: "ends" }, make("span", { textContent: settings[0].name }), make("span", { textContent: settings.at(-1).name }));
  ends.setAttribute("aria-hidden", "true");
  const label = make("label", { htmlFor: input.id, textContent: `Setting: ${strength}` });
  (words ?? heading).after(make("div", { className: "slider" }, make("div", { className: "track" }, label, input, ends), shown));
  update();
}

const section = document.querySelector('.report section[aria-labelledby="sweeps"]');
if (section) section.querySelectorAll("h3").forEach(addSlider);

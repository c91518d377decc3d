// Pictures of a report, enlarged: each figure gets a button that opens it in a dialog, with what
// belongs together side by side. Arrow keys go to the next and the previous one, Escape closes.

const NAMES = { deleted: "deleted", reconstructed: "came back", "came back": "came back", baseline: "baseline", random: "random direction", public: "public sample" };

// The text of an element on one line: what stands on lines of its own, and marks, after a dot.
function readLine(element) {
  if (!element) return "";
  const copy = element.cloneNode(true);
  copy.querySelectorAll("br").forEach((one) => one.replaceWith(" · "));
  copy.querySelectorAll(".chip").forEach((one) => one.prepend("· "));
  return copy.textContent.trim().replace(/\s+/g, " ").replace(/^· /, "").replace(/(· ?)+/g, "· ");
}

function readFigure(figure) {
  const images = [...figure.querySelectorAll("img")];
  const words = [...figure.querySelectorAll(".under, .under span")].filter((one) => !one.children.length).map((one) => one.textContent.trim());
  const gallery = figure.closest("section");
  return {
    figure,
    images: images.map((image, at) => ({ src: image.src, alt: image.alt, name: NAMES[words[at]] ?? words[at] ?? "" })),
    title: readLine(gallery?.querySelector("h2, h3")),
    about: readLine(gallery?.querySelector(":scope > .sub")),
    caption: readLine(figure.querySelector("figcaption")),
  };
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Zoom {
  constructor(shown) {
    this.shown = shown;
    this.title = make("h2", { id: "zoom-title" });
    this.about = make("p", { className: "sub" });
    this.pictures = make("div", { className: "zoomed" });
    this.caption = make("p", { className: "zoom-caption" });
    this.place = make("span", { className: "place" });
    this.previous = make("button", { type: "button", className: "plain", textContent: "← Previous" });
    this.next = make("button", { type: "button", className: "plain", textContent: "Next →" });
    const close = make("button", { type: "button", className: "quiet", textContent: "Close" });
    this.status = make("div", {}, this.title, this.about, this.pictures, this.caption);
    this.status.setAttribute("aria-live", "polite");
    this.dialog = make("dialog", { className: "zoom" }, close, this.status, make("div", { className: "steps" }, this.previous, this.place, this.next));
    this.dialog.setAttribute("aria-labelledby", "zoom-title");
    document.body.append(this.dialog);
    close.addEventListener("click", () => this.dialog.close());
    this.previous.addEventListener("click", () => this.show(this.at - 1));
    this.next.addEventListener("click", () => this.show(this.at + 1));
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener("close", () => this.shown[this.at].button.focus());
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const target = event.key === "Home" ? 0 : event.key === "End" ? this.shown.length - 1 : step && this.at + step;
      if (target === undefined) return;
      event.preventDefault();
      this.show(target);
    });
  }

  show(at) {
    if (at < 0 || at >= this.shown.length) return;
    this.at = at;
    const one = readFigure(this.shown[at].figure);
    this.title.textContent = one.title;
    this.about.textContent = one.about;
    this.caption.textContent = one.caption;
    this.pictures.replaceChildren(...one.images.map((image) =>
      make("figure", {}, make("img", { src: image.src, alt: image.alt }), make("figcaption", { textContent: image.name }))));
    this.place.textContent = `${at + 1} of ${this.shown.length}`;
    this.previous.disabled = at === 0;
    this.next.disabled = at === this.shown.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    if (document.activeElement === document.body || document.activeElement?.disabled) this.dialog.querySelector(".steps button:not(:disabled)")?.focus();
  }
}

const figures = [...document.querySelectorAll(".report figure.triple, .report figure.pair-of")];
if (figures.length) {
  const shown = figures.map((figure, at) => {
    const first = figure.querySelector("img");
    const button = make("button", { type: "button", className: "enlarge" });
    button.setAttribute("aria-label", `Enlarge: ${first.alt}`);
    button.addEventListener("click", () => zoom.show(at));
    figure.append(button);
    figure.classList.add("zoomable");
    return { figure, button };
  });
  const zoom = new Zoom(shown);
}

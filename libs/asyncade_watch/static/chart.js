// A line chart with a target: axes, grid, and a reading under the pointer or by the arrow keys.

const NS = "http://www.w3.org/2000/svg";
const MARGIN = { top: 14, right: 14, bottom: 26, left: 42 };

export class Chart {
  constructor(box) {
    this.box = box;
    this.svg = box.appendChild(make("svg", { "aria-hidden": "true" }));
    this.data = { x: [], y: [], target: null, mark: null, unit: "" };
    this.at = null;
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("pointermove", (event) => this.read(event.offsetX));
    box.addEventListener("pointerleave", () => this.point(null));
    box.addEventListener("blur", () => this.point(null));
    box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.data.x.length) return;
      event.preventDefault();
      const last = this.data.x.length - 1;
      this.point(Math.min(last, Math.max(0, (this.at ?? last) + step)));
    });
  }

  // x, y: numbers, without gaps; target: a number or null; mark: what is shown, an x or null; unit: of x;
  // none: shown instead of a curve without points.
  show(data) {
    if (this.at !== null && data.unit !== this.data.unit) this.at = null;
    this.data = data;
    this.draw();
  }

  draw() {
    const { x, y, target, mark, none } = this.data;
    const width = this.box.clientWidth, height = this.box.clientHeight;
    this.svg.replaceChildren();
    if (!x.length || !width) {
      text(this.svg, width / 2, height / 2, none ?? "", "middle");
      return;
    }
    const last = x.length - 1;
    const ys = target === null ? y : [...y, target];
    const low = Math.min(...ys), high = Math.max(...ys), pad = (high - low || 1) * 0.06;
    const yTicks = ticks(low - pad, high + pad, 5), xTicks = ticks(0, x[last] || 1, width < 480 ? 4 : 7);
    const bottom = height - MARGIN.bottom, right = width - MARGIN.right;
    const from = low - pad, to = high + pad;
    this.px = (value) => MARGIN.left + (value / (x[last] || 1)) * (right - MARGIN.left);
    this.py = (value) => bottom - ((value - from) / (to - from)) * (bottom - MARGIN.top);
    for (const tick of yTicks) {
      line(this.svg, MARGIN.left, this.py(tick), right, this.py(tick), "grid");
      text(this.svg, MARGIN.left - 8, this.py(tick) + 4, short(tick), "end");
    }
    for (const tick of xTicks) text(this.svg, this.px(tick), height - 6, short(tick), "middle");
    const points = x.map((value, at) => `${this.px(value).toFixed(1)},${this.py(y[at]).toFixed(1)}`).join(" ");
    const area = `${this.px(x[0])},${bottom} ${points} ${this.px(x[last])},${bottom}`;
    this.svg.append(make("polygon", { class: "area", points: area }), make("polyline", { class: "line", points }));
    if (target !== null) {
      line(this.svg, MARGIN.left, this.py(target), right, this.py(target), "target");
      text(this.svg, MARGIN.left + 16, this.py(target) + 15, `target ${short(target)}`, "start", "target-name");
    }
    if (mark !== null) {
      const at = this.px(mark);
      line(this.svg, at, MARGIN.top, at, bottom, "mark");
      text(this.svg, at + (at > width / 2 ? -8 : 8), (MARGIN.top + bottom) / 2, "shown above", at > width / 2 ? "end" : "start");
    }
    this.reading = this.svg.appendChild(make("g", {}));
    this.point(this.at === null ? null : Math.min(this.at, last));
  }

  read(offset) {
    const { x } = this.data;
    if (!x.length || !this.px) return;
    let nearest = 0;
    x.forEach((value, at) => {
      if (Math.abs(this.px(value) - offset) < Math.abs(this.px(x[nearest]) - offset)) nearest = at;
    });
    this.point(nearest);
  }

  point(at) {
    this.at = at;
    this.reading?.replaceChildren();
    if (at === null || !this.reading) return;
    const { x, y, unit } = this.data;
    const px = this.px(x[at]), py = this.py(y[at]);
    line(this.reading, px, MARGIN.top, px, this.box.clientHeight - MARGIN.bottom, "cursor");
    this.reading.append(make("circle", { class: "dot", cx: px, cy: py, r: 5 }));
    const left = px > this.box.clientWidth / 2;
    const words = `${y[at].toFixed(2)} at ${Number.isInteger(x[at]) ? x[at].toLocaleString("en") : x[at].toFixed(1)} ${unit}`;
    text(this.reading, px + (left ? -10 : 10), MARGIN.top + 12, words, left ? "end" : "start", "reading");
    this.box.setAttribute("aria-label", words);
  }
}

export function short(value) {
  if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toFixed(2)}M`;
  if (Math.abs(value) >= 1e3) return `${+(value / 1e3).toFixed(1)}k`;
  return `${+value.toFixed(2)}`.replace("-", "−");
}

function ticks(low, high, about) {
  const raw = (high - low) / about, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(tick);
  return found;
}

function make(name, attributes) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function line(parent, x1, y1, x2, y2, kind) {
  parent.append(make("line", { x1, y1, x2, y2, class: kind }));
}

function text(parent, x, y, words, anchor, kind = "") {
  const element = make("text", { x, y, "text-anchor": anchor, class: kind });
  element.textContent = words;
  parent.append(element);
}

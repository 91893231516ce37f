"use strict";
// One plot: scales, axes, and layers of bands, lines, markers and bars, as SVG. Text is only ever set as text.
const SVG = "http://www.w3.org/2000/svg"; // a name, not an address: nothing is fetched
const MARK = {
  circle: r => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  square: r => `M${-r},${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  triangle: r => `M0,${-1.2 * r}L${1.2 * r},${r}H${-1.2 * r}z`,
  down: r => `M0,${1.2 * r}L${1.2 * r},${-r}H${-1.2 * r}z`,
  diamond: r => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0z`,
  cross: r => `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`,
  plus: r => `M${-1.2 * r},0H${1.2 * r}M0,${-1.2 * r}V${1.2 * r}`,
  star: r => "M" + [...Array(10).keys()].map(k => {
    const a = Math.PI * k / 5, s = (k % 2 ? 0.75 : 1.8) * r;
    return `${(s * Math.sin(a)).toFixed(2)},${(-s * Math.cos(a)).toFixed(2)}`;
  }).join("L") + "z",
};

function element(name, attributes = {}, parent = null, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function html(name, attributes = {}, parent = null, text = null) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

const isNumber = v => typeof v === "number" && Number.isFinite(v);

function niceTicks(low, high, count, integer = false) {
  const span = high - low || Math.abs(high) || 1, raw = span / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * 0.999);
  if (integer) step = Math.max(1, Math.ceil(step));
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return { ticks, step };
}

function logTicks(low, high) {
  const ticks = [], first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const within = last - first <= 3 ? [1, 2, 5] : [1];
  for (let p = first; p <= last; p++) for (const m of within) ticks.push(m * 10 ** p);
  return ticks.filter(t => t >= low * 0.999 && t <= high * 1.001);
}

function written(value, axis = {}, step = 0) {
  if (!isNumber(value)) return "–";
  if (axis.percent) return `${+(100 * value).toFixed(step && 100 * step < 1 ? 1 : step ? 0 : 1)} %`;
  const size = Math.abs(value);
  if (size && (size >= 1e6 || size < 1e-3)) return value.toExponential(step ? 0 : 3).replace("-", "−");
  const digits = step ? Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9) + (step / 10 ** Math.floor(Math.log10(step)) % 1 > 0.01 ? 1 : 0)))
    : size >= 1000 ? 0 : Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(size || 1))));
  const text = value.toFixed(digits);
  return (step || !text.includes(".") ? text : text.replace(/\.?0+$/, "")).replace(/^-0$/, "0").replace("-", "−");
}

function extent(values, axis) {
  const finite = values.filter(isNumber).filter(v => !axis.log || v > 0);
  let low = finite.reduce((a, b) => Math.min(a, b), Infinity), high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) [low, high] = axis.log ? [1, 10] : [0, 1];
  if (axis.log) {
    if (low === high) [low, high] = [low / 2, high * 2];
  } else {
    const margin = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = [low - margin, high + margin];
  }
  return [isNumber(axis.low) ? axis.low : low, isNumber(axis.high) ? axis.high : high];
}

class Plot {
  // axes: {label, percent, integer, log, categories}; domains: [low, high]
  constructor(host, { x, y, xDomain, yDomain, height }) {
    this.width = Math.max(220, host.clientWidth || 600);
    this.height = height;
    Object.assign(this, { x, y, xDomain, yDomain });
    const narrow = this.width < 480;
    const yTicks = this.ticksOf(y, yDomain, height < 200 ? 4 : 6);
    const widest = Math.max(...yTicks.map(t => t.text.length), 1);
    const rows = y.categories && y.categories.length;
    this.stacked = rows > 0 && Plot.stacks(this.width, y.categories);
    const left = this.stacked ? 10 : rows ? 16 + widest * 6.7 : 32 + widest * 6.6;
    this.box = { left, right: this.width - (this.x.percent ? 24 : narrow ? 12 : 16), top: rows ? 26 : 10, bottom: height - 42 };
    this.svg = element("svg", { viewBox: `0 0 ${this.width} ${height}`, width: this.width, height, "aria-hidden": "true" }, host);
    this.clip = `clip-${Plot.made = (Plot.made || 0) + 1}`;
    const defs = element("defs", {}, this.svg), clip = element("clipPath", { id: this.clip }, defs), b = this.box;
    element("rect", { x: b.left - 6, y: b.top - 6, width: b.right - b.left + 12, height: b.bottom - b.top + 12 }, clip);
    this.defs = defs;
    this.front = element("g");
    this.axes(yTicks, rows);
    this.layers = element("g", { "clip-path": `url(#${this.clip})` }, this.svg);
    this.svg.append(this.front);
  }

  // On a narrow page long names stand above their rows.
  static stacks(width, names) { return 16 + 6.7 * Math.max(...names.map(n => n.length)) > Math.min(260, 0.45 * width); }

  ticksOf(axis, domain, count) {
    if (axis.categories && axis.categories.length) return axis.categories.map((text, at) => ({ at, text }));
    if (axis.log) return logTicks(...domain).map(at => ({ at, text: written(at, axis, at) }));
    const { ticks, step } = niceTicks(domain[0], domain[1], count, axis.integer);
    return ticks.map(at => ({ at, text: written(at, axis, step) }));
  }

  axes(yTicks, rows) {
    const b = this.box, frame = element("g", { class: "axes" }, this.svg);
    const count = Math.max(2, Math.floor((b.right - b.left) / (this.x.percent ? 64 : 58)));
    for (const { at, text } of this.ticksOf(this.x, this.xDomain, Math.min(12, count))) {
      const px = this.px(at);
      element("line", { x1: px, x2: px, y1: b.top, y2: b.bottom, class: "grid" }, frame);
      const half = text.length * 3.4 + 1.5, inside = Math.max(half, Math.min(this.width - half, px));
      element("text", { x: inside, y: b.bottom + 16, "text-anchor": "middle" }, frame, text);
    }
    for (const { at, text } of yTicks) {
      const py = this.py(at);
      element("line", { x1: b.left, x2: b.right, y1: py, y2: py, class: "grid" }, frame);
      if (this.stacked) element("text", { x: b.left + 5, y: this.py(at - 0.5) + 11, class: "above" }, this.front, text);
      else element("text", { x: b.left - 7, y: py + 4, "text-anchor": "end" }, frame, text);
    }
    element("path", { d: `M${b.left},${b.top}V${b.bottom}H${b.right}`, class: "frame" }, frame);
    element("text", { x: (b.left + b.right) / 2, y: this.height - 6, "text-anchor": "middle", class: "name" }, frame, this.x.label);
    if (rows) {
      element("text", { x: 2, y: 14, class: "name" }, frame, this.y.label);
    } else {
      const middle = (b.top + b.bottom) / 2;
      element("text", { x: 12, y: middle, transform: `rotate(-90 12 ${middle})`, "text-anchor": "middle", class: "name" }, frame, this.y.label);
    }
  }

  scale(value, [low, high], log, from, to) {
    if (log) [value, low, high] = [Math.log(Math.max(value, 1e-300)), Math.log(low), Math.log(high)];
    return from + (to - from) * (value - low) / (high - low || 1);
  }
  px(value) { return this.scale(value, this.xDomain, this.x.log, this.box.left, this.box.right); }
  py(value) {
    const b = this.box, down = this.y.categories && this.y.categories.length;
    return down ? this.scale(value, this.yDomain, false, b.top, b.bottom) : this.scale(value, this.yDomain, this.y.log, b.bottom, b.top);
  }

  path(xs, ys, step = false) {
    let d = "", open = false;
    for (let k = 0; k < xs.length; k++) {
      if (!isNumber(xs[k]) || !isNumber(ys[k])) { open = false; continue; }
      const x = this.px(xs[k]).toFixed(1), y = Math.max(-1e5, Math.min(1e5, this.py(ys[k]))).toFixed(1);
      d += !open ? `M${x},${y}` : step ? `H${x}V${y}` : `L${x},${y}`;
      open = true;
    }
    return d;
  }

  line(xs, ys, { color, dash = [], width = 1.8, step = false, shift = 0 }) {
    element("path", { d: this.path(xs, ys, step), fill: "none", style: `stroke:${color}`, "stroke-width": width,
      "stroke-dasharray": dash.join(" "), "stroke-linejoin": "round", transform: `translate(${shift},0)` }, this.layers);
  }

  band(xs, low, high, { color, opacity = 0.16, step = false }) {
    const all = [...xs.keys()].filter(k => isNumber(xs[k]) && isNumber(low[k]) && isNumber(high[k]));
    if (all.length < 2) return;
    const pick = list => all.map(k => list[k]), x = pick(xs);
    let [upper, lower, ux, lx] = [pick(high), pick(low), x, x];
    if (step) {
      const stairs = list => list.flatMap((v, k) => k + 1 < list.length ? [v, v] : [v]);
      ux = lx = x.flatMap((v, k) => k ? [v, v] : [v]);
      [upper, lower] = [stairs(upper), stairs(lower)];
    }
    const d = this.path(ux, upper) + this.path([...lx].reverse(), [...lower].reverse()).replace("M", "L") + "z";
    element("path", { d, style: `fill:${color}`, "fill-opacity": opacity, stroke: "none" }, this.layers);
  }

  marks(xs, ys, { color, marker = "circle", radius = 4, hollow = false, every = 1, first = 0, shift = 0 }) {
    const open = hollow || marker === "cross" || marker === "plus";
    for (let k = first; k < xs.length; k += every) {
      if (!isNumber(xs[k]) || !isNumber(ys[k])) continue;
      element("path", { d: MARK[marker](radius), transform: `translate(${(this.px(xs[k]) + shift).toFixed(1)},${this.py(ys[k]).toFixed(1)})`,
        style: `stroke:${color};fill:${open ? "var(--paper)" : color}`, "stroke-width": open ? 1.8 : 1, class: "mark" }, this.layers);
    }
  }

  whiskers(xs, low, high, { color, every, first, shift }) {
    for (let k = first; k < xs.length; k += every) {
      if (!isNumber(xs[k]) || !isNumber(low[k]) || !isNumber(high[k])) continue;
      const x = this.px(xs[k]) + shift, [a, b] = [this.py(low[k]), this.py(high[k])];
      element("path", { d: `M${x},${a}V${b}M${x - 3},${a}h6M${x - 3},${b}h6`, style: `stroke:${color}`, "stroke-width": 1.2, "stroke-opacity": 0.7, fill: "none" }, this.layers);
    }
  }

  rule(value, label, across = false) {
    const b = this.box, at = across ? this.px(value) : this.py(value);
    const [x1, x2, y1, y2] = across ? [at, at, b.top, b.bottom] : [b.left, b.right, at, at];
    element("line", { x1, x2, y1, y2, class: "rule" }, this.layers);
    const room = across || at > b.top + 16;
    element("text", { x: across ? at + 4 : b.right - 2, y: across ? b.top - 5 : room ? at - 4 : at + 13,
      "text-anchor": across ? "start" : "end", class: "rule-name" }, this.front, label);
  }

  hatch(number, color) {
    const id = `${this.clip}-h${number}`, kinds = [[0, 0], [45, 5], [0, 5], [135, 4], [90, 4]], [angle, gap] = kinds[number % 5];
    const pattern = element("pattern", { id, width: gap || 4, height: gap || 4, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle})` }, this.defs);
    element("rect", { width: 8, height: 8, style: `fill:${color}`, "fill-opacity": gap ? 0.35 : 0.85 }, pattern);
    if (gap) element("line", { x1: 0, x2: 0, y1: 0, y2: 8, style: `stroke:${color}`, "stroke-width": 2.4 }, pattern);
    return `url(#${id})`;
  }

  bar(x0, x1, y0, y1, fill, color) {
    const [a, b, c, d] = [this.px(x0), this.px(x1), this.py(y0), this.py(y1)];
    element("rect", { x: Math.min(a, b), y: Math.min(c, d), width: Math.abs(b - a), height: Math.abs(d - c), class: "mark",
      style: `fill:${fill};stroke:${color}` }, this.layers);
  }
}

// Charts from the values that Python wrote: legend, plot, values under the pointer or the arrow keys.
const look = (styles, number) => ({ ...styles[number], color: `var(--s${number})` });

class Chart {
  constructor(figure, spec, styles) {
    Object.assign(this, { figure, spec, styles, hidden: new Set(), at: -1 });
    this.legend = figure.querySelector(".legend");
    this.host = figure.querySelector(".plot");
    this.said = figure.querySelector(".said");
    this.tip = html("div", { class: "tip", hidden: "" }, figure.querySelector(".stage"));
    this.makeLegend();
    this.host.addEventListener("pointermove", event => this.pointed(event));
    this.host.addEventListener("pointerleave", () => this.show(-1));
    this.host.addEventListener("blur", () => this.show(-1));
    this.host.addEventListener("keydown", event => this.key(event));
    this.draw();
  }

  makeLegend() {
    if (this.spec.series.length < 2) return;
    this.spec.series.forEach((series, k) => {
      const style = look(this.styles, series.style);
      const button = html("button", { type: "button", "aria-pressed": "true", title: "show or hide" }, this.legend);
      const svg = element("svg", { width: 34, height: 14, viewBox: "0 0 34 14", "aria-hidden": "true" }, button);
      if (this.spec.kind === "bars") {
        const sample = { defs: element("defs", {}, svg), clip: `${this.spec.name}-l${k}` };
        element("rect", { x: 4, y: 1, width: 26, height: 12, style: `fill:${Plot.prototype.hatch.call(sample, k, style.color)};stroke:${style.color}` }, svg);
      } else {
        if (series.line && this.spec.kind === "lines")
          element("line", { x1: 1, x2: 33, y1: 7, y2: 7, style: `stroke:${style.color}`, "stroke-width": 2, "stroke-dasharray": style.dash.join(" ") }, svg);
        const open = style.marker === "cross" || style.marker === "plus";
        if (series.marker) element("path", { d: MARK[style.marker](3.8), transform: "translate(17,7)", style: `fill:${open ? "none" : style.color};stroke:${style.color}`, "stroke-width": 1.5 }, svg);
      }
      html("span", {}, button, series.name);
      button.addEventListener("click", () => {
        this.hidden.has(k) ? this.hidden.delete(k) : this.hidden.add(k);
        button.setAttribute("aria-pressed", String(!this.hidden.has(k)));
        this.draw();
      });
    });
  }

  get shown() { return this.spec.series.map((series, k) => ({ ...series, k })).filter(s => !this.hidden.has(s.k)); }

  draw() {
    this.host.replaceChildren();
    const { x, y, kind } = this.spec, shown = this.shown, rows = (y.categories || []).length;
    const across = kind === "intervals";
    const ends = shown.flatMap(s => [...s.low, ...s.high]), rules = this.spec.rules.map(r => r.value);
    const sums = kind === "bars" ? y.categories.map((_, row) => shown.reduce((sum, s) => sum + (s.y[row] || 0), 0)) : [];
    const xs = kind === "bars" ? [0, ...sums] : shown.flatMap(s => s.x).concat(across ? [...ends, ...rules] : []);
    const ys = shown.flatMap(s => s.y).concat(this.near(ends, shown.flatMap(s => s.y)), rules);
    const stacked = rows > 0 && Plot.stacks(this.host.clientWidth, y.categories), each = (across ? 16 + 12 * Math.max(1, shown.length) : 26) + (stacked ? 14 : 0);
    const height = rows ? Math.max(120, 78 + rows * each) : this.host.clientWidth < 480 ? 260 : 320;
    this.plot = new Plot(this.host, { x, y, xDomain: extent(xs, x), yDomain: rows ? [-0.6, rows - 0.4] : extent(ys, y), height });
    this.spec.rules.forEach(r => this.plot.rule(r.value, r.label, across));
    this[kind](this.plot, shown);
    this.places = this.placesOf(shown);
    this.cursor = element("line", { class: "cursor", visibility: "hidden" }, this.plot.front);
  }

  // Ends of intervals, but not so far out that the values themselves would lie flat.
  near(ends, values) {
    const [low, high] = extent(values, {}), room = 0.6 * (high - low);
    return ends.filter(isNumber).map(v => Math.max(low - room, Math.min(high + room, v)));
  }

  lines(plot, shown) {
    const banded = shown.filter(s => s.low.length), crowded = banded.length > 2; // many bands hide one another: bars instead
    if (!crowded) for (const s of banded) plot.band(s.x, s.low, s.high, { color: `var(--s${s.style})`, step: s.step });
    for (const s of shown) {
      const style = look(this.styles, s.style), bars = crowded && s.low.length, place = banded.indexOf(s);
      const every = s.x.length > 15 ? Math.ceil(s.x.length / (bars ? 6 : 12)) : 1;
      const shift = bars && every === 1 ? (place - (banded.length - 1) / 2) * 5 : 0, first = bars && every > 1 ? Math.floor(place * every / banded.length) : 0;
      if (s.line) plot.line(s.x, s.y, { ...style, step: s.step, width: 2, shift });
      if (bars) plot.whiskers(s.x, s.low, s.high, { ...style, every, first, shift });
      if (s.marker) plot.marks(s.x, s.y, { ...style, every, first, shift, radius: s.line ? 3.6 : 5 });
    }
  }

  bars(plot, shown) {
    const fills = shown.map(s => plot.hatch(s.k, `var(--s${s.style})`));
    this.spec.y.categories.forEach((_, row) => {
      let from = 0;
      shown.forEach((s, k) => {
        const value = s.y[row] || 0;
        if (value > 0) plot.bar(from, from + value, row - (plot.stacked ? 0.12 : 0.34), row + (plot.stacked ? 0.42 : 0.34), fills[k], `var(--s${s.style})`);
        from += value;
      });
    });
  }

  histogram(plot, shown) {
    for (const s of shown) {
      const fill = plot.hatch(0, `var(--s${s.style})`);
      s.y.forEach((value, k) => { if (value > 0) plot.bar(s.x[k], s.x[k + 1], 0, value, fill, "var(--paper)"); });
    }
  }

  intervals(plot, shown) {
    shown.forEach((s, k) => {
      const style = look(this.styles, s.style), shift = shown.length > 1 ? (k / (shown.length - 1) - 0.5) * (plot.stacked ? 0.36 : 0.56) : 0;
      s.y.forEach((row, i) => {
        const at = row + shift + (plot.stacked ? 0.2 : 0), color = style.color;
        if (isNumber(s.low[i]) && isNumber(s.high[i])) {
          plot.line([s.low[i], s.high[i]], [at, at], { color, width: 2 });
          for (const end of [s.low[i], s.high[i]]) {
            const px = plot.px(end), py = plot.py(at);
            element("line", { x1: px, x2: px, y1: py - 4, y2: py + 4, style: `stroke:${color}`, "stroke-width": 2 }, plot.layers);
          }
        }
        plot.marks([s.x[i]], [at], { ...style, radius: 4.4 });
      });
    });
  }

  placesOf(shown) {
    const { kind, y } = this.spec;
    if (kind === "bars" || kind === "intervals") return y.categories.map((_, row) => row);
    if (kind === "histogram") return shown.length ? shown[0].y.map((_, k) => k) : [];
    return [...new Set(shown.flatMap(s => s.x.filter((v, k) => isNumber(v) && isNumber(s.y[k]))))].sort((a, b) => a - b);
  }

  pixelOf(place) {
    const { kind } = this.spec;
    if (kind === "bars" || kind === "intervals") return this.plot.py(place);
    if (kind === "histogram") { const x = this.shown[0].x; return this.plot.px((x[place] + x[place + 1]) / 2); }
    return this.plot.px(place);
  }

  pointed(event) {
    const frame = this.host.getBoundingClientRect(), across = (this.spec.y.categories || []).length > 0;
    const at = across ? event.clientY - frame.top : event.clientX - frame.left;
    let best = -1, least = Infinity;
    this.places.forEach((place, k) => {
      const distance = Math.abs(this.pixelOf(place) - at);
      if (distance < least) [best, least] = [k, distance];
    });
    this.show(best, event.clientY - frame.top);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], last = this.places.length - 1;
    if (event.key === "Escape") return this.show(-1);
    if (event.key === "Home" || event.key === "End") this.show(event.key === "Home" ? 0 : last);
    else if (step) this.show(Math.max(0, Math.min(last, this.at + step)));
    else return;
    event.preventDefault();
    this.said.textContent = this.tip.textContent;
  }

  valuesAt(place) {
    const { kind, x, y } = this.spec, between = (a, b, axis) => isNumber(a) && isNumber(b) ? ` (${written(a, axis)} to ${written(b, axis)})` : "";
    return this.shown.flatMap(s => {
      if (kind === "bars") return isNumber(s.y[place]) ? [[s, written(s.y[place], x)]] : [];
      if (kind === "histogram") return [[s, `${written(s.y[place], y)} from ${written(s.x[place])} to ${written(s.x[place + 1])}`]];
      if (kind === "intervals") {
        const i = s.y.indexOf(place);
        return i < 0 || !isNumber(s.x[i]) ? [] : [[s, written(s.x[i], x) + between(s.low[i], s.high[i], x)]];
      }
      let i = s.x.indexOf(place);
      if (i < 0 && s.step) i = s.x.findLastIndex(v => isNumber(v) && v <= place);
      return i < 0 || !isNumber(s.y[i]) ? [] : [[s, written(s.y[i], y) + between(s.low[i], s.high[i], y)]];
    });
  }

  show(index, pointer = null) {
    this.at = index;
    const there = index >= 0 && index < this.places.length;
    this.tip.hidden = !there;
    this.cursor.setAttribute("visibility", there ? "visible" : "hidden");
    if (!there) return;
    const place = this.places[index], at = this.pixelOf(place), b = this.plot.box, rows = (this.spec.y.categories || []).length;
    const ends = rows ? { x1: b.left, x2: b.right, y1: at, y2: at } : { x1: at, x2: at, y1: b.top, y2: b.bottom };
    for (const [key, value] of Object.entries(ends)) this.cursor.setAttribute(key, value);
    const name = rows ? this.spec.y.categories[place] : this.spec.kind === "histogram" ? "" : `${this.spec.x.label}: ${written(place, this.spec.x)}`;
    this.tip.replaceChildren();
    if (name) html("strong", {}, this.tip, name + ". ");
    for (const [s, value] of this.valuesAt(place)) {
      const line = html("div", {}, this.tip);
      html("span", { class: "dot", style: `background:var(--s${s.style})` }, line);
      html("span", {}, line, `${s.name}: ${value}; `.replace(/; $/, ""));
    }
    const left = rows ? b.left + 30 : at + 14, width = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(2, left + width > this.plot.width ? (rows ? this.plot.width - width - 4 : at - width - 14) : left)}px`;
    this.tip.style.top = `${rows ? at + 14 : Math.max(4, (pointer ?? 40) - 30)}px`;
  }
}

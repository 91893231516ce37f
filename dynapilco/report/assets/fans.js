// What the model believed of a trial, beside what happened: a slider over trials.
class Fans {
  constructor(root, runs, styles) {
    Object.assign(this, { root, runs, styles, run: 0, index: 0, timer: 0 });
    const find = name => root.querySelector(`[data-part="${name}"]`);
    this.part = { slider: find("slider"), choice: find("choice"), title: find("title"), panels: find("panels"), same: find("same"),
      play: find("play"), back: find("back"), next: find("next"), table: find("table"), note: find("note") };
    const { slider, choice, same, play, back, next, table } = this.part;
    slider.addEventListener("input", () => this.go(+slider.value));
    back.addEventListener("click", () => this.go(this.index - 1));
    next.addEventListener("click", () => this.go(this.index + 1));
    play.addEventListener("click", () => this.playing(!this.timer));
    same.addEventListener("change", () => this.draw());
    table.addEventListener("toggle", () => this.fillTable());
    if (choice) choice.addEventListener("change", () => this.pick(+choice.value));
    const kept = memory.get("fans");
    if (kept && choice && runs[kept.run]) choice.value = kept.run;
    this.pick(choice ? +choice.value : 0, kept ? kept.index : undefined);
  }

  get trials() { return this.runs[this.run].trials; }

  pick(run, index) {
    this.run = run;
    const last = this.trials.length - 1, { slider } = this.part;
    slider.max = last;
    slider.disabled = last < 1;
    this.go(Math.min(index ?? last, last));
  }

  go(index) {
    this.index = Math.max(0, Math.min(this.trials.length - 1, index));
    const { slider, title, back, next } = this.part, trial = this.trials[this.index];
    slider.value = this.index;
    slider.setAttribute("aria-valuetext", trial.title);
    title.textContent = trial.title;
    back.disabled = this.index === 0;
    next.disabled = this.index === this.trials.length - 1;
    memory.set("fans", { run: this.run, index: this.index });
    this.draw();
  }

  playing(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.go((this.index + 1) % this.trials.length), 900) : 0;
    this.part.play.textContent = on ? "Pause" : "Play";
  }

  // Limits over all trials follow what happened and the middle half of the particles; a wide band may leave the panel.
  limits(get, fan) {
    const fans = this.part.same.checked ? this.trials.map(t => t.fan).filter(Boolean) : [fan];
    const core = fans.flatMap(f => get(f, false)).filter(isNumber), all = fans.flatMap(f => get(f, true)).filter(isNumber);
    const [low, high] = extent(core, {}), room = (high - low) * (this.part.same.checked ? 0.5 : 2), [least, most] = extent(all, {});
    return [Math.max(least, low - room), Math.min(most, high + room)];
  }

  draw() {
    const { panels, note } = this.part, { fan, pit } = this.trials[this.index];
    panels.replaceChildren();
    const count = (fan ? fan.names.length + fan.action_names.length : 0) + (pit ? 1 : 0);
    this.free = [...Array(count).keys()].map(() => html("div", { class: "panel", role: "img" }, panels)); // all, then the widths are known
    if (fan) {
      fan.names.forEach((name, column) => this.statePanel(fan, column));
      fan.action_names.forEach((name, column) => this.actionPanel(fan, column));
    }
    if (pit) this.pitPanel(pit);
    const lost = fan && fan.particles_lost ? ` ${fan.particles_lost} of ${fan.particles} particles were lost.` : "";
    const thin = fan && fan.stride > 1 ? ` Every ${fan.stride}th time is shown.` : "";
    const left = fan && fan.columns_left_out ? ` ${fan.columns_left_out} further state columns are not shown.` : "";
    note.textContent = (fan ? "" : "Nothing was imagined for this trial. ") + lost + thin + left;
    this.fillTable();
  }

  panel(title, x, y, xDomain, yDomain) {
    const place = this.free.shift();
    place.setAttribute("aria-label", title);
    return new Plot(place, { x, y, xDomain, yDomain, height: 210 });
  }

  time(fan) {
    const whole = this.trials.map(t => t.fan).filter(Boolean).flatMap(f => [f.times[0], f.times.at(-1)]);
    return [{ label: `time [${fan.clock}]` }, [Math.min(...whole), Math.max(...whole)]];
  }

  statePanel(fan, c) {
    const label = fan.units[c] ? `${fan.names[c]} [${fan.units[c]}]` : fan.names[c], [axis, domain] = this.time(fan);
    const values = (f, wide) => [...(f.observed[c] || []), ...((f.quantiles[c] || []).slice(wide ? 0 : 1, wide ? 5 : 4).flat())];
    const plot = this.panel(`${label}: particles and what happened`, axis, { label }, domain, this.limits(values, fan));
    const [low, below, middle, above, high] = fan.quantiles[c], t = fan.times, color = "var(--s1001)";
    if (low) {
      plot.band(t, low, high, { color, opacity: 0.18 });
      plot.band(t, below, above, { color, opacity: 0.32 });
      fan.samples[c].forEach(s => plot.line(t, s, { color, width: 0.7 }));
      plot.line(t, middle, { color, dash: [6, 3], width: 2 });
    }
    const real = { color: "var(--s1000)", marker: "circle", radius: 2.4, hollow: true };
    plot.line(t, fan.observed[c], { color: real.color, width: 1.6 });
    plot.marks(t, fan.observed[c], { ...real, every: Math.max(1, Math.round(fan.observed[c].length / 16)) });
  }

  actionPanel(fan, c) {
    const label = fan.action_units[c] ? `${fan.action_names[c]} [${fan.action_units[c]}]` : fan.action_names[c], [axis, domain] = this.time(fan);
    const plot = this.panel(`${label}: action taken`, axis, { label }, domain, this.limits(f => f.actions[c] || [], fan));
    const held = [...fan.actions[c], fan.actions[c].at(-1)];
    plot.line(fan.times.slice(0, held.length), held, { color: "var(--s1000)", width: 1.6, step: true });
  }

  pitPanel(pit) {
    const counts = pit.counts.reduce((sum, row) => sum.map((v, k) => v + row[k]), Array(pit.counts[0] ? pit.counts[0].length : 0).fill(0));
    const total = counts.reduce((a, b) => a + b, 0), density = counts.map(v => v / (total || 1) * counts.length);
    const y = { label: "density", low: 0 }, axis = { label: "PIT, one step ahead (flat: calibrated)" };
    const plot = this.panel("Where this trial's outcomes fell in their one-step predictions", axis, y, [0, 1], [0, Math.max(2, ...density) * 1.05]);
    const fill = plot.hatch(0, "var(--s1001)");
    density.forEach((v, k) => { if (v > 0) plot.bar(k / counts.length, (k + 1) / counts.length, 0, v, fill, "var(--paper)"); });
    plot.rule(1, "");
  }

  fillTable() {
    const { table } = this.part, body = table.querySelector("div"), { fan } = this.trials[this.index];
    if (!table.open) return;
    body.replaceChildren();
    if (!fan) return void html("p", {}, body, "Nothing was imagined for this trial.");
    const made = html("table", {}, body), head = html("tr", {}, html("thead", {}, made)), rows = html("tbody", {}, made);
    html("caption", {}, made, this.trials[this.index].title);
    html("th", { scope: "col" }, head, `time [${fan.clock}]`);
    fan.names.forEach((name, c) => {
      for (const what of ["observed", "predicted median", "95 % of particles"])
        html("th", { scope: "col" }, head, `${name}${fan.units[c] ? ` [${fan.units[c]}]` : ""}, ${what}`);
    });
    fan.action_names.forEach((name, c) => html("th", { scope: "col" }, head, `${name}${fan.action_units[c] ? ` [${fan.action_units[c]}]` : ""}`));
    fan.times.forEach((time, k) => {
      const row = html("tr", {}, rows);
      html("th", { scope: "row" }, row, written(time));
      fan.names.forEach((_, c) => {
        const q = fan.quantiles[c], at = level => q[level] ? written(q[level][k]) : "–";
        for (const text of [written(fan.observed[c][k]), at(2), `${at(0)} to ${at(4)}`]) html("td", {}, row, text);
      });
      fan.action_names.forEach((_, c) => html("td", {}, row, written(fan.actions[c][k])));
    });
  }
}

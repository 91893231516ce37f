// The page: theme, copying, charts, fans, and (served while a run goes on) refreshing itself.
const memory = { // where a browser keeps nothing for files, nothing is kept
  get(key) { try { return JSON.parse(sessionStorage.getItem(`dynapilco-${location.pathname}-${key}`)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`dynapilco-${location.pathname}-${key}`, JSON.stringify(value)); } catch { /* see above */ } },
};

function themes(button) {
  const names = ["auto", "light", "dark"];
  const apply = name => {
    if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    memory.set("theme", name);
  };
  let at = Math.max(0, names.indexOf(memory.get("theme")));
  apply(names[at]);
  button.hidden = false;
  button.addEventListener("click", () => apply(names[at = (at + 1) % names.length]));
}

function copies(button) {
  const source = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: copy with Ctrl+C";
    }
  });
}

function refreshing(version) {
  const state = document.getElementById("watch-state");
  setInterval(async () => {
    try {
      const now = await (await fetch("/version", { cache: "no-store" })).text();
      state.textContent = "";
      if (now !== version) location.reload();
    } catch {
      state.textContent = "The server has stopped: this page shows the last state.";
    }
  }, 2000);
}

function start() {
  const values = id => { const found = document.getElementById(id); return found ? JSON.parse(found.textContent) : null; };
  document.querySelectorAll("button[data-copy]").forEach(copies);
  themes(document.getElementById("theme"));
  const styles = values("styles"), drawn = [];
  for (const spec of values("charts") || []) drawn.push(new Chart(document.getElementById(spec.name), spec, styles));
  const fans = document.getElementById("fans");
  if (fans) drawn.push(new Fans(fans, values("fan-values"), styles));
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; drawn.forEach(d => d.draw()); } }, 120);
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
  const watch = document.querySelector('meta[name="dynapilco-watch"]');
  if (watch) refreshing(watch.content);
}
start();

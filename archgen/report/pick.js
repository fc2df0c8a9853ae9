// Marks of the Pareto plot: pointing near one says what it is, choosing one shows it below the plot with its graph.
(() => {
  const NEAR = 16;  // pixels: marks are as small as five on a phone, and a star may stand on one
  const data = JSON.parse(document.getElementById("marks").textContent);
  const tip = document.getElementById("tip"), panel = document.getElementById("chosen");
  const marks = [];
  let marked = null;
  const lines = (trial) => [trial.arch, ...trial.values.map(([name, value]) => name + " " + value)];
  const fill = (element, texts) => {
    element.replaceChildren(...texts.map((text, k) => {
      const line = document.createElement(k ? "div" : "code");
      line.textContent = text;
      return line;
    }));
  };
  const nearest = (event) => {
    let found = null, least = NEAR;
    for (const mark of marks) {
      const box = mark.getBoundingClientRect();
      const away = Math.hypot(event.clientX - (box.left + box.right) / 2, event.clientY - (box.top + box.bottom) / 2);
      if (away <= least) [found, least] = [mark, away];
    }
    return found;
  };
  const point = (mark) => {
    tip.hidden = !mark;
    if (!mark) return;
    const box = mark.getBoundingClientRect(), figure = tip.parentElement.getBoundingClientRect();
    fill(tip, lines(data.trials[mark.dataset.row]));
    tip.style.top = box.bottom - figure.top + 8 + "px";
    tip.style.left = Math.max(0, Math.min(box.left - figure.left, figure.width - tip.offsetWidth)) + "px";
  };
  const choose = (mark) => {
    if (!mark) return;
    const trial = data.trials[mark.dataset.row];
    if (marked) marked.classList.remove("marked");
    (marked = mark).classList.add("marked");
    const drawn = document.getElementById("graph-" + trial.graph);
    fill(panel, drawn || !data.undrawn ? lines(trial) : [...lines(trial), data.undrawn]);
    if (drawn) panel.append(drawn.content.cloneNode(true));
    panel.hidden = false;
  };
  for (const [group, rows] of Object.entries(data.groups)) {
    const drawn = document.querySelectorAll("#pareto-" + group + " use");
    rows.forEach((row, k) => {
      const mark = drawn[k];
      if (!mark) return;
      marks.push(mark);
      mark.dataset.row = row;
      mark.classList.add("mark");
      mark.setAttribute("tabindex", "0");
      mark.setAttribute("role", "button");
      mark.setAttribute("aria-label", lines(data.trials[row]).join(", "));
      mark.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(mark); });
    });
  }
  const plot = marks.length ? marks[0].ownerSVGElement : null;
  if (!plot) return;
  plot.addEventListener("pointermove", (event) => {
    const mark = nearest(event);
    plot.style.cursor = mark ? "pointer" : "";
    point(mark);
  });
  plot.addEventListener("pointerleave", () => point(null));
  plot.addEventListener("click", (event) => choose(nearest(event)));
})();

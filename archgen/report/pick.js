// Marks of the Pareto plot: pointing at one says what it is, choosing one shows it below the plot with its graph.
(() => {
  const data = JSON.parse(document.getElementById("marks").textContent);
  const tip = document.getElementById("tip"), panel = document.getElementById("chosen");
  let marked = null;
  const lines = (trial) => [trial.arch, ...trial.values.map(([name, value]) => name + " " + value)];
  const fill = (element, texts) => {
    element.replaceChildren(...texts.map((text, k) => {
      const line = document.createElement(k ? "div" : "code");
      line.textContent = text;
      return line;
    }));
  };
  const near = (event, mark) => {
    const box = mark.getBoundingClientRect(), figure = tip.parentElement.getBoundingClientRect();
    fill(tip, lines(data.trials[mark.dataset.row]));
    tip.hidden = false;
    tip.style.top = box.bottom - figure.top + 8 + "px";
    tip.style.left = Math.max(0, Math.min(box.left - figure.left, figure.width - tip.offsetWidth)) + "px";
  };
  const choose = (mark) => {
    const trial = data.trials[mark.dataset.row];
    if (marked) marked.classList.remove("marked");
    (marked = mark).classList.add("marked");
    fill(panel, lines(trial));
    const drawn = document.getElementById("graph-" + trial.graph);
    if (drawn) panel.append(drawn.content.cloneNode(true));
    panel.hidden = false;
  };
  for (const [group, rows] of Object.entries(data.groups)) {
    const marks = document.querySelectorAll("#pareto-" + group + " use");
    rows.forEach((row, k) => {
      const mark = marks[k];
      if (!mark) return;
      mark.dataset.row = row;
      mark.classList.add("mark");
      mark.setAttribute("tabindex", "0");
      mark.setAttribute("role", "button");
      mark.setAttribute("aria-label", lines(data.trials[row]).join(", "));
      mark.addEventListener("pointerenter", (event) => near(event, mark));
      mark.addEventListener("pointerleave", () => { tip.hidden = true; });
      mark.addEventListener("click", () => choose(mark));
      mark.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(mark); });
    });
  }
})();

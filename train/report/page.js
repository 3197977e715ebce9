"use strict";
// Reads values off the drawings: the pixels of a line are turned back into values by the axes that the drawing names.
(() => {
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip"; tip.hidden = true; tip.setAttribute("role", "status");
  let shown = null;

  const axis = text => { const [low, high, from, to, log] = text.split(" ").map(Number); return { low, high, from, to, log } };
  const value = (a, pixel) => { const v = a.low + (pixel - a.from) / (a.to - a.from) * (a.high - a.low); return a.log ? 10 ** v : v };
  const write = v => {
    const n = Math.abs(v);
    for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) if (n >= size) return (v / (unit === "k" ? 1e3 : size)).toPrecision(4) + unit;
    return n === 0 ? "0" : v.toPrecision(5).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  };

  // lines are the drawing's named series as points in pixels.
  const lines = svg => svg.lines ??= [...svg.querySelectorAll("path[data-name]")].map(path => ({
    name: path.dataset.name,
    points: (path.getAttribute("d").match(/-?[\d.]+ -?[\d.]+/g) ?? []).map(p => p.split(" ").map(Number)),
  }));

  const hide = () => { tip.hidden = true; shown?.querySelector(".cursor")?.remove(); shown = null };

  // show puts the cursor at x, in the drawing's own pixels, and says what the lines are there.
  const show = (svg, x) => {
    if (shown !== svg) hide();
    shown = svg;
    const xs = axis(svg.dataset.x), ys = axis(svg.dataset.y), [xName] = svg.dataset.names.split("|");
    x = Math.min(Math.max(x, xs.from), xs.to);
    svg.at = x;
    let line = svg.querySelector(".cursor");
    if (!line) {
      line = svg.appendChild(document.createElementNS(svg.namespaceURI, "line"));
      line.setAttribute("class", "cursor"); line.setAttribute("y1", Math.min(ys.from, ys.to)); line.setAttribute("y2", Math.max(ys.from, ys.to));
    }
    line.setAttribute("x1", x); line.setAttribute("x2", x);
    const rows = [`${write(value(xs, x))} ${xName}`];
    for (const l of lines(svg)) {
      let near = null;
      for (const p of l.points) if (!near || Math.abs(p[0] - x) < Math.abs(near[0] - x)) near = p;
      if (near) rows.push(`${write(value(ys, near[1]))}  ${l.name}`);
    }
    tip.textContent = rows.join("\n"); tip.hidden = false;
    const box = svg.getBoundingClientRect(), left = box.left + x / svg.viewBox.baseVal.width * box.width;
    tip.style.left = Math.max(4, Math.min(left + 12, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(box.top + 28, innerHeight - tip.offsetHeight - 8)) + "px";
  };

  const drawing = event => event.target.closest?.("svg.chart[data-x]");
  addEventListener("pointermove", event => {
    const svg = drawing(event);
    if (!svg) return hide();
    const box = svg.getBoundingClientRect();
    show(svg, (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width);
  });
  addEventListener("keydown", event => {
    const svg = drawing(event), step = { ArrowLeft: -8, ArrowRight: 8 }[event.key];
    if (!svg) return;
    if (event.key === "Escape") return hide();
    if (!step) return;
    event.preventDefault();
    const xs = axis(svg.dataset.x);
    show(svg, (svg.at ?? (step > 0 ? xs.from : xs.to)) + step);
  });
  addEventListener("focusout", event => { if (drawing(event)) hide() });
  addEventListener("scroll", hide, { passive: true });

  const reach = () => { for (const svg of document.querySelectorAll("svg.chart[data-x]")) svg.tabIndex = 0 };
  reach();
  new MutationObserver(() => { hide(); reach() }).observe(document.getElementById("report"), { childList: true });
})();

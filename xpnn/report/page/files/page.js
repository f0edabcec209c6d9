"use strict";
// The values of a chart, at the place of the pointer.
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const { by_x: byX, points } = JSON.parse(figure.dataset.hover);
  const svg = figure.querySelector("svg");
  if (!points.length) continue;
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.querySelector(".plot").append(tip);
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("r", "5");
  dot.setAttribute("class", "dot");
  dot.style.display = "none";
  svg.append(dot);
  const hide = () => {
    tip.hidden = true;
    dot.style.display = "none";
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * unit, y = (event.clientY - box.top) * unit;
    let best = null, least = Infinity;
    for (const point of points) {
      const far = byX ? Math.abs(point[0] - x) : Math.hypot(point[0] - x, point[1] - y);
      if (far < least) [best, least] = [point, far];
    }
    if (least > 40) return hide();
    dot.setAttribute("cx", best[0]);
    dot.setAttribute("cy", best[1]);
    dot.style.display = "";
    tip.textContent = best[2];
    tip.hidden = false;
    const left = best[0] / unit, top = best[1] / unit, room = svg.closest(".plot").clientWidth;
    tip.style.left = `${Math.max(0, Math.min(left + 10, room - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, top - tip.offsetHeight - 10)}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}

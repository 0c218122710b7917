"use strict";
// Read-outs under the pointer and copy buttons; the page says everything without them.
const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

function nearest(points, step) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < step) low = middle; else high = middle;
  }
  return step - points[low][0] < points[high][0] - step ? points[low] : points[high];
}

for (const source of document.querySelectorAll("script.values")) {
  const figure = source.closest("figure"), canvas = figure.querySelector(".canvas");
  const plot = canvas.querySelector("svg.plot"), data = JSON.parse(source.textContent);
  if (!data.lines.length) continue;
  const layer = shape("g", { visibility: "hidden", "aria-hidden": "true" }, plot);
  const cursor = shape("line", { class: "cursor", y1: 0, y2: "100%" }, layer);
  const dots = data.lines.map((line) => shape("circle", { class: "at " + line.kind, r: 5 }, layer));
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  canvas.append(tip);

  function place(step) { return 100 * (step - data.low) / (data.high - data.low); }
  function hide() { layer.setAttribute("visibility", "hidden"); tip.hidden = true; }
  function show(event) {
    const box = plot.getBoundingClientRect(), frame = canvas.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share < -0.03 || share > 1.03) return hide();
    const wanted = data.low + Math.min(1, Math.max(0, share)) * (data.high - data.low);
    const found = data.lines.map((line) => nearest(line.points, wanted));
    const step = found[0][0], left = place(step);
    cursor.setAttribute("x1", left + "%");
    cursor.setAttribute("x2", left + "%");
    tip.textContent = "";
    const epoch = data.epochs ? ", epoch " + (step * data.epochs).toFixed(1) : "";
    tip.append("step " + step.toLocaleString("en") + epoch);
    found.forEach((point, i) => {
      dots[i].setAttribute("cx", place(point[0]) + "%");
      dots[i].setAttribute("cy", point[1] + "%");
      const value = document.createElement("b");
      value.textContent = point[2];
      const where = point[0] === step ? "" : " at " + point[0].toLocaleString("en");
      tip.append(document.createElement("br"), data.lines[i].name + where + " ", value);
    });
    layer.setAttribute("visibility", "visible");
    tip.hidden = false;
    const x = box.left - frame.left + box.width * left / 100;
    const flip = x + tip.offsetWidth + 14 > frame.width;
    tip.style.left = Math.max(0, flip ? x - tip.offsetWidth - 12 : x + 12) + "px";
  }
  canvas.addEventListener("pointermove", show);
  canvas.addEventListener("pointerdown", show);
  canvas.addEventListener("pointerleave", hide);
}

for (const button of document.querySelectorAll("button.copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

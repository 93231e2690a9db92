"use strict";
// Draws the document of orchestrator.report.figures. Text is set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const COLORS = ["#0f766e", "#d97706", "#4f46e5", "#be185d", "#0284c7", "#65a30d", "#9333ea", "#dc2626", "#0d9488", "#a16207"];
const OUTCOMES = { completed: "#0f766e", pruned: "#94a3b8", diverged: "#d97706", failed: "#dc2626", interrupted: "#a78bfa" };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

function shape(parent, tag, attributes, words) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (words !== undefined) made.textContent = words;
  parent.append(made);
  return made;
}

function titled(made, words) { shape(made, "title", {}, words); return made; }

function figure(value) {
  if (value === null || value === undefined) return "–";
  return Number(value.toPrecision(4)).toString();
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function width() { return Math.max(300, document.getElementById("page").clientWidth); }

function half() { return width() >= 940 ? (width() - 24) / 2 : width(); }

function canvas(wide, high, label) {
  return shape(element("div"), "svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label });
}

function ticks(low, high, count) {
  if (low === high) return [low];
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(each => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function section(title, caption, ...children) {
  return element("section", {}, element("h2", {}, title), caption ? element("p", { class: "soft" }, caption) : null, ...children);
}

function quantile(sorted, share) { return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]; }

function heads(doc) {
  const found = doc.sweeps.map(sweep => {
    const counts = Object.entries(sweep.counts).map(([name, count]) => `${count} ${name}`);
    if (sweep.training) counts.push(`${sweep.training} training`);
    if (sweep.waiting) counts.push(`${sweep.waiting} waiting`);
    const ended = Object.values(sweep.counts).reduce((sum, count) => sum + count, 0);
    const left = sweep.planned === null ? null : sweep.planned - ended;
    const lines = [`${duration(sweep.spent_s)} spent` + (sweep.budget ? ` of ${sweep.budget}` : "")];
    if (sweep.status === "running" && left > 0 && ended > 0) lines.push(`about ${duration(sweep.spent_s / ended * left)} left`);
    if (sweep.test_reads) lines.push(`test part read ${sweep.test_reads === 1 ? "once" : `${sweep.test_reads} times`}`);
    if (sweep.leaks) lines.push(`the split leaks ${sweep.leaks} groups`);
    return element("div", { class: "card" },
      element("p", {}, element("strong", {}, sweep.sweep_id), " ", element("span", { class: "status" }, sweep.status)),
      sweep.description ? element("p", {}, sweep.description) : null,
      element("p", { class: "soft" }, `${sweep.objectives.join("; ")}`),
      element("p", {}, `${ended}${sweep.planned === null ? "" : ` of ${sweep.planned}`} trials: ${counts.join(", ") || "none"}`),
      element("p", { class: "soft" }, lines.join(" · ")),
      sweep.reason ? element("p", { class: "soft" }, sweep.reason) : null,
      sweep.message ? element("p", { class: "message" }, sweep.message) : null);
  });
  const head = doc.head;
  if (head) {
    const interval = head.interval.low === null ? head.interval.over
      : `95 % interval ${figure(head.interval.low)} to ${figure(head.interval.high)} (${head.interval.over})`;
    found.unshift(element("div", { class: "card", id: "best" },
      element("p", { class: "soft" }, `Best ${head.metric}`),
      element("p", { class: "value" }, figure(head.value)),
      element("p", {}, interval),
      element("p", {}, head.baseline === null ? "no baseline was measured" : `baseline ${figure(head.baseline)} (mean / majority predictor)`),
      element("p", {}, element("strong", {}, head.name), ` · ${head.trial_id}`),
      element("p", { class: "soft" }, Object.entries(head.settings).map(([path, value]) => `${path} ${value}`).join(", ")),
      element("p", { class: "soft" }, head.figures.map(each => `${each.name} ${figure(each.best)} (baseline ${figure(each.baseline)})`).join(", "))));
  }
  return element("div", { class: "cards" }, ...found);
}

function axes(svg, box, xs, ys, x, y, yTitle, xTitle = "epoch") {
  for (const at of ys) {
    shape(svg, "line", { x1: box.left, x2: box.right, y1: y(at), y2: y(at), stroke: "var(--line)" });
    shape(svg, "text", { x: box.left - 6, y: y(at) + 4, "text-anchor": "end" }, figure(at));
  }
  for (const at of xs) shape(svg, "text", { x: x(at), y: box.bottom + 16, "text-anchor": "middle" }, figure(at));
  shape(svg, "text", { x: box.left, y: 12 }, yTitle);
  shape(svg, "text", { x: box.right, y: box.bottom + 32, "text-anchor": "end" }, xTitle);
}

function curves(doc) {
  const data = doc.curves, all = [...data.best, ...data.others];
  const values = all.flatMap(curve => curve.points.map(point => point[1])).sort((a, b) => a - b);
  if (!values.length) return null;
  const wide = width(), high = wide < 600 ? 300 : 380, box = { left: 52, right: wide - 12, top: 22, bottom: high - 40 };
  const svg = canvas(wide, high, "Learning curves");
  // One diverged trial must not flatten all others: the worst twentieth may leave the picture.
  let [low, top] = doc.direction === "minimize" ? [values[0], quantile(values, .95)] : [quantile(values, .05), values[values.length - 1]];
  if (data.baseline !== null) [low, top] = [Math.min(low, data.baseline), Math.max(top, data.baseline)];
  if (low === top) [low, top] = [low - 1, top + 1];
  const last = Math.max(2, ...all.map(curve => Math.max(0, ...curve.points.map(point => point[0]))));
  const x = epoch => box.left + (epoch - 1) / (last - 1) * (box.right - box.left);
  const y = value => Math.min(box.bottom, Math.max(box.top, box.bottom - (value - low) / (top - low) * (box.bottom - box.top)));
  axes(svg, box, ticks(1, last, Math.min(last - 1, 10)).filter(Number.isInteger), ticks(low, top, 5), x, y, doc.objective);
  const draw = (curve, color, thick, fade) => {
    const attributes = { stroke: color, "stroke-width": thick, fill: "none", opacity: fade, "data-trial": curve.trial };
    const path = curve.points.map(point => `${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`).join(" ");
    const made = curve.points.length > 1 ? shape(svg, "polyline", { points: path, ...attributes })
      : curve.points.length ? shape(svg, "circle", { cx: x(curve.points[0][0]), cy: y(curve.points[0][1]), r: 2.5, ...attributes, fill: color, stroke: "none" }) : null;
    if (made) titled(made, `${curve.rank === null ? curve.outcome || "running" : `rank ${curve.rank}`}: ${curve.name}`);
  };
  for (const curve of data.others) {
    const running = curve.outcome === null;
    draw(curve, running ? "var(--accent)" : "var(--grey)", running ? 1.5 : 1, running ? .9 : .55);
  }
  [...data.best].reverse().forEach((curve, index) => draw(curve, COLORS[(data.best.length - 1 - index) % COLORS.length], 2, 1));
  if (data.baseline !== null) {
    shape(svg, "line", { x1: box.left, x2: box.right, y1: y(data.baseline), y2: y(data.baseline), stroke: "var(--warn)", "stroke-dasharray": "5 4" });
    shape(svg, "text", { x: box.right, y: y(data.baseline) - 5, "text-anchor": "end" }, "baseline");
  }
  const legend = element("p", { class: "soft" });
  data.best.forEach((curve, index) => {
    legend.append(element("span", { style: `color:${COLORS[index % COLORS.length]}` }, "■ "), `${curve.rank} ${curve.name}   `);
  });
  const caption = `The best ${data.best.length} in colour, ${data.others.length} others in grey`
    + (data.left_out ? `; ${data.left_out} more are not drawn.` : ".");
  return section("Learning curves", caption, svg, legend);
}

function front(doc) {
  const data = doc.front;
  if (!data.points.length) return null;
  const [first, ...further] = data.objectives, wide = half(), high = 320;
  const drawn = further.map((objective, index) => {
    const box = { left: 52, right: wide - 24, top: 22, bottom: high - 40 }, svg = canvas(wide, high, "Pareto front");
    const range = at => {
      const values = data.points.map(point => point.values[at]), low = Math.min(...values), top = Math.max(...values);
      return low === top ? [low - 1, top + 1] : [low - .05 * (top - low), top + .05 * (top - low)];
    };
    const [left, right] = range(0), [low, top] = range(index + 1);
    const x = value => box.left + (value - left) / (right - left) * (box.right - box.left);
    const y = value => box.bottom - (value - low) / (top - low) * (box.bottom - box.top);
    axes(svg, box, ticks(left, right, 5), ticks(low, top, 5), x, y, `${objective.name} (${objective.direction})`, `${first.name} (${first.direction})`);
    const best = data.points.filter(point => point.front === 1).sort((a, b) => a.values[0] - b.values[0]);
    shape(svg, "polyline", { points: best.map(point => `${x(point.values[0])},${y(point.values[index + 1])}`).join(" "), fill: "none", stroke: "var(--accent)" });
    for (const point of [...data.points].reverse()) {
      const dot = shape(svg, "circle", { cx: x(point.values[0]), cy: y(point.values[index + 1]), r: point.front === 1 ? 5 : 3, fill: point.front === 1 ? "var(--accent)" : "var(--grey)", "data-trial": point.trial });
      titled(dot, `front ${point.front}: ${point.name} (${point.values.map(figure).join(", ")})`);
    }
    return svg;
  });
  const caption = "In colour the trials that no other one beats in every objective; the others in grey" + (data.left_out ? `; ${data.left_out} more are not drawn.` : ".");
  return section("Pareto front", caption, element("div", { class: "pair" }, ...drawn));
}

function survival(doc) {
  const data = doc.survival;
  if (!data.trials) return null;
  const wide = half(), high = 260, box = { left: 52, right: wide - 12, top: 36, bottom: high - 40 };
  const svg = canvas(wide, high, "Rung survival"), last = data.reached.length;
  const slot = (box.right - box.left) / last, x = epoch => box.left + (epoch - .5) * slot;
  const y = count => box.bottom - count / data.trials * (box.bottom - box.top);
  axes(svg, box, last <= 20 ? data.reached.map(each => each[0]) : ticks(1, last, 8).filter(Number.isInteger), ticks(0, data.trials, 4).filter(Number.isInteger), x, y, "trials");
  for (const [epoch, count] of data.reached) {
    const bar = shape(svg, "rect", { x: x(epoch) - slot * .4, width: slot * .8, y: y(count), height: box.bottom - y(count), fill: data.rungs.includes(epoch) ? "var(--warn)" : "var(--accent)" });
    titled(bar, `${count} trials reported epoch ${epoch}`);
    if (last <= 20) shape(svg, "text", { x: x(epoch), y: y(count) - 4, "text-anchor": "middle" }, count);
  }
  const rungs = data.rungs.length ? `Rungs after epoch ${data.rungs.join(", ")} (amber): there the scheduler stops trials.` : "No scheduler stops trials early.";
  return section("Rung survival", `Number of trials that reported each epoch. ${rungs}`, svg);
}

function bars(rows, wide) {
  const high = rows.length * 24 + 26, left = Math.min(200, wide * .42), svg = canvas(wide, high, "Importance");
  const top = Math.max(...rows.map(row => row.high), .01), x = share => left + share / top * (wide - left - 50);
  rows.forEach((row, index) => {
    const y = 6 + index * 24;
    shape(svg, "text", { x: left - 8, y: y + 13, "text-anchor": "end", class: "strong" }, row.path);
    shape(svg, "rect", { x: left, y, width: Math.max(1, x(row.share) - left), height: 16, fill: "var(--accent)", opacity: .8 });
    shape(svg, "line", { x1: x(row.low), x2: x(row.high), y1: y + 8, y2: y + 8, stroke: "var(--ink)", "stroke-width": 1.5 });
    shape(svg, "text", { x: x(row.high) + 6, y: y + 13 }, `${Math.round(100 * row.share)} %`);
  });
  return svg;
}

function importance(doc) {
  const data = doc.importance;
  if (data.message) return section("Importance of the settings", null, element("p", { class: "message" }, data.message));
  const caption = `PED-ANOVA: share in being among the best quarter, over ${data.trials} trials, ${data.predicted} of them stopped or running and counted by their predicted ends. Lines: 95 % range over bootstrap samples of the trials.`;
  return section("Importance of the settings", caption, bars(data.rows, half()));
}

function branches(doc) {
  const made = doc.importance.branches.map(each => element("div", {}, element("h3", {}, `${each.branch} (${each.trials} trials)`), bars(each.rows, half())));
  if (!made.length) return null;
  return section("Importance within a branch", "The same over the trials of one choice, among the settings that they have.", element("div", { class: "pair" }, ...made));
}

function parallel(doc) {
  const data = doc.parallel;
  if (!data.axes.length || !data.lines.length) return null;
  const wide = Math.max(width(), data.axes.length * 96 + 80), high = 340, top = 40, bottom = high - 24, svg = canvas(wide, high, "Parallel coordinates");
  const values = data.lines.map(line => line.value), sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0], far = quantile(sorted, .95) === low ? sorted[sorted.length - 1] : quantile(sorted, .95);
  const all = [...data.axes, { path: doc.objective, kind: "number", low: sorted[0], high: sorted[sorted.length - 1], log: false }];
  const gap = (wide - 130) / (all.length - 1), x = index => 50 + index * gap;
  const y = (axis, value) => {
    if (axis.kind === "choice") return top + (axis.choices.indexOf(value) + .5) / axis.choices.length * (bottom - top);
    if (axis.low === axis.high) return (top + bottom) / 2;
    const scale = axis.log ? Math.log : each => each;
    return bottom - (scale(value) - scale(axis.low)) / (scale(axis.high) - scale(axis.low)) * (bottom - top);
  };
  const goodness = value => { const share = far === low ? 0 : Math.min(1, Math.max(0, (value - low) / (far - low))); return doc.direction === "minimize" ? 1 - share : share; };
  for (const line of [...data.lines].sort((a, b) => goodness(a.value) - goodness(b.value))) {
    const points = [...line.settings, line.value].map((value, index) => value === null ? null : [x(index), y(all[index], value)]);
    const path = points.filter(point => point !== null).map(point => point.map(at => at.toFixed(1)).join(",")).join(" ");
    const good = goodness(line.value), stopped = line.outcome !== "completed";
    const made = shape(svg, "polyline", { points: path, fill: "none", stroke: line.rank === 1 ? "#dc2626" : `hsl(${30 + 145 * good} 70% ${60 - 22 * good}%)`, "stroke-width": line.rank === 1 ? 3 : 1.2, opacity: stopped ? .35 : .85, ...(stopped ? { "stroke-dasharray": "4 3" } : {}) });
    titled(made, `${line.number} ${line.trial}: ${figure(line.value)}`);
  }
  all.forEach((axis, index) => {
    shape(svg, "line", { x1: x(index), x2: x(index), y1: top, y2: bottom, stroke: "var(--soft)" });
    const short = axis.path.length > gap / 6.5 ? axis.path.split(/[./]/).pop() : axis.path;
    titled(shape(svg, "text", { x: x(index), y: 14, "text-anchor": "middle", class: "strong" }, short), axis.path);
    if (axis.kind === "choice") axis.choices.forEach(choice => shape(svg, "text", { x: x(index) + 6, y: y(axis, choice) + 4, class: "over" }, choice.length > 14 ? choice.slice(0, 13) + "…" : choice));
    else { shape(svg, "text", { x: x(index), y: top - 8, "text-anchor": "middle" }, figure(axis.high)); shape(svg, "text", { x: x(index), y: bottom + 16, "text-anchor": "middle" }, figure(axis.low)); }
  });
  svg.style.minWidth = `${wide}px`;
  const caption = `One line a trial, green where it is good, the best one red, stopped ones dashed${data.left_out ? `; ${data.left_out} more are not drawn` : ""}. Axes by importance; a setting that a branch lacks is skipped.`;
  return section("Parallel coordinates", caption, element("div", { style: "overflow-x:auto" }, svg));
}

function groups(doc) {
  if (!doc.groups.figures.length) return null;
  const made = doc.groups.figures.map(data => {
    const wide = half(), left = Math.min(130, wide * .3), high = data.groups.length * 22 + 30, svg = canvas(wide, high, `${data.figure} by ${data.by}`);
    const ends = data.groups.flatMap(group => [group.mean, group.low ?? group.mean, group.high ?? group.mean]);
    let low = Math.min(...ends), top = Math.max(...ends);
    if (low === top) [low, top] = [low - .5, top + .5];
    const x = value => left + (value - low) / (top - low) * (wide - left - 70);
    data.groups.forEach((group, index) => {
      const y = 10 + index * 22;
      shape(svg, "text", { x: left - 8, y: y + 4, "text-anchor": "end", class: "strong" }, group.name);
      if (group.low !== null) shape(svg, "line", { x1: x(group.low), x2: x(group.high), y1: y, y2: y, stroke: "var(--accent)", "stroke-width": 2 });
      titled(shape(svg, "circle", { cx: x(group.mean), cy: y, r: 4, fill: "var(--accent)" }), `${figure(group.mean)}, ${group.images ?? "?"} images`);
      shape(svg, "text", { x: wide - 4, y: y + 4, "text-anchor": "end" }, `${figure(group.mean)} (${group.images ?? "?"})`);
    });
    for (const at of ticks(low, top, 4)) shape(svg, "text", { x: x(at), y: high - 6, "text-anchor": "middle" }, figure(at));
    const interval = data.low === null ? "" : ` (${figure(data.low)} to ${figure(data.high)})`;
    return element("div", {}, element("h3", {}, `${data.figure} by ${data.by}: gap ${figure(data.gap)}${interval}`), svg);
  });
  const exact = doc.groups.figures.some(each => each.low !== null);
  const caption = `Validation part, best trial ${doc.groups.trial}; number of images in brackets. ` + (exact ? "Lines: 95 % intervals over the images of a group; of the gap over bootstrap samples of all images." : "The trial keeps no predictions, so there are no intervals.");
  return section("Groups", caption, element("div", { class: "pair" }, ...made));
}

function matrix(labels, counts) {
  const body = counts.map((row, index) => {
    const sum = row.reduce((total, count) => total + count, 0) || 1;
    const cells = row.map((count, column) => {
      const share = count / sum, right = column === index;
      const color = right ? `rgb(15 118 110 / ${.1 + .55 * share})` : `rgb(217 119 6 / ${.75 * share})`;
      return element("td", { style: `background:${color}`, title: `${Math.round(100 * share)} % of ${labels[index]}` }, String(count));
    });
    return element("tr", {}, element("th", { class: "right" }, labels[index]), ...cells);
  });
  const head = element("tr", {}, element("th"), ...labels.map(label => element("th", { class: "right" }, label)));
  return element("table", { class: "matrix" }, element("thead", {}, head), element("tbody", {}, ...body));
}

function confusion(doc) {
  if (!doc.confusion.length) return null;
  const made = doc.confusion.map(data => element("div", {}, element("h3", {}, data.task), element("div", { class: "pair" },
    ...data.sides.map((side, index) => element("div", {}, element("p", { class: "soft" }, `${index ? "Runner-up" : "Winner"}: ${side.name}`),
      element("div", { style: "overflow-x:auto" }, matrix(side.labels, side.counts)))))));
  return section("Confusion: winner against runner-up", "True class in rows, predicted class in columns; validation part, best epoch.", ...made);
}

async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); }
  catch (error) {  // a page without permission for the clipboard
    const area = element("textarea"); area.value = text; document.body.append(area); area.select();
    const done = document.execCommand("copy"); area.remove();
    if (!done) { window.prompt("Copy this command:", text); return; }
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy re-run"; }, 1500);
}

function leaderboard(doc) {
  const data = doc.leaderboard;
  if (!data.rows.length) return null;
  const names = ["rank", ...(data.several ? ["sweep"] : []), "trial", ...(data.seeds ? ["mean"] : []), doc.objective.replace("val/", ""), ...data.params, ...data.metrics, "epochs", "outcome", ""];
  const rows = data.rows.map(row => {
    const button = element("button", { type: "button", title: row.rerun, "data-copy": row.rerun }, "copy re-run");
    button.addEventListener("click", () => copy(row.rerun, button));
    const right = value => element("td", { class: "right" }, value);
    const mean = row.mean === null ? "" : figure(row.mean) + (row.margin === null ? "" : ` ± ${figure(row.margin)}`);
    return element("tr", {}, right(row.rank === null ? "" : String(row.rank)), data.several ? element("td", {}, row.sweep) : null,
      element("td", {}, element("code", {}, row.trial)), data.seeds ? right(mean) : null, right(figure(row.value)),
      ...row.params.map(value => element("td", {}, value)), ...row.metrics.map(value => right(value === null ? "" : figure(value))),
      right(String(row.epochs)), element("td", { style: `color:${OUTCOMES[row.outcome] || "inherit"}` }, row.outcome), element("td", {}, button));
  });
  const table = element("table", { id: "leaderboard" }, element("thead", {}, element("tr", {}, ...names.map(name => element("th", {}, name)))), element("tbody", {}, ...rows));
  const made = section("Leaderboard", data.left_out ? `${data.left_out} more trials: agr leaderboard ${doc.sweeps.map(sweep => sweep.sweep_id).join(" ")}` : null, element("div", { class: "scroll" }, table));
  made.classList.add("long");
  return made;
}

function timeline(doc) {
  const data = doc.timeline;
  if (!data.lanes.length) return null;
  const wide = width(), left = Math.min(140, wide * .25), high = data.lanes.length * 22 + 40, svg = canvas(wide, high, "Timeline of workers");
  const span = Math.max(1, data.end - data.start), x = time => left + (time - data.start) / span * (wide - left - 12);
  let node = null;
  data.lanes.forEach((lane, index) => {
    const y = 4 + index * 22;
    if (lane.node !== node) shape(svg, "text", { x: left - 8, y: y + 13, "text-anchor": "end", class: "strong" }, lane.node);
    node = lane.node;
    for (const bar of lane.bars) {
      const made = shape(svg, "rect", { x: x(bar.from), y, height: 18, rx: 2, width: Math.max(1, x(bar.to) - x(bar.from) - 1), fill: OUTCOMES[bar.outcome] || "#0284c7" });
      titled(made, `${bar.number} ${bar.trial}: ${bar.outcome || "running"}, ${duration(bar.to - bar.from)}`);
      if (x(bar.to) - x(bar.from) > 30) shape(svg, "text", { x: x(bar.from) + 4, y: y + 13, style: "fill:#fff" }, bar.number);
    }
  });
  for (const at of ticks(0, span, 5)) shape(svg, "text", { x: Math.min(x(data.start + at), wide - 24), y: high - 12, "text-anchor": "middle" }, duration(at));
  const legend = element("p", { class: "soft" });
  for (const [name, color] of [...Object.entries(OUTCOMES), ["running", "#0284c7"]]) legend.append(element("span", { style: `color:${color}` }, "■ "), `${name}   `);
  return section("Workers", "Trials from their first attempt to their end, on the node they were on last." + (data.left_out ? ` ${data.left_out} older ones are not drawn.` : ""), svg, legend);
}

function errors(doc) {
  const data = doc.errors;
  if (!data.rows.length) return section("Errors", "None.");
  const rows = data.rows.map(row => element("tr", {}, element("td", {}, new Date(1000 * row.time).toISOString().slice(0, 19).replace("T", " ")),
    element("td", {}, element("code", {}, row.trial || "")), element("td", {}, row.what), element("td", { class: "wrap" }, row.text)));
  const head = element("tr", {}, ...["time (UTC)", "trial", "what", "error"].map(name => element("th", {}, name)));
  return section("Errors", data.left_out ? `${data.left_out} older ones are not listed.` : null, element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))));
}

let shown = null;

function draw(doc) {
  shown = doc;
  document.title = doc.head ? `${figure(doc.head.value)} ${doc.title}` : doc.title;
  document.getElementById("title").textContent = doc.title;
  const page = document.getElementById("page"), down = window.scrollY;
  const table = page.querySelector(".scroll"), inside = table ? [table.scrollTop, table.scrollLeft] : null;
  const parts = [heads(doc), curves(doc), front(doc), element("div", { class: "pair" }, ...[survival(doc), importance(doc)].filter(part => part !== null)),
    branches(doc), parallel(doc), leaderboard(doc), groups(doc), confusion(doc), timeline(doc), errors(doc),
    element("p", { class: "soft" }, `Drawn from the journal at ${new Date(1000 * doc.now).toISOString().slice(0, 19).replace("T", " ")} UTC.`)];
  page.replaceChildren(...parts.filter(part => part !== null));
  const again = page.querySelector(".scroll");
  if (again && inside) [again.scrollTop, again.scrollLeft] = inside;
  window.scrollTo(0, down);
}

function say(words) {
  const line = document.getElementById("connection");
  line.hidden = !words;
  line.textContent = words;
}

function follow() {
  const source = new EventSource("events");
  source.addEventListener("figures", event => { say(""); draw(JSON.parse(event.data)); });
  source.addEventListener("problem", event => say(JSON.parse(event.data)));
  source.onerror = () => say("agr board does not answer; this page shows the last state.");
}

const live = document.body.dataset.live === "yes";
const given = document.getElementById("figures").textContent;
if (given.trim()) draw(JSON.parse(given));
if (live) follow();
let known = window.innerWidth;
window.addEventListener("resize", () => { if (shown && window.innerWidth !== known) { known = window.innerWidth; draw(shown); } });

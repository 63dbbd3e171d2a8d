// What moves on the page: colours, language, charts, sorting, the confusion map, and reading itself again while training runs.
(() => {
  "use strict";
  const root = document.documentElement;
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const isChinese = () => root.lang === "zh-CN";
  const say = (english, chinese) => (isChinese() ? chinese : english);
  const storage = (kind) => ({ // forbidden for files in some browsers
    get(key) { try { return window[kind].getItem("provenet-report-" + key); } catch { return null; } },
    set(key, value) { try { window[kind].setItem("provenet-report-" + key, value); } catch { /* then it is not remembered */ } },
  });
  const kept = storage("localStorage"), session = storage("sessionStorage");
  const percent = (value, digits = 1) => (value == null ? "–" : (100 * value).toFixed(digits) + "%");
  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  // Words that are no text of the page: labels for those who hear it.
  function label() {
    for (const node of all("[data-label-en]")) node.setAttribute("aria-label", node.dataset[isChinese() ? "labelZh" : "labelEn"]);
    for (const node of all("button[data-label-en], .thumb")) node.title = node.getAttribute("aria-label");
  }

  // Charts.
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const charts = [];
  const steps = facts.curves.steps, epochs = facts.curves.epochs;
  const has = (column) => column.some((value) => value != null);
  const number = (value) => (value == null ? "–" : Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : value.toPrecision(4));
  const KINDS = {
    accuracy: {
      series: [
        { english: "training", chinese: "训练", colour: "train", x: epochs.epoch, y: epochs.train_top1 },
        { english: "validation", chinese: "验证", colour: "val", x: epochs.epoch, y: epochs.val_top1 },
      ],
      show: (value) => percent(value, 2), tick: (value) => +(100 * value).toFixed(2) + "%", height: 250,
    },
    loss: {
      series: [
        { english: "single steps", chinese: "单步", colour: "train", x: steps.epoch, y: steps.loss, isFaint: has(epochs.train_loss) },
        { english: "training", chinese: "训练", colour: "train", x: epochs.epoch, y: epochs.train_loss },
        { english: "validation", chinese: "验证", colour: "val", x: epochs.epoch, y: epochs.val_loss },
      ],
      show: number, height: 250,
    },
    rate: {
      series: [{ english: "learning rate", chinese: "学习率", colour: "accent", x: steps.epoch, y: steps.learning_rate }],
      show: number, height: 130,
    },
  };

  function makeChart(figure) {
    const kind = KINDS[figure.dataset.chart], host = figure.querySelector(".plot"), values = figure.querySelector(".values");
    const series = kind.series.filter((line) => has(line.y));
    if (!series.length) { figure.hidden = true; return; }
    const data = uPlot.join(series.map((line) => [line.x, line.y]));
    const ends = [Math.min(0, data[0][0]), data[0][data[0].length - 1]];
    const last = (column, from) => { for (let k = from; k >= 0; k--) if (column[k] != null) return k; return column.findIndex((value) => value != null); };
    const axis = (extra) => ({
      stroke: () => colour("soft"), font: "11.5px " + getComputedStyle(document.body).fontFamily, labelFont: "11.5px sans-serif",
      grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false }, ...extra,
    });
    const plot = new uPlot({
      width: Math.max(200, host.clientWidth), height: host.clientHeight || kind.height, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: {
        sync: { key: "epochs" }, y: false, drag: { x: true, y: false }, points: { size: 7 },
        dataIdx: (self, line, hovered) => (line === 0 || self.data[line][hovered] != null ? hovered : nearest(self.data[line], hovered)),
      },
      scales: { x: { time: false, range: (self, least, most) => (least === most ? [least - 0.5, least + 0.5] : [least, most]) }, y: { range: (self, least, most) => uPlot.rangeNum(least, most, 0.08, false) } },
      axes: [axis({ space: 60, size: 30 }), axis({ size: 56, ...(kind.tick ? { values: (self, ticks) => ticks.map(kind.tick) } : { values: (self, ticks) => ticks.map((tick) => (tick !== 0 && Math.abs(tick) < 1e-3 ? tick.toExponential(0) : +tick.toPrecision(6) + "")) }) })],
      series: [{}, ...series.map((line) => ({
        stroke: () => colour(line.colour), width: line.isFaint ? 1 : 2, alpha: line.isFaint ? 0.45 : 1, spanGaps: true,
        points: { show: !line.isFaint && line.x.length === 1, size: 7, fill: () => colour(line.colour) },
      }))],
      hooks: { draw: [drawMarks], setCursor: [(self) => readOut(self)], setSelect: [], ready: [(self) => readOut(self)] },
    }, data, host);
    plot.setScale("x", { min: ends[0], max: ends[1] });

    function nearest(column, at) {
      for (let d = 1; d < column.length; d++) { if (column[at - d] != null) return at - d; if (column[at + d] != null) return at + d; }
      return at;
    }
    function readOut(self) {
      const at = self.cursor.idx, isIdle = at == null || self.cursor.left < 0;
      const place = isIdle ? data[0].length - 1 : at;
      values.replaceChildren(...[{ text: say("epoch ", "第 "), value: (+data[0][place].toPrecision(4)) + say("", " 轮") }, ...series.map((line, k) => {
        const column = data[k + 1], found = isIdle ? last(column, place) : column[place] != null ? place : nearest(column, place);
        return { colour: line.colour, isFaint: line.isFaint, text: say(line.english, line.chinese) + " ", value: kind.show(column[found]) };
      })].map((entry) => {
        const node = element("span", entry.text);
        if (entry.colour) { const mark = element("i", ""); mark.style.background = `var(--${entry.colour})`; if (entry.isFaint) mark.style.opacity = 0.45; node.prepend(mark); }
        node.append(element("b", entry.value));
        return node;
      }));
    }
    host.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "+" || event.key === "=") zoom(0.5); else if (event.key === "-") zoom(2); else if (event.key === "0" || event.key === "Escape") zoom(0);
      if (!move) return;
      event.preventDefault();
      const from = plot.cursor.idx == null || plot.cursor.left < 0 ? (move > 0 ? -1 : data[0].length) : plot.cursor.idx;
      const stride = Math.max(1, Math.round(data[0].length / 200));
      const at = Math.min(data[0].length - 1, Math.max(0, from + move * stride));
      plot.setCursor({ left: plot.valToPos(data[0][at], "x"), top: 10 });
    });
    charts.push({ plot, host, readOut: () => readOut(plot), ends, kind });
  }

  function drawMarks(self) {
    const context = self.ctx, { left, top, width, height } = self.bbox, ratio = devicePixelRatio || 1;
    const mark = (epoch, text, name, dash) => {
      const x = Math.round(self.valToPos(epoch, "x", true));
      if (x < left || x > left + width) return;
      context.save();
      context.strokeStyle = context.fillStyle = colour(name);
      context.lineWidth = ratio;
      context.setLineDash(dash.map((length) => length * ratio));
      context.beginPath(); context.moveTo(x, top); context.lineTo(x, top + height); context.stroke();
      context.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
      if (height < 150 * ratio) { context.restore(); return; } // a low chart has no room for words
      const isRight = x > left + width - 70 * ratio;
      context.textAlign = isRight ? "right" : "left";
      context.textBaseline = "bottom";
      context.fillText(text, x + (isRight ? -5 : 5) * ratio, top + height - 5 * ratio);
      context.restore();
    };
    for (const epoch of facts.curves.resumed) mark(epoch, say("resumed", "恢复训练"), "soft", [1, 3]);
    if (facts.curves.best != null) mark(facts.curves.best, say("best", "最佳"), "accent", [5, 4]);
  }

  function zoom(factor) {
    for (const { plot, ends } of charts) {
      const { min, max } = plot.scales.x;
      const centre = plot.cursor.idx != null && plot.cursor.left >= 0 ? plot.data[0][plot.cursor.idx] : (min + max) / 2;
      const reach = ((max - min) / 2) * factor;
      plot.setScale("x", factor === 0 ? { min: ends[0], max: ends[1] } : { min: Math.max(ends[0], centre - reach), max: Math.min(ends[1], centre + reach) });
    }
  }
  const isZoomed = () => charts.some(({ plot, ends }) => plot.scales.x.min > ends[0] || plot.scales.x.max < ends[1]);

  function redraw() {
    for (const chart of charts) { chart.plot.redraw(false, true); chart.readOut(); }
    all("canvas[data-map]").forEach(drawMap);
  }

  // The confusion matrix of many classes: a pixel for each pair, or for a block of pairs.
  const maps = new Map();
  function drawMap(canvas) {
    const part = facts.parts.find((candidate) => candidate.split === canvas.dataset.map);
    const count = part.class_images.length, side = Math.min(count, 500), scale = side / count, zoomed = Math.max(1, Math.floor(1000 / side));
    const cells = new Float32Array(side * side);
    for (let k = 0; k < part.cells.length; k += 3) {
      const [row, column, images] = part.cells.slice(k, k + 3);
      const place = Math.floor(row * scale) * side + Math.floor(column * scale);
      cells[place] = Math.max(cells[place], images / part.class_images[row]);
    }
    maps.set(canvas, { part, count });
    canvas.width = canvas.height = side * zoomed;
    const context = canvas.getContext("2d");
    context.fillStyle = colour("raised");
    context.fillRect(0, 0, canvas.width, canvas.height);
    cells.forEach((fraction, place) => {
      if (!fraction) return;
      const row = Math.floor(place / side), column = place % side;
      context.globalAlpha = 0.15 + 0.85 * Math.sqrt(fraction);
      context.fillStyle = colourOf[row === column ? "accent" : "warm"] ||= colour(row === column ? "accent" : "warm");
      context.fillRect(column * zoomed, row * zoomed, zoomed, zoomed);
    });
    context.globalAlpha = 1;
    colourOf.accent = colourOf.warm = "";
  }
  const colourOf = { accent: "", warm: "" };
  function watchMap(canvas) {
    const readout = canvas.parentElement.querySelector(".readout"), idle = readout.firstElementChild;
    canvas.addEventListener("pointermove", (event) => {
      const { part, count } = maps.get(canvas), box = canvas.getBoundingClientRect();
      const place = (offset, length) => Math.min(count - 1, Math.max(0, Math.floor((offset / length) * count)));
      const row = place(event.clientY - box.top, box.height), column = place(event.clientX - box.left, box.width);
      let images = 0;
      for (let k = 0; k < part.cells.length; k += 3) if (part.cells[k] === row && part.cells[k + 1] === column) images = part.cells[k + 2];
      readout.replaceChildren(pair(facts.classes[row], facts.classes[column], images.toLocaleString("en"), percent(part.class_images[row] ? images / part.class_images[row] : null)));
    });
    canvas.addEventListener("pointerleave", () => readout.replaceChildren(idle));
  }
  function pair(truth, taken, images, fraction) {
    const node = element("span", "");
    const isRight = truth === taken;
    node.append(element("b", truth), " ", isRight ? say("recognised", "答对") : say("taken for ", "被认成 "), isRight ? "" : element("b", taken));
    node.append(say(`: ${images} pictures, ${fraction} of the class`, `：${images} 张，占该类 ${fraction}`));
    return node;
  }

  // The confusion matrix as a table: values beneath it, arrow keys move.
  function watchMatrix(table) {
    const readout = table.closest("section").querySelector(".readout"), idle = readout.firstElementChild;
    const heads = all("thead th", table), rows = all("tbody tr", table);
    const cells = rows.map((row) => all("td", row));
    if (cells.length) cells[0][0].tabIndex = 0;
    let marked = [];
    const show = (cell) => {
      marked.forEach((node) => node.classList.remove("at"));
      marked = [];
      if (!cell) { readout.replaceChildren(idle); return; }
      const row = cell.parentElement, column = cell.cellIndex - 1;
      marked = [cell, heads[column], row.cells[0]];
      marked.forEach((node) => node.classList.add("at"));
      readout.replaceChildren(pair(row.cells[0].textContent, heads[column].textContent, cell.textContent === "·" ? "0" : cell.textContent, cell.dataset.p));
    };
    table.addEventListener("pointerover", (event) => { const cell = event.target.closest("tbody td"); if (cell) show(cell); });
    table.addEventListener("pointerleave", () => show(table.contains(document.activeElement) ? document.activeElement.closest("tbody td") : null));
    table.addEventListener("focusin", (event) => { const cell = event.target.closest("tbody td"); if (cell) show(cell); });
    table.addEventListener("focusout", () => show(null));
    table.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key], cell = event.target.closest("tbody td");
      if (!move || !cell) return;
      event.preventDefault();
      const next = cells[rows.indexOf(cell.parentElement) + move[0]]?.[cell.cellIndex - 1 + move[1]];
      if (!next) return;
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  // Tables that sort: what has no value comes last either way.
  function makeSortable(table) {
    const heads = all("thead th", table), body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const isNumber = head.dataset.sort === "number";
      const isDescending = head.getAttribute("aria-sort") === "ascending" || (head.dataset.first === "descending" && !head.hasAttribute("aria-sort"));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      const order = new Intl.Collator(undefined, { numeric: true });
      const rows = [...body.rows].map((row) => ({ row, value: isNumber ? (row.cells[column].dataset.v === "" ? null : +row.cells[column].dataset.v) : row.cells[column].textContent }));
      rows.sort((a, b) => {
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
        return (isDescending ? -1 : 1) * (isNumber ? a.value - b.value : order.compare(a.value, b.value));
      });
      body.append(...rows.map(({ row }) => row));
    }));
  }

  // The reliability diagram: a bin in words.
  function watchBins(figure) {
    const readout = figure.querySelector(".readout"), idle = readout.firstElementChild;
    const show = (bin) => {
      if (!bin) { readout.replaceChildren(idle); return; }
      const { bin: range, images, confidence, accuracy } = bin.dataset;
      readout.textContent = say(`${range}: ${images} pictures, claims ${confidence}, right in ${accuracy}`, `${range}：${images} 张，自称 ${confidence}，答对 ${accuracy}`);
    };
    for (const kind of ["pointerover", "focusin"]) figure.addEventListener(kind, (event) => show(event.target.closest(".bin")));
    for (const kind of ["pointerleave", "focusout"]) figure.addEventListener(kind, () => show(null));
  }

  // The mistakes in one of two orders, on all parts of the data.
  function showOrder(order) {
    for (const button of all("[data-order]")) button.setAttribute("aria-pressed", button.dataset.order === order);
    for (const text of all("[data-of-order]")) text.hidden = text.dataset.ofOrder !== order;
    for (const list of all(".orders ~ ol.mistakes")) {
      const items = [...list.children], ranked = items.filter((item) => item.dataset[order]);
      for (const item of items) item.hidden = !item.dataset[order];
      list.append(...ranked.sort((a, b) => a.dataset[order] - b.dataset[order]));
    }
    session.set("order", order);
  }

  // Which part of the data is shown.
  function showPart(split) {
    for (const panel of all(".panel")) panel.hidden = panel.dataset.split !== split;
    for (const button of all("[data-show]")) button.setAttribute("aria-pressed", button.dataset.show === split);
    for (const link of all("[data-section]")) link.href = `#${link.dataset.section}-${split}`;
    session.set("part", split);
  }

  // Contents: where one is.
  function followContents() {
    if (!("IntersectionObserver" in window)) return;
    const links = all(".contents a");
    const visible = new Set();
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) isIntersecting ? visible.add(target.id) : visible.delete(target.id);
      const current = links.find((link) => visible.has(link.hash.slice(1)));
      if (current) links.forEach((link) => (link === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    }, { rootMargin: "-12% 0px -60% 0px" });
    all("main section[id]").forEach((section) => observer.observe(section));
  }

  // While training runs: read the file again, unless somebody is in the middle of something, and come back to the same place.
  function readAgain() {
    const place = session.get("place"), folds = all("details");
    (session.get("open") || "").split(",").forEach((number) => { if (number && folds[number]) folds[number].open = true; });
    if (place && performance.getEntriesByType("navigation")[0]?.type === "reload") scrollTo({ top: +place, behavior: "instant" });
    addEventListener("pagehide", () => {
      session.set("place", String(scrollY));
      session.set("open", folds.flatMap((fold, number) => (fold.open ? [number] : [])).join(","));
    });
    const age = document.getElementById("age"), written = Date.parse(document.lastModified);
    const tell = () => {
      const minutes = Math.floor((Date.now() - written) / 60000);
      age.textContent = minutes >= 2 ? say(` · written ${minutes} minutes ago`, ` · ${minutes} 分钟前写入`) : "";
    };
    if (age) { tell(); setInterval(tell, 20000); }
    setInterval(() => {
      const isBusy = isZoomed() || !getSelection().isCollapsed;
      if (document.visibilityState === "visible" && !isBusy) location.reload();
    }, facts.reload_seconds * 1000);
  }

  document.getElementById("language").addEventListener("click", () => {
    root.lang = isChinese() ? "en" : "zh-CN";
    kept.set("language", isChinese() ? "zh" : "en");
    label();
    redraw();
  });
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (theme) => { root.dataset.theme = theme; redraw(); };
  document.getElementById("theme").addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    kept.set("theme", theme);
    setTheme(theme);
  });
  systemDark.addEventListener("change", () => { if (!kept.get("theme")) setTheme(systemDark.matches ? "dark" : "light"); });
  let themeOnScreen = "";
  addEventListener("beforeprint", () => { themeOnScreen = root.dataset.theme; setTheme("light"); }); // paper is white
  addEventListener("afterprint", () => { if (themeOnScreen) setTheme(themeOnScreen); });

  label();
  const splits = facts.parts.map((part) => part.split);
  if (splits.length) showPart(splits.includes(session.get("part")) ? session.get("part") : splits[0]);
  all("[data-show]").forEach((button) => button.addEventListener("click", () => showPart(button.dataset.show)));
  showOrder(session.get("order") === "surest" ? "surest" : "worst");
  all("[data-order]").forEach((button) => button.addEventListener("click", () => showOrder(button.dataset.order)));
  all(".chart").forEach(makeChart);
  all("[data-zoom]").forEach((button) => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
  all("canvas[data-map]").forEach((canvas) => { drawMap(canvas); watchMap(canvas); });
  all("table.matrix").forEach(watchMatrix);
  all("table.sortable").forEach(makeSortable);
  all(".reliability").forEach(watchBins);
  new ResizeObserver(() => {
    for (const { plot, host, kind } of charts) if (host.clientWidth > 0 && plot.width !== host.clientWidth) plot.setSize({ width: host.clientWidth, height: host.clientHeight || kind.height });
  }).observe(document.getElementById("main"));
  followContents();
  if (facts.state === "running") readAgain();
})();

(() => {
  "use strict";
  const page = document.documentElement;
  const rows = JSON.parse(document.getElementById("rows").textContent);
  const tip = document.getElementById("tip");
  const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a file of its own has no memory */ } };
  const words = {
    en: { output: "output", parameters: "parameters", macs: "multiply-adds", activation: "memory of its output", inference: "alive in inference", training: "kept in training", field: "receptive field", whole: "the whole picture", pixels: "pixels" },
    zh: { output: "输出", parameters: "参数量", macs: "乘加次数", activation: "输出占用内存", inference: "推理时占用", training: "训练时保留", field: "感受野", whole: "整张图片", pixels: "像素" },
  };

  const labels = Object.entries(JSON.parse(document.getElementById("labels").textContent));
  const translated = [...document.querySelectorAll("svg text, .costs")].map((element) => [element, element.textContent]);
  const inChinese = (text) => {
    const [word, chinese] = labels.find(([english]) => new RegExp(`(^|[^\\w])${english}($|[^\\w])`).test(text)) || [];
    return word ? inChinese(text.replace(word, chinese)) : text;
  };
  const setLanguage = (language) => {
    page.lang = language;
    const short = language === "en" ? "en" : "zh";
    for (const [element, english] of translated) element.textContent = short === "en" ? english : inChinese(english);
    for (const element of document.querySelectorAll("[data-label-en]")) {
      element.setAttribute("aria-label", element.getAttribute(`data-label-${short}`));
      element.title = element.getAttribute(`data-label-${short}`);
    }
  };
  const setTheme = (theme) => { page.dataset.theme = theme; };
  setLanguage(remembered("provenet-language") || (/^zh/i.test(navigator.language) ? "zh-CN" : "en"));
  setTheme(remembered("provenet-theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  document.getElementById("language").addEventListener("click", () => {
    setLanguage(page.lang === "en" ? "zh-CN" : "en");
    remember("provenet-language", page.lang);
  });
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(page.dataset.theme === "dark" ? "light" : "dark");
    remember("provenet-theme", page.dataset.theme);
  });

  const blocks = [...document.querySelectorAll(".block")];
  const all = document.getElementById("all");
  const setOpen = (block, isOpen) => {
    block.setAttribute("aria-expanded", isOpen);
    tip.hidden = true;
    if (all) all.setAttribute("aria-pressed", blocks.every((other) => other.getAttribute("aria-expanded") === "true"));
  };
  const toggle = (block) => setOpen(block, block.getAttribute("aria-expanded") !== "true");
  for (const block of blocks) {
    block.addEventListener("click", () => toggle(block));
    block.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(block); }
    });
  }
  if (all) all.addEventListener("click", () => {
    const isOpen = all.getAttribute("aria-pressed") !== "true";
    for (const block of blocks) setOpen(block, isOpen);
  });

  for (const title of document.querySelectorAll(".node > title")) title.remove();  // the page has its own
  const element = (name, text) => { const made = document.createElement(name); made.textContent = text; return made; };
  const describe = (node) => {
    const language = page.lang === "en" ? "en" : "zh";
    const text = words[language];
    tip.replaceChildren();
    const names = node.dataset.rows.split("|").filter((name) => name in rows);
    const shown = names.length > 4 ? [names[names.length - 1]] : names;
    if (names.length > 4) {
      const number = (name, key) => Number(rows[name][key].replaceAll(",", ""));
      const total = (key) => names.reduce((sum, name) => sum + number(name, key), 0).toLocaleString("en");
      tip.append(element("b", node.closest(".block")?.dataset.block || node.closest(".stage").dataset.stage));
      const list = document.createElement("dl");
      list.append(element("dt", text.parameters), element("dd", total("parameters")), element("dt", text.macs), element("dd", total("macs")));
      tip.append(list);
    }
    for (const name of shown) {
      const row = rows[name];
      tip.append(element("b", name), element("div", language === "en" ? row.kind : row.kind_zh));
      const list = document.createElement("dl");
      for (const key of ["output", "parameters", "macs", "activation", "inference", "training"]) {
        if (row[key] !== "0" && row[key] !== "0 B") list.append(element("dt", text[key]), element("dd", row[key]));
      }
      if (row.field) list.append(element("dt", text.field), element("dd", row.is_whole ? text.whole : `${row.field} ${text.pixels}`));
      tip.append(list);
    }
  };
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18}px`;
  };
  let shownNode = null;
  const mark = (stage) => {
    for (const bar of document.querySelectorAll(".bar")) bar.classList.toggle("on", stage !== null && bar.dataset.stage === stage);
  };
  document.addEventListener("mousemove", (event) => {
    const node = event.target.closest?.(".node") || null;
    if (node !== shownNode) {
      shownNode = node;
      tip.hidden = !node;
      if (node) describe(node);
      mark(event.target.closest?.(".stage")?.dataset.stage ?? null);
    }
    if (node) place(event.clientX, event.clientY);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
})();

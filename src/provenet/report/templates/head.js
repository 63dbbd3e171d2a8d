// Before anything is drawn: the language and the colours, as chosen here before, else as the system has them.
(() => {
  const root = document.documentElement;
  const remembered = (key) => {
    try { return localStorage.getItem("provenet-report-" + key); } catch { return null; } // forbidden for files in some browsers
  };
  const language = remembered("language") || (/^zh\b/i.test(navigator.language || "") ? "zh" : "en");
  root.lang = language === "zh" ? "zh-CN" : "en";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = remembered("theme") || (dark.matches ? "dark" : "light");
  root.classList.add("scripted");
})();

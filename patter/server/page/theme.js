/* Chooses light or dark before anything is drawn: what was chosen here before, else what the system says. */
(() => {
  const KEY = "patter.theme";
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden: then the choice lasts as long as the page
    }
  };
  const apply = (name) => {
    if (name === "light" || name === "dark") root.dataset.theme = name;
    else delete root.dataset.theme;
  };
  apply(kept());
  globalThis.patterTheme = {
    current: () => root.dataset.theme || "auto",
    choose(name) {
      apply(name);
      try {
        localStorage.setItem(KEY, name);
      } catch {
        /* as above */
      }
    },
  };
})();

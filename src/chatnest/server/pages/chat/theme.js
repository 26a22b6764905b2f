// Light or dark theme. Not a module, and in the head, so that it applies before the first paint.

(() => {
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem("chatnest.theme");
    } catch {
      return null; // storage is blocked, so follow the system
    }
  };
  const store = (theme) => {
    try {
      if (theme) localStorage.setItem("chatnest.theme", theme);
      else localStorage.removeItem("chatnest.theme");
    } catch {
      // As above.
    }
  };
  const systemTheme = () => (systemDark.matches ? "dark" : "light");
  const current = () => root.dataset.theme ?? systemTheme();
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  apply(stored());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      const words = `Switch to ${current() === "dark" ? "light" : "dark"} theme`;
      button.setAttribute("aria-label", words);
      button.title = words;
    };
    button.addEventListener("click", () => {
      const wanted = current() === "dark" ? "light" : "dark";
      const theme = wanted === systemTheme() ? null : wanted; // back to following the system
      apply(theme);
      store(theme);
      label();
    });
    systemDark.addEventListener("change", label);
    label();
  });
})();

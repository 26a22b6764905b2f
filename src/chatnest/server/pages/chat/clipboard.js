// Copy buttons: copy text to the clipboard and announce the result.

/**
 * @param {string} label the accessible name
 * @param {() => string} text
 */
export function copyButton(label, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", label);
  let timer = 0;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Not copied";
    button.dispatchEvent(
      new CustomEvent("announce", { bubbles: true, detail: done ? "Copied." : "It could not be copied." }),
    );
    window.clearTimeout(timer);
    timer = window.setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // no clipboard API outside secure contexts, such as over plain HTTP
  }
}

/** @param {string} text */
function copyBySelection(text) {
  const before = document.activeElement;
  const box = document.createElement("textarea");
  box.value = text;
  box.className = "unseen";
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (before instanceof HTMLElement) before.focus();
  return done;
}

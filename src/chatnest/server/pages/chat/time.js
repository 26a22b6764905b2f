// Spans of time, in words and as countdowns. No DOM.

/**
 * Rounded up, so that who waits that long has waited long enough.
 *
 * @param {number} seconds
 * @returns {string} "45 s", "3 min 20 s", "12 min", "14 h 14 min"
 */
export function span(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return join(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.ceil(whole / 60);
  return minutes < 60 ? `${minutes} min` : join(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

const join = (/** @type {number} */ a, /** @type {string} */ big, /** @type {number} */ b, /** @type {string} */ small) =>
  b === 0 ? `${a} ${big}` : `${a} ${big} ${b} ${small}`;

/**
 * Calls `tick` at once and then with every second, until `at` is reached: then `tick(0)`, last.
 *
 * @param {number} at milliseconds since the epoch
 * @param {(seconds: number) => void} tick
 * @returns {() => void} ends it early
 */
export function countdown(at, tick) {
  let timer = 0;
  const step = () => {
    const left = (at - Date.now()) / 1000;
    tick(Math.max(0, left));
    // To the next whole second, so that no number is shown for two seconds or skipped.
    if (left > 0) timer = window.setTimeout(step, (left % 1) * 1000 + 15);
  };
  step();
  return () => window.clearTimeout(timer);
}

// Time spans as text, and countdowns. No DOM.

/**
 * Formats a time span, rounded up so that waiting for it is always long enough.
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
 * Calls `tick` now and every second until `at`, and finally `tick(0)`.
 *
 * @param {number} at milliseconds since the epoch
 * @param {(seconds: number) => void} tick
 * @returns {() => void} stops the countdown
 */
export function countdown(at, tick) {
  let timer = 0;
  const step = () => {
    const left = (at - Date.now()) / 1000;
    tick(Math.max(0, left));
    // Wait for the next whole second, so that no number is skipped or shown for two seconds.
    if (left > 0) timer = window.setTimeout(step, (left % 1) * 1000 + 15);
  };
  step();
  return () => window.clearTimeout(timer);
}

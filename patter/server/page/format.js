/** How figures are written: ms, USD, lengths, dates. The forms are those of the terminal workbench. */

export const SLOW_MS = 1000; // from here on a reply feels late to a caller

/** A time for reading: "812 ms", "1.24 s". */
export function seconds(ms) {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Milliseconds for a column: "812", "1240", "12.4s". */
export function ms(value) {
  return value >= 9999.5 ? `${(value / 1000).toFixed(1)}s` : String(Math.round(value));
}

/** US dollars. With `unpriced` providers the sum is a lower bound; if nothing else was spent, it is not known at all. */
export function usd(value, unpriced = []) {
  const known = dollars(value);
  if (!unpriced || unpriced.length === 0) return known;
  return value > 0 ? `≥ ${known}` : "unknown";
}

function dollars(value) {
  if (!(value > 0)) return value < 0 ? `−${dollars(-value)}` : "$0";
  if (value < 0.00005) return "<$.0001";
  return value < 1 ? `$${value.toFixed(4)}` : `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

/** A call's length: "00:42", "1:02:03". */
export function length(duration) {
  const whole = Math.max(0, Math.floor(duration || 0));
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** Local time of day, "12:04:02". */
export function clock(at) {
  const then = new Date(at * 1000);
  return at > 0 ? `${two(then.getHours())}:${two(then.getMinutes())}:${two(then.getSeconds())}` : "";
}

/** Local date and time, "2026-11-22 12:04". */
export function moment(at) {
  const then = new Date(at * 1000);
  return at > 0 ? `${day(then)} ${two(then.getHours())}:${two(then.getMinutes())}` : "";
}

function day(date) {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** The UTC date `back` days before today, "2026-11-22". */
export function utcDay(back = 0) {
  return new Date(Date.now() - back * 86_400_000).toISOString().slice(0, 10);
}

/** A whole number with its thousands apart. */
export function count(value) {
  return Math.round(value || 0).toLocaleString("en-US");
}

/** A number with its noun: "1 turn", "3 turns". */
export function some(value, noun) {
  return `${count(value)} ${noun}${Math.round(value) === 1 ? "" : "s"}`;
}

/** "caller_hung_up" → "caller hung up". */
export function words(name) {
  return String(name || "").replaceAll("_", " ");
}

/** A quantity as short as it can be: "1,204", "10.4", "0.25". */
export function amount(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 1000 ? 1 : 0 });
}

/** Who speaks with whom; what no carrier told is said. */
export function party(number) {
  return number || "unknown number";
}

/** "→" for calls out, "←" for calls in, as words for those who do not see it. */
export const DIRECTIONS = { inbound: "inbound", outbound: "outbound", test: "test" };

function two(value) {
  return String(value).padStart(2, "0");
}

// Numbers and times as people read them. Unknown (null) is a dash, never a number.

export const NONE = "–";
const isKnown = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function digits(value, most) {
  const size = Math.abs(value);
  const places = size >= 100 ? 0 : size >= 10 ? Math.min(1, most) : most;
  return value.toLocaleString("en", { maximumFractionDigits: places });
}

export function count(value) {
  return isKnown(value) ? whole.format(value) : NONE;
}

// 1,234,567 takes too much of a table: 1.23 M.
export function shortCount(value) {
  if (!isKnown(value)) return NONE;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return `${digits(value / (unit === "k" ? 1e3 : size), 2)} ${unit}`;
  }
  return digits(value, 0);
}

export function rate(value) {
  return isKnown(value) ? digits(value, 2) : NONE;
}

export function percent(ratio) {
  if (!isKnown(ratio)) return NONE;
  if (ratio > 0 && ratio < 0.0001) return "< 0.01 %";
  return `${digits(ratio * 100, 2)} %`;
}

export function seconds(value) {
  if (!isKnown(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0 ms";
  if (size < 0.001) return `${digits(value * 1e6, 0)} µs`;
  if (size < 1) return `${digits(value * 1e3, 1)} ms`;
  if (size < 120) return `${digits(value, 2)} s`;
  if (size < 7200) return `${digits(value / 60, 1)} min`;
  if (size < 172800) return `${digits(value / 3600, 1)} h`;
  return `${digits(value / 86400, 1)} days`;
}

export function bytes(value) {
  if (!isKnown(value)) return NONE;
  let size = value;
  let at = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (Math.abs(size) >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${digits(size, 2)} ${units[at]}`;
}

export function moment(unixSeconds) {
  if (!isKnown(unixSeconds)) return NONE;
  return new Date(unixSeconds * 1000).toISOString().replace("T", " ").slice(0, 19);
}

export function clock(unixSeconds) {
  return moment(unixSeconds).slice(11);
}

export function age(unixSeconds, now) {
  if (!isKnown(unixSeconds)) return NONE;
  return `${seconds(Math.max(0, Math.round(now - unixSeconds)))} ago`;
}

export function shorten(text, most) {
  if (text.length <= most) return text;
  const tail = Math.ceil(most * 0.4);
  return `${text.slice(0, most - tail - 1)}…${text.slice(-tail)}`;
}

export function plural(n, one, many) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// Numbers and texts as people read them.

const GROUPS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** 12,345 */
export const count = (value) => value === undefined || value === null ? "–" : GROUPS.format(value);

/** 0 · 0.4 · 12.3 · 1,234 */
export function rate(value) {
  if (value === undefined || value === null) return "–";
  if (value === 0) return "0";
  return value < 100 ? value.toFixed(1) : GROUPS.format(value);
}

/** ["1.4", "MiB"] */
export function bytes(value) {
  if (value === undefined || value === null) return ["–", ""];
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return [unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1), UNITS[unit]];
}

export const bytesText = (value) => bytes(value).join(" ");

/** Milliseconds with three significant digits. */
export function ms(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  const value = seconds * 1000;
  if (value < 10) return value.toFixed(2);
  return value < 100 ? value.toFixed(1) : GROUPS.format(value);
}

export const percent = (share) => share === undefined || share === null ? "–" : `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** 45 s · 3 min · 2 h 10 min · 4 d 3 h */
export function age(seconds) {
  if (seconds === undefined || seconds === null) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}

/** Local date and time of an RFC 3339 text, to the millisecond. */
export function time(text) {
  if (!text) return "–";
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const two = (number, width = 2) => String(number).padStart(width, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
}

/** Control characters, and those that turn the direction of text or cannot be seen, as \u{…}: nobody hides anything or steers the page with them. */
export function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, (sign) => sign === "\n" ? " " : `\\u{${sign.codePointAt(0).toString(16)}}`);
}

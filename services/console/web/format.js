// Numbers and times as the page writes them. Times are UTC, as in the tables.
const whole = new Intl.NumberFormat('en');
const pad = (number) => String(number).padStart(2, '0');

export const number = (value) => (value === null || value === undefined ? '–' : whole.format(value));

export const compact = (value) => {
  if (value < 10_000) return whole.format(value);
  const [size, unit] = value < 1e6 ? [1e3, 'k'] : value < 1e9 ? [1e6, 'M'] : [1e9, 'G'];
  const scaled = value / size;
  return `${scaled >= 100 || Number.isInteger(scaled) ? Math.round(scaled) : scaled.toFixed(1)} ${unit}`;
};

export const rate = (perSecond) => {
  if (perSecond === null || perSecond === undefined) return '';
  const value = perSecond >= 10 || perSecond === 0 ? whole.format(Math.round(perSecond)) : perSecond.toFixed(1);
  return `${value}/s`;
};

export const share = (part, all) => {
  if (!(all > 0)) return '';
  const percent = (100 * part) / all;
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  return `${percent >= 99.995 || percent === 0 ? Math.round(percent) : percent.toFixed(percent < 10 ? 2 : 1)} %`;
};

export const minute = (seconds, size = 60) => {
  const date = new Date(seconds * 1000);
  const text = `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}`;
  return size % 60 === 0 ? text : `${text}:${pad(date.getUTCSeconds())}`;
};

export const time = (millis) => new Date(millis).toISOString().slice(11, 19);

export const dateTime = (millis) => {
  const text = new Date(millis).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}`;
};

// The date only when it is another day than that of `now`.
export const moment = (millis, now) =>
  new Date(millis).toISOString().slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? time(millis) : dateTime(millis);

export const duration = (seconds) => {
  const value = Math.max(0, seconds);
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return value % 60 === 0 ? `${value / 60} min` : `${Math.floor(value / 60)} min ${pad(Math.floor(value) % 60)} s`;
  if (value < 172_800) return value % 3600 === 0 ? `${value / 3600} h` : `${Math.floor(value / 3600)} h ${pad(Math.floor(value / 60) % 60)} min`;
  return `${Math.floor(value / 86_400)} days`;
};

export const latency = (millis) => {
  if (millis === null || millis === undefined) return '–';
  if (millis < 10) return `${millis.toFixed(1)} ms`;
  return millis < 1000 ? `${Math.round(millis)} ms` : duration(millis / 1000);
};

export const bytes = (value) => (value < 10_000 ? `${whole.format(value)} B` : `${compact(value)}B`);

export const windowName = (size) => (size === 60 ? 'minute' : `window of ${size % 60 === 0 ? `${size / 60} minutes` : `${size} s`}`);

// Tiles, top pages, partitions, dead letters.
import { byId, el, setText, show, svg, table } from './dom.js';
import { bytes, duration, latency, minute, moment, number, rate, share, windowName } from './format.js';

const SHOWN_PARTITIONS = 16;

const tile = (name, value, note, more = null) =>
  el('div', { class: 'tile' }, el('dt', {}, name), el('dd', {}, el('span', { class: 'value' }, value), el('span', { class: 'note muted' }, note || '\u00a0'), more));

const spark = (values) => {
  if (values.length < 2) return null;
  const top = Math.max(1, ...values);
  const points = values.map((value, at) => `${((at / (values.length - 1)) * 100).toFixed(1)},${(22 - (value / top) * 20).toFixed(1)}`).join(' ');
  return svg('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('polyline', { points }));
};

// The slowest watermark among partitions that are not idle; when all are, the newest.
export const slowestWatermark = (partitions) => {
  const known = partitions.rows.filter((row) => row.watermark !== null);
  const busy = known.filter((row) => row.idleSince === null);
  if (busy.length > 0) return Math.min(...busy.map((row) => row.watermark));
  return known.length > 0 ? Math.max(...known.map((row) => row.watermark)) : null;
};

export const tiles = ({ chart, flow, latency: found, partitions, sources, traffic }) => {
  const last = chart.lastComplete();
  const per = traffic ? windowName(traffic.window) : 'minute';
  const at = last ? `at ${minute(last.start, traffic.window)}` : 'no whole one yet';
  const complete = chart.windows.filter((window) => window.start + chart.size <= chart.clock).slice(-30);
  const slowest = partitions ? slowestWatermark(partitions) : null;
  show(byId('tiles'),
    tile(`Events a ${per}`, last ? number(last.hits) : '–', flow ? `${rate(flow.consumed.rate) || '–'} read now` : at),
    tile('Visitors', last ? number(last.visitors) : '–', at),
    tile('Sessions', last ? number(last.sessions) : '–', at, spark(complete.map((window) => window.sessions))),
    tile('Visible within', latency(found?.p50), found?.p50 === null || !found ? 'nothing in the last minute' : `half of them; 99 % in ${latency(found.p99)}`),
    tile('Lag', partitions ? number(partitions.lag) : '–', lagNote(partitions, sources)),
    tile('Watermark', slowest === null || !sources ? '–' : duration((sources.at - slowest) / 1000), slowest === null ? 'no clock yet' : `behind; final until ${traffic?.finalUntil ? minute(traffic.finalUntil, traffic.window) : '–'}`));
};

const lagNote = (partitions, sources) => {
  if (!partitions) return '';
  if (partitions.lag !== null) return `records, ${number(partitions.total)} partition${partitions.total === 1 ? '' : 's'}`;
  return sources && !sources.processorsNamed ? 'no processors named' : 'not known';
};

const note = (text) => el('p', { class: 'empty' }, text);

// The part of an address that all have in common is said once.
const commonHost = (urls) => {
  const hosts = new Set(urls.map((url) => {
    try {
      return /^https?:/.test(url) ? new URL(url).origin : '';
    } catch {
      return '';
    }
  }));
  const [origin] = hosts;
  return hosts.size === 1 && origin && urls.every((url) => url.startsWith(origin) && url.length > origin.length) ? origin : '';
};

export const pages = (section) => {
  const host = byId('pages');
  if (section.unavailable) return show(host, note(`Not shown: ${section.unavailable}.`));
  const origin = commonHost(section.rows.map(([url]) => url));
  const bots = section.bots > 0 && section.hits > 0 ? ` · ${share(Math.min(section.bots, section.hits), section.hits)} by programs` : '';
  setText(byId('pages-note'), `last ${duration(section.seconds)}${bots}${origin ? ` · ${origin.replace(/^https?:\/\//, '')}` : ''}`);
  if (section.rows.length === 0) return show(host, note('No pages yet.'));
  const most = section.rows[0][1];
  return show(host, el('ol', { class: 'pages' }, section.rows.map(([url, hits]) => el('li', {},
    el('span', { class: 'url', title: url }, url.slice(origin.length)),
    el('span', { class: 'number' }, number(hits)),
    el('span', { class: 'share muted' }, share(Math.min(hits, section.hits), section.hits)),
    svg('svg', { class: 'track', viewBox: '0 0 100 3', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('rect', { width: 100, height: 3 }), svg('rect', { class: 'value', width: ((100 * hits) / most).toFixed(2), height: 3 }))))));
};

const stateOf = (row) => {
  if (row.halted) return el('span', { class: 'bad' }, `halted: ${row.halted}`);
  if (row.paused) return 'paused: the buffer is full';
  return row.idleSince === null ? 'reading' : 'at the end';
};

export const partitions = (section, sources) => {
  const host = byId('partitions');
  const away = (sources?.processors ?? []).filter((processor) => processor.error);
  const running = (sources?.processors ?? []).length - away.length;
  setText(byId('partitions-note'), sources?.processorsNamed
    ? `${running} processor${running === 1 ? '' : 's'}${away.length > 0 ? `, ${away.map((one) => `${one.address}: ${one.error}`).join('; ')}` : ''}`
    : 'no processors named: lag is not known');
  if (section.rows.length === 0) return show(host, note('No partition has been claimed yet.'));
  const topics = new Set(section.rows.map((row) => row.topic));
  const ordered = [...section.rows].sort((a, b) => (section.rows.length > SHOWN_PARTITIONS ? (b.lag ?? 0) - (a.lag ?? 0) : 0));
  const columns = [['Partition', ''], ['Lag', 'number'], ['Watermark', 'number'], ['Behind', 'number wide'], ['Next offset', 'number wide'], ['Log end', 'number wide'], ['Processor', 'wide'], ['State', '']];
  const now = sources?.at ?? Date.now();
  const rows = ordered.slice(0, SHOWN_PARTITIONS).map((row) => [
    topics.size > 1 ? `${row.topic}/${row.partition}` : String(row.partition),
    number(row.lag),
    row.watermark === null ? '–' : moment(row.watermark, now),
    row.watermark === null ? '–' : duration((now - row.watermark) / 1000),
    number(row.nextOffset),
    number(row.logEnd),
    row.owner,
    stateOf(row),
  ]);
  const hidden = section.total - rows.length;
  return show(host, table(`Partitions${topics.size === 1 ? ` of ${[...topics][0]}` : ''}`, columns, rows),
    hidden > 0 ? el('p', { class: 'muted' }, `and ${number(hidden)} more with less lag`) : null);
};

// A reason may go on in the next line behind an underscore.
const breakable = (reason) => reason.split('_').flatMap((word, at) => (at === 0 ? [word] : ['_', el('wbr'), word]));

export const deadLetters = (section, sources) => {
  const host = byId('letters');
  if (section.unavailable) return show(host, note(`Not shown: ${section.unavailable}.`));
  if (section.rows.length === 0) return show(host, note('None. A record that is no valid event would stand here with its reason.'));
  const now = sources?.at ?? Date.now();
  const columns = [['Received', 'fixed'], ['Reason', 'reason'], ['Detail', 'text'], ['Partition @ offset', 'number wide'], ['Size', 'number wide']];
  const rows = section.rows.map((letter) => [
    moment(letter.receivedAt, now),
    el('code', {}, ...breakable(letter.reason)),
    letter.detail,
    `${letter.partition} @ ${number(letter.offset)}`,
    bytes(letter.bytes),
  ]);
  return show(host, table('Last dead letters, newest first', columns, rows));
};

export const cleaned = (section, sources) => {
  const host = byId('cleaned');
  if (section.rows.length === 0) {
    return show(host, note(sources && !sources.processorsNamed ? 'No processors named: not known.' : 'None. A field that is repaired or left out would stand here with the reason.'));
  }
  const columns = [['Field', ''], ['Reason', 'reason'], ['Events', 'number']];
  const rows = section.rows.map(([field, reason, count]) => [el('code', {}, ...breakable(field)), el('code', {}, ...breakable(reason)), number(count)]);
  return show(host, table('Cleaned fields since the processors began, the most first', columns, rows));
};

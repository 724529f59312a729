// One window: which records its number is made of, and whether it can still change.
import { byId, el, setText, show, table } from './dom.js';
import { dateTime, duration, minute, number, time, windowName } from './format.js';

const REFRESH_MILLIS = 5000;

export class Explain {
  constructor(closed) {
    this.panel = byId('explain');
    this.title = byId('explain-title');
    this.body = byId('explain-body');
    this.start = null;
    byId('explain-close').addEventListener('click', () => this.close(closed));
    this.panel.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.close(closed);
    });
  }

  async open(start, size) {
    const another = this.start !== start;
    this.start = start;
    this.size = size;
    this.panel.hidden = false;
    const end = start + size;
    setText(this.title, `${minute(start, size)} to ${minute(end, size)}, explained`);
    if (another) {
      show(this.body, el('p', { class: 'muted' }, 'Reading'));
      this.title.focus();
    }
    await this.load();
  }

  close(closed) {
    this.start = null;
    this.panel.hidden = true;
    closed();
  }

  // Called at every snapshot; asks again now and then while the window can still change.
  refresh() {
    if (this.start !== null && !this.loading && this.changes && Date.now() - this.loadedAt >= REFRESH_MILLIS) this.load();
  }

  async load() {
    const start = this.start;
    this.loading = true;
    this.body.setAttribute('aria-busy', 'true');
    try {
      const answer = await fetch(`/api/minute?start=${start}`, { cache: 'no-store' });
      const found = await answer.json();
      if (start !== this.start) return;
      this.changes = !answer.ok || !found.isFinal;
      if (answer.ok) this.write(found);
      else show(this.body, el('p', { class: 'bad' }, `It cannot be explained now: ${found.error}.`));
    } catch {
      if (start === this.start) show(this.body, el('p', { class: 'bad' }, 'The console does not answer.'));
    } finally {
      this.loading = false;
      this.loadedAt = Date.now();
      this.body.setAttribute('aria-busy', 'false');
    }
  }

  write(found) {
    const sample = this.body.querySelector('details')?.open ?? false;
    show(this.body,
      el('div', { class: 'facts' }, countFact(found, this.size), finalFact(found), whoFact(found)),
      table('By partition', [['Partition', ''], ['Events', 'number'], ['Rows', 'number wide'], ['Offsets', 'number'], ['Watermark', 'number wide'], ['An event that comes now', '']],
        found.partitions.map((line) => partitionRow(line, found))),
      found.pages.length > 0 ? el('p', { class: 'muted' }, `${number(found.urls)} page${found.urls === 1 ? '' : 's'}, most of all ${found.pages[0][0]} with ${number(found.pages[0][1])}.`) : null,
      found.sample.length > 0 ? el('details', { open: sample }, el('summary', {}, `${found.sample.length === 1 ? 'One' : found.sample.length} of its rows`),
        table('Some rows of clickstream_events', [['Happened', 'fixed'], ['Reached Kafka', 'fixed wide'], ['Partition @ offset', 'number'], ['Page', 'text']],
          found.sample.map((row) => [time(row.eventTs), dateTime(row.receivedAt), `${row.partition} @ ${number(row.offset)}`, row.url]))) : null);
  }
}

const fact = (name, value, text, style = '') => el('div', { class: `fact ${style}` }, el('h3', {}, name), el('p', { class: 'value' }, value), el('p', { class: 'muted' }, text));

const countFact = (found, size) => {
  const late = found.partitions.reduce((sum, line) => sum + (line.late ?? 0), 0);
  let text = `${number(found.rows)} rows in clickstream_events: the same`;
  if (found.rows === null) text = `its rows could not be counted: ${found.rowsUnavailable}`;
  else if (found.rows === 0 && found.hits > 0) text = 'its rows are past their retention; the count stays';
  else if (found.rows !== found.hits) text = `${number(found.rows)} rows in clickstream_events: not the same, run an audit`;
  if (late > 0) text += found.merges ? `; ${number(late)} of them came late` : `; ${number(late)} more rows are marked late`;
  return fact(`Events in this ${windowName(size)}`, number(found.hits), text);
};

const finalFact = (found) => {
  if (found.isFinal) return fact('Finality', 'final', `no event that is on time is expected any more (final until ${minute(found.finalUntil)})`);
  const open = found.partitions.filter((line) => line.standing.is === 'open');
  const left = Math.max(0, ...open.map((line) => line.standing.left));
  const grace = found.lateness === null ? '' : `; ${duration(found.lateness / 1000)} of grace, watermark ${duration(found.delay / 1000)} behind`;
  return fact('Finality', 'still open', open.length > 0 ? `event time has to move on by ${duration(left / 1000)}${grace}` : 'final_until has not come here yet');
};

const whoFact = (found) => fact('Visitors and sessions', `${number(found.visitors)} · ${number(found.sessions)}`, 'distinct, estimated to within some 2 %');

const partitionRow = (line, found) => [
  String(line.partition),
  number(line.hits),
  number(line.rows),
  line.firstOffset === null ? '–' : `${number(line.firstOffset)} – ${number(line.lastOffset)}`,
  line.watermark === null ? '–' : time(line.watermark),
  verdict(line, found),
];

const verdict = (line, found) => {
  if (line.standing.is === 'closed') return 'would be late';
  if (line.standing.is === 'open') return `would count (for ${duration(line.standing.left / 1000)} of event time${line.idle ? '; idle' : ''})`;
  return found.delay === null ? 'not known' : 'would count: no clock yet';
};

// Bars of the last sixty windows. One of them can have the focus (arrow keys, Home, End), Enter or a click chooses it.
import { el, setAttributes, setText, show, svg, table } from './dom.js';
import { compact, minute, number, windowName } from './format.js';

const SLOTS = 60;
const LEFT = 52;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 24;

// The next round number: what three grid lines can be labelled with.
const ceiling = (value) => {
  if (value <= 4) return 4;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find((step) => step * size >= value && Number.isInteger((step * size) / 2)) * size || 10 * size;
};

export class Chart {
  constructor(host, readout, tableHost, choose) {
    this.host = host;
    this.readout = readout;
    this.tableHost = tableHost;
    this.choose = choose;
    this.bars = new Map();
    this.windows = [];
    this.current = null;
    this.selected = null;
    this.hovered = null;
    this.picture = svg('svg', { role: 'group', 'aria-label': 'Events per minute; arrow keys move between the bars, Enter explains one' });
    this.grid = svg('g', { class: 'grid', 'aria-hidden': 'true' });
    this.plot = svg('g', {});
    this.empty = el('p', { class: 'empty', hidden: true }, 'No events yet. The first minute appears here with its first event.');
    this.picture.append(this.grid, this.plot);
    host.append(this.picture, this.empty);
    this.picture.addEventListener('keydown', (event) => this.key(event));
    this.picture.addEventListener('pointerleave', () => this.hover(null));
    tableHost.addEventListener('toggle', () => this.writeTable());
    new ResizeObserver(() => this.draw()).observe(host);
  }

  update(traffic) {
    this.size = traffic.window;
    this.clock = traffic.clock;
    this.windows = traffic.windows.map(([start, hits, visitors, sessions, isFinal]) => ({ start, hits, visitors, sessions, isFinal: isFinal === 1 }));
    this.draw();
    this.writeTable();
  }

  // The newest window that event time has left behind.
  lastComplete() {
    return this.windows.findLast((window) => window.start + this.size <= this.clock) ?? null;
  }

  draw() {
    const width = this.host.clientWidth;
    const height = this.host.clientHeight;
    if (!width || !this.size) return;
    setAttributes(this.picture, { viewBox: `0 0 ${width} ${height}`, width, height });
    this.empty.hidden = this.windows.length > 0;
    this.host.classList.toggle('bare', this.windows.length === 0);
    const newest = this.clock === null ? 0 : Math.floor(this.clock / this.size) * this.size;
    const end = Math.max(newest, this.windows.at(-1)?.start ?? 0);
    const first = end - (SLOTS - 1) * this.size;
    const shown = this.windows.filter((window) => window.start >= first);
    // a little room above the highest bar
    const top = ceiling(Math.max(1, 1.08 * Math.max(0, ...shown.map((window) => window.hits))));
    const floor = height - BOTTOM;
    const step = (width - LEFT - RIGHT) / SLOTS;
    const x = (start) => LEFT + ((start - first) / this.size) * step;
    const y = (hits) => floor - (hits / top) * (floor - TOP);
    this.drawGrid({ width, floor, top, first, x, y, step });
    const gap = Math.min(3, Math.max(1, step * 0.2));
    for (const [start, bar] of this.bars) {
      if (start < first || !shown.some((window) => window.start === start)) {
        if (bar.node === document.activeElement) this.refocus = true;
        bar.node.remove();
        this.bars.delete(start);
      }
    }
    if (!this.bars.has(this.current)) this.current = shown.at(-1)?.start ?? null;
    for (const window of shown) {
      const bar = this.bars.get(window.start) ?? this.add(window.start);
      bar.window = window;
      const barTop = window.hits > 0 ? Math.min(y(window.hits), floor - 1.5) : floor;
      setAttributes(bar.area, { x: x(window.start), y: TOP, width: step, height: floor - TOP });
      setAttributes(bar.rect, { x: x(window.start) + gap / 2, y: barTop, width: step - gap, height: floor - barTop, rx: Math.min(2, step / 6) });
      setAttributes(bar.node, {
        class: `bar ${window.isFinal ? 'final' : 'open'}`,
        tabindex: window.start === this.current ? 0 : -1,
        'aria-label': this.describe(window),
        'aria-pressed': window.start === this.selected,
      });
    }
    if (this.refocus && this.current !== null) this.bars.get(this.current)?.node.focus();
    this.refocus = false;
    this.writeReadout();
  }

  drawGrid({ width, floor, top, first, x, y, step }) {
    const empty = this.windows.length === 0;
    const lines = (empty ? [0] : [0, top / 2, top]).map((value) => svg('g', {},
      svg('line', { x1: LEFT, x2: width - RIGHT, y1: Math.round(y(value)) + 0.5, y2: Math.round(y(value)) + 0.5 }),
      svg('text', { x: LEFT - 8, y: y(value) + 4, 'text-anchor': 'end' }, empty ? '' : compact(value))));
    const labels = [];
    const every = [5, 10, 15, 20, 30].find((count) => count * step >= 58) ?? 30;
    for (let start = first; start < first + SLOTS * this.size; start += this.size) {
      const centre = x(start) + step / 2;
      if ((start / this.size) % every === 0 && centre > LEFT + 14 && centre < width - RIGHT - 14) {
        labels.push(svg('text', { x: centre, y: floor + 17, 'text-anchor': 'middle' }, minute(start, this.size)));
      }
    }
    show(this.grid, ...lines, ...(empty ? [] : labels));
  }

  add(start) {
    const area = svg('rect', { class: 'area' });
    const rect = svg('rect', { class: 'value' });
    const node = svg('g', { role: 'button' }, area, rect);
    node.addEventListener('click', () => this.activate(start));
    node.addEventListener('pointerenter', () => this.hover(start));
    node.addEventListener('focus', () => this.hover(start));
    node.addEventListener('blur', () => this.hover(null));
    const bar = { node, area, rect };
    this.bars.set(start, bar);
    // in the order of time, also for screen readers
    const next = [...this.bars.keys()].filter((other) => other > start).sort((a, b) => a - b)[0];
    this.plot.insertBefore(node, next === undefined ? null : this.bars.get(next).node);
    return bar;
  }

  describe(window) {
    return `${minute(window.start, this.size)}, ${number(window.hits)} events, ${number(window.visitors)} visitors, ${number(window.sessions)} sessions, ${window.isFinal ? 'final' : 'still open'}`;
  }

  hover(start) {
    this.hovered = start;
    this.writeReadout();
  }

  writeReadout() {
    const window = this.bars.get(this.hovered)?.window ?? this.windows.at(-1);
    setText(this.readout, window ? this.describe(window).replaceAll(', ', ' · ') : '');
  }

  select(start) {
    this.selected = start;
    this.draw();
  }

  activate(start) {
    this.current = start;
    this.choose(start);
  }

  key(event) {
    const starts = [...this.bars.keys()].sort((a, b) => a - b);
    const at = starts.indexOf(this.current);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: starts.length - 1, PageUp: at - 10, PageDown: at + 10 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.current = starts[Math.max(0, Math.min(starts.length - 1, to))];
      this.draw();
      this.bars.get(this.current)?.node.focus();
    } else if ((event.key === 'Enter' || event.key === ' ') && this.current !== null) {
      event.preventDefault();
      this.activate(this.current);
    }
  }

  focusSelected() {
    this.bars.get(this.current)?.node.focus();
  }

  writeTable() {
    if (!this.tableHost.open || !this.size) return;
    const columns = [['Begins', ''], ['Events', 'number'], ['Visitors', 'number'], ['Sessions', 'number'], ['State', '']];
    const rows = this.windows.toReversed().map((window) => [
      minute(window.start, this.size), number(window.hits), number(window.visitors), number(window.sessions), window.isFinal ? 'final' : 'still open',
    ]);
    show(this.tableHost.querySelector('.rows'), table(`Events per ${windowName(this.size)}, newest first`, columns, rows));
  }
}

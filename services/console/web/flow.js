// Where each record went: one stream that parts into four, and the sum that proves it.
import { el, show, svg } from './dom.js';
import { number, rate, share } from './format.js';

const NAMES = {
  accepted: 'accepted',
  duplicate: 'duplicate',
  rejected: 'rejected',
  late: 'late',
};
// Height of the whole stream, and what each branch needs for its two lines of text.
const STREAM = 116;
const SLOT = 46;
const NODE = 8;

export class Flow {
  constructor(host) {
    this.host = host;
    this.picture = el('div', { class: 'flow' });
    this.sum = el('div', { class: 'sum' });
    host.append(this.picture, this.sum);
    new ResizeObserver(() => this.draw()).observe(host);
  }

  update(flow) {
    this.flow = flow;
    this.draw();
  }

  draw() {
    const { flow } = this;
    const width = this.host.clientWidth;
    if (!flow || !width) return;
    const all = flow.consumed.total;
    if (all === 0) {
      show(this.picture, el('p', { class: 'empty' }, 'Nothing has been read yet.'));
      show(this.sum);
      return;
    }
    // a branch with anything in it can be seen, however thin it would be
    const branches = flow.parts.map((part) => ({
      ...part,
      thickness: part.total > 0 ? Math.max(2, (STREAM * part.total) / Math.max(1, all)) : 0,
    }));
    const narrow = width < 420;
    const left = narrow ? 78 : 112;
    const right = width - (narrow ? 146 : 168);
    let y = 8;
    let stream = 0;
    const placed = branches.map((branch, at) => {
      const slot = Math.max(SLOT, branch.thickness + 12);
      const place = { ...branch, from: stream, to: y + (at === 0 ? 0 : (slot - branch.thickness) / 2), middle: y + (at === 0 ? Math.max(branch.thickness / 2, 16) : slot / 2) };
      y += slot;
      stream += branch.thickness;
      return place;
    });
    const height = y + 4;
    const base = 8;
    const curve = (x1, y1, x2, y2) => `C ${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;
    const ribbons = placed.filter((branch) => branch.thickness > 0).map((branch) => {
      const [a, b, t] = [base + branch.from, branch.to, branch.thickness];
      return svg('path', {
        class: `ribbon ${branch.name}`,
        d: `M ${left + NODE} ${a} ${curve(left + NODE, a, right, b)} L ${right} ${b + t} ${curve(right, b + t, left + NODE, a + t)} Z`,
      });
    });
    const ends = placed.map((branch) => svg('g', { class: branch.name },
      svg('rect', { class: 'node', x: right, y: branch.thickness > 0 ? branch.to : branch.middle - 1, width: NODE, height: Math.max(2, branch.thickness), rx: 1.5 }),
      svg('text', { x: right + NODE + 10, y: branch.middle - 3 }, svg('tspan', { class: 'name' }, NAMES[branch.name]), svg('tspan', { class: 'share', dx: 6 }, share(branch.total, all))),
      svg('text', { class: 'total', x: right + NODE + 10, y: branch.middle + 14 }, number(branch.total), narrow ? null : svg('tspan', { class: 'share', dx: 6 }, rate(branch.rate)))));
    const source = svg('g', { class: 'source' },
      svg('rect', { class: 'node', x: left, y: base, width: NODE, height: Math.max(2, stream), rx: 1.5 }),
      svg('text', { x: left - 10, y: base + Math.max(stream / 2, 16) - 3, 'text-anchor': 'end' }, svg('tspan', { class: 'name' }, 'read')),
      svg('text', { class: 'total', x: left - 10, y: base + Math.max(stream / 2, 16) + 14, 'text-anchor': 'end' }, number(all)),
      svg('text', { class: 'share', x: left - 10, y: base + Math.max(stream / 2, 16) + 31, 'text-anchor': 'end' }, rate(flow.consumed.rate)));
    show(this.picture, svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, 'aria-hidden': 'true' }, ...ribbons, source, ...ends));
    this.drawSum(all);
  }

  drawSum(all) {
    const { flow } = this;
    const parts = flow.parts.map((part) => `${number(part.total)} ${NAMES[part.name]}`).join(' + ');
    const holds = flow.difference === 0;
    const more = [
      flow.skipped > 0 ? `${number(flow.skipped)} without a value (outside the sum)` : null,
      flow.expired > 0 ? `${number(flow.expired)} accepted rows dropped by retention since` : null,
      flow.revised > 0 ? `${number(flow.revised)} came to a window that was final` : null,
    ].filter(Boolean);
    show(this.sum,
      el('p', { class: 'equation' }, `${number(all)} read = ${parts}`),
      el('p', { class: holds ? 'holds' : 'broken' }, holds ? '✓ adds up' : `✗ ${number(Math.abs(flow.difference))} records are unaccounted for: run an audit`),
      more.length > 0 ? el('p', { class: 'muted' }, more.join(' · ')) : null);
  }
}

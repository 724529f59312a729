// Listens to the console and hands each section to its panel.
import { Chart } from './chart.js';
import { byId, setText } from './dom.js';
import { Explain } from './explain.js';
import { Flow } from './flow.js';
import { latency, minute, number, time, windowName } from './format.js';
import { cleaned, deadLetters, pages, partitions, tiles } from './panels.js';

const STALE_MILLIS = 8000;
const SUMMARY_MILLIS = 60_000;
const SECTIONS = ['sources', 'traffic', 'flow', 'partitions', 'pages', 'latency', 'deadLetters', 'cleaned'];

const state = {};
const explain = new Explain(() => {
  chart.select(null);
  chart.focusSelected();
});
const chart = new Chart(byId('chart'), byId('readout'), byId('chart-table'), (start) => {
  chart.select(start);
  explain.open(start, state.traffic.window);
});
const flow = new Flow(byId('flow'));
state.chart = chart;
let heardAt = Date.now();
let source = null;
let summedUpAt = 0;
let pending = false;

const draw = {
  traffic: (section) => {
    setText(byId('traffic-title'), `Events per ${windowName(section.window)}`);
    chart.update(section);
  },
  flow: (section) => section && flow.update(section),
  pages,
  partitions: (section) => partitions(section, state.sources),
  deadLetters: (section) => deadLetters(section, state.sources),
  cleaned: (section) => cleaned(section, state.sources),
  latency: () => {},
  sources: (section) => {
    setText(byId('pipeline'), section.pipeline ?? '');
    setText(byId('version'), `console ${section.version}`);
    if (state.partitions) partitions(state.partitions, section);
    explain.refresh();
  },
};

const summary = () => {
  const last = chart.lastComplete();
  if (!last || document.hidden) return '';
  const lag = state.partitions?.lag ?? null;
  return `${minute(last.start, chart.size)}: ${number(last.hits)} events, lag ${lag === null ? 'not known' : number(lag)}, half of them visible within ${latency(state.latency?.p50)}.`;
};

// Several sections come with one snapshot: what needs all of them is drawn once.
const settle = () => {
  pending = false;
  tiles(state);
  judge();
  if (Date.now() - summedUpAt >= SUMMARY_MILLIS && summary() && state.sources?.database.error === null) {
    summedUpAt = Date.now();
    setText(byId('summary'), summary());
  }
};

const say = (name, text, banner = '') => {
  byId('state').dataset.state = name;
  setText(byId('state-text'), text);
  const node = byId('banner');
  setText(node, banner);
  node.hidden = banner === '';
};

const judge = () => {
  const database = state.sources?.database;
  const good = database?.goodAt ? `the last good data, of ${time(database.goodAt)}, is shown` : 'there is no data yet';
  if (Date.now() - heardAt > STALE_MILLIS || source?.readyState !== EventSource.OPEN) {
    if (!database) return say('connecting', 'Connecting');
    return say('away', 'No connection', `The console does not answer; ${good}. Trying again.`);
  }
  if (!database) return say('connecting', 'Connecting');
  if (database.error !== null) return say('away', 'PostgreSQL is away', `PostgreSQL: ${database.error}; ${good}. Trying again every second.`);
  const { count, records } = state.sources.gaps;
  if (count > 0) return say('live', 'Live', `Kafka dropped ${number(records)} record${records === 1 ? '' : 's'} before they were read: see clickstream_gaps.`);
  return say('live', 'Live');
};

const hear = (name, text) => {
  heardAt = Date.now();
  state[name] = JSON.parse(text);
  draw[name](state[name]);
  if (!pending) {
    pending = true;
    requestAnimationFrame(settle);
  }
};

const connect = () => {
  source = new EventSource('/events');
  for (const name of SECTIONS) source.addEventListener(name, (event) => hear(name, event.data));
  source.addEventListener('error', () => {
    judge();
    // the browser tries again by itself, unless it was refused
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 2000);
  });
};

const again = async () => {
  try {
    const answer = await fetch('/', { cache: 'no-store' });
    if (answer.status === 401) {
      location.reload();
      return;
    }
  } catch {
    // still away
  }
  connect();
};

const offerLogout = async () => {
  const button = byId('logout');
  const session = await fetch('/api/session', { cache: 'no-store' });
  button.hidden = !session.ok || !(await session.json()).logout;
  button.addEventListener('click', async () => {
    await fetch('/logout', { method: 'POST' });
    location.reload();
  });
};

setInterval(judge, 1000);
connect();
// without it the page is as good
offerLogout().catch(() => {});

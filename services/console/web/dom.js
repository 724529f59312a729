// Elements are made of text and attributes only: whatever a stranger wrote into the tables stays text.
const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
};

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Touches the page only where something differs: screen readers and selections stay where they are.
export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

export const setAttributes = (node, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    const text = String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
};

// A table: columns are [heading, class or ''], rows are lists of strings or nodes.
export const table = (caption, columns, rows) =>
  el('table', {},
    el('caption', { class: 'unseen' }, caption),
    el('thead', {}, el('tr', {}, columns.map(([heading, style]) => el('th', { scope: 'col', class: style || null }, heading)))),
    el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, at) => el('td', { class: columns[at][1] || null }, cell))))));

// Replaces the content unless it would look the same.
export const show = (node, ...children) => {
  const fresh = el('div', {}, ...children);
  const same = fresh.childNodes.length === node.childNodes.length
    && [...fresh.childNodes].every((child, at) => child.isEqualNode(node.childNodes[at]));
  if (!same) node.replaceChildren(...fresh.childNodes);
};

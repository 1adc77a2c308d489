// Elements, and the replacement of a drawn view by the next.
//
// Text from outside becomes a text node or an attribute's value: this page never parses HTML.

/** An HTML element. An attribute that is null or false is left out; `on…` is a handler. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  const there = (child) => child !== null && child !== undefined && child !== false && child !== '';
  element.append(...children.flat(Infinity).filter(there));
  return element;
}

const HANDLERS = ['onclick', 'onsubmit', 'onchange', 'oninput', 'onkeydown', 'onpointermove',
  'onpointerleave'];

/**
 * Makes `live` look like `fresh`, and keeps each of its elements that has a counterpart. So focus,
 * selected text and typed text survive a new drawing.
 *
 * Children with a `data-key` are matched by it, others by their order.
 */
export function morph(live, fresh) {
  morphAttributes(live, fresh);
  const keys = new Set(Array.from(fresh.children, keyOf));
  const keyed = new Map();
  for (const child of [...live.children]) {
    const key = keyOf(child);
    if (key && !keys.has(key)) child.remove();
    else if (key) keyed.set(key, child);
  }
  let at = live.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = keyOf(child);
    const match = key ? keyed.get(key) : at;
    if (!match || !alike(match, child)) {
      live.insertBefore(child, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else live.insertBefore(match, at);
    if (match.nodeType === Node.ELEMENT_NODE) morph(match, child);
    else if (match.data !== child.data) match.data = child.data;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function morphAttributes(live, fresh) {
  // The reader opens and closes details.
  const own = live.localName === 'details' ? 'open' : null;
  for (const name of live.getAttributeNames()) {
    if (name !== own && !fresh.hasAttribute(name)) live.removeAttribute(name);
  }
  for (const name of fresh.getAttributeNames()) {
    const value = fresh.getAttribute(name);
    if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  }
  for (const name of HANDLERS) live[name] = fresh[name];
}

function keyOf(node) {
  return node.dataset?.key;
}

function alike(one, other) {
  return one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

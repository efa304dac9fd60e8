// Elements made of text nodes only: what senders and other servers have said is shown, never read as HTML.

import { printable } from "./format.js";

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is no element becomes a text. */
export function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "click") element.addEventListener("click", value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null)
    .map((child) => child instanceof Node ? child : printable(String(child))));
  return element;
}

/** Changes a text only where it differs: nothing is laid out again for nothing. */
export function write(element, text) {
  const shown = printable(String(text));
  if (element.textContent !== shown) element.textContent = shown;
}

/** A cell: a text, or { text, class, title, nodes }; cells of the same place are used again, so that focus and selection stay. */
function setCell(cell, value) {
  const { text, class: kind = "", title, nodes } = typeof value === "object" && value !== null ? value : { text: value };
  if (cell.className !== kind) cell.className = kind;
  if (title) { if (cell.title !== printable(title)) cell.title = printable(title); } else if (cell.title) cell.removeAttribute("title");
  if (nodes) {
    // Buttons are kept as long as they would do the same.
    const key = nodes.key;
    if (cell.dataset.key !== key) { cell.replaceChildren(...nodes.make()); cell.dataset.key = key; }
    if (nodes.update) nodes.update(cell);
    return;
  }
  if (cell.dataset.key) { delete cell.dataset.key; cell.replaceChildren(); }
  write(cell, text ?? "");
}

/** Rows of a table: [{ cells, class }]; `empty` stands there when there is none. */
export function fill(table, rows, empty = "none") {
  const body = table.tBodies[0];
  const columns = table.tHead.rows[0].cells.length;
  if (rows.length === 0) {
    if (body.rows.length === 1 && body.rows[0].cells[0].colSpan === columns && body.textContent === empty) return;
    body.replaceChildren(make("tr", {}, make("td", { class: "empty", colspan: columns }, empty)));
    return;
  }
  if (body.rows.length > 0 && body.rows[0].cells.length === 1 && columns > 1) body.replaceChildren();
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, index) => {
    const line = body.rows[index] ?? body.insertRow();
    if (line.className !== (row.class ?? "")) line.className = row.class ?? "";
    row.cells.forEach((value, at) => setCell(line.cells[at] ?? line.insertCell(), value));
  });
}

/** Names and values of a <dl>: [[name, value, class, note]]. */
export function pairs(list, entries) {
  while (list.children.length > entries.length) list.lastElementChild.remove();
  entries.forEach(([name, value, kind = "", note], index) => {
    let box = list.children[index];
    if (!box) { box = make("div", {}, make("dt"), make("dd")); list.append(box); }
    const [term, detail] = box.children;
    write(term, name);
    if (detail.className !== kind) detail.className = kind;
    const [number, unit] = Array.isArray(value) ? value : [value, ""];
    if (!detail.firstChild) detail.append(document.createTextNode(""), make("small"));
    if (detail.firstChild.data !== printable(String(number))) detail.firstChild.data = printable(String(number));
    write(detail.lastElementChild, unit);
    let below = box.children[2];
    if (note !== undefined && !below) { below = make("dd", { class: "note" }); box.append(below); }
    if (below) write(below, note ?? "");
  });
}

/** Says a sentence to those who listen to the page. */
export function tell(sentence) { write(byId("told"), sentence); }

/** Asks before something is done; true when it is meant. */
export function ask(title, text, yes) {
  const dialog = byId("ask");
  write(byId("ask-title"), title);
  write(byId("ask-text"), text);
  write(byId("ask-yes"), yes);
  return new Promise((resolve) => {
    const end = (answer) => { dialog.close(); resolve(answer); };
    byId("ask-yes").onclick = () => end(true);
    byId("ask-no").onclick = () => end(false);
    dialog.oncancel = (event) => { event.preventDefault(); end(false); };
    dialog.showModal();
    // Whoever only presses Enter has changed nothing.
    byId("ask-no").focus();
  });
}

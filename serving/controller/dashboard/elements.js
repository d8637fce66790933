// Builds and updates the page. Data only ever becomes text; nodes are kept, so that an update takes
// neither focus nor selection nor the place that was scrolled to.

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") node.textContent = value;
    else if (name === "className") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, className) {
  if (node.className !== className) node.className = className;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Children of `parent` become one node per item, in this order, those with a known key kept.
export function keyed(parent, items, { key, create, update }) {
  const held = document.activeElement;
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const wanted = new Set(items.map((item) => String(key(item))));
  for (const [name, node] of known) if (!wanted.has(name)) node.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = known.get(name);
    if (node === undefined) {
      node = create(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  // A row that is moved loses the focus of what is in it.
  if (held !== document.activeElement && parent.contains(held)) held.focus({ preventScroll: true });
}

// columns: {id, title, kind?, sort?, text?(row), className?(row), hint?(row), fill?(cell, row)}
export function fillTable(table, columns, rows, { key, sorted = null }) {
  if (table.tHead === null) buildHead(table, columns);
  for (const [index, column] of columns.entries()) {
    const head = table.tHead.rows[0].cells[index];
    if (!column.sort) continue;
    const isSorted = sorted !== null && sorted.by === column.sort;
    setAttribute(head, "aria-sort", isSorted ? `${sorted.order}ending` : null);
  }
  const body = table.tBodies[0];
  keyed(body, rows, {
    key,
    create: () => make("tr", {}, ...columns.map(newCell)),
    update: (line, row) => {
      columns.forEach((column, index) => fillCell(line.cells[index], column, row));
    },
  });
  table.closest(".scroll").hidden = rows.length === 0;
}

function buildHead(table, columns) {
  const line = make("tr");
  for (const column of columns) {
    const head = make("th", { scope: "col", className: column.kind || "" });
    if (column.sort) {
      const properties = { type: "button", className: "sort", text: column.title };
      head.append(make("button", { ...properties, "data-sort": column.sort }));
    } else head.textContent = column.title;
    if (column.about) head.title = column.about;
    line.append(head);
  }
  table.createTHead().append(line);
  if (table.tBodies.length === 0) table.createTBody();
}

function newCell(column) {
  return column.isHead ? make("th", { scope: "row" }) : make("td");
}

function fillCell(cell, column, row) {
  const more = column.className ? column.className(row) : "";
  setClass(cell, [column.kind, more].filter(Boolean).join(" "));
  if (column.hint) setAttribute(cell, "title", column.hint(row) || null);
  if (column.fill) column.fill(cell, row);
  else setText(cell, column.text(row));
}

// A button in a cell that says the same for as long as its row is there.
export function fillButton(cell, text, properties) {
  let button = cell.querySelector("button");
  if (text === null) {
    if (button !== null) cell.replaceChildren();
    return;
  }
  if (button === null) {
    button = make("button", { type: "button", className: "link" });
    cell.replaceChildren(button);
  }
  if (button.textContent !== text) button.replaceChildren(...breakable(text));
  for (const [name, value] of Object.entries(properties)) setAttribute(button, name, value);
}

// A long name goes on in the next line after a slash rather than anywhere.
function breakable(text) {
  return text.split("/").flatMap((part, index, parts) => (
    index < parts.length - 1 ? [`${part}/`, make("wbr")] : [part]));
}

export function fillList(list, texts) {
  keyed(list, texts, {
    key: (text) => text,
    create: (text) => make("li", { text }),
    update: () => {},
  });
}

export function showOptions(select, options) {
  keyed(select, options, {
    key: ([value]) => value,
    create: ([value, text]) => make("option", { value, text }),
    update: (node, [, text]) => setText(node, text),
  });
}

// What went wrong in one panel; null: nothing. What the panel shows stays.
export function showFailure(section, text) {
  const place = section.querySelector(".failure");
  place.hidden = text === null;
  setText(place, text === null ? "" : `${text} What is below may be old.`);
}

// What is being looked at, in the address after #: a link or a reload shows the same.

const DEFAULTS = {
  window: "1h", log: "1", goal: "miss_ratio:5", span: "3600", engine: "",
  search: "", sort: "requests", order: "desc", rows: "25", page: "1", adapter: "",
};
const listeners = new Set();

function parse() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) {
    if (given.has(name)) state[name] = given.get(name);
  }
  return state;
}

let state = parse();

export function get(name) {
  return state[name];
}

export function set(changes) {
  const names = Object.keys(changes).filter((name) => state[name] !== changes[name]);
  if (names.length === 0) return;
  state = { ...state, ...changes };
  const shown = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  const fragment = new URLSearchParams(shown).toString();
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  tell(names);
}

// listener(names of what changed)
export function onChange(listener) {
  listeners.add(listener);
}

function tell(names) {
  for (const listener of listeners) listener(names);
}

window.addEventListener("hashchange", () => {
  const before = state;
  state = parse();
  tell(Object.keys(DEFAULTS).filter((name) => state[name] !== before[name]));
});

// A select, checkbox or number that shows one entry and changes it.
export function bind(input, name, { onEvent = "change", toState, toInput } = {}) {
  const isBox = input.type === "checkbox";
  const show = () => {
    const value = toInput ? toInput(state[name]) : state[name];
    if (isBox) input.checked = value === "1";
    else if (input.value !== value) input.value = value;
  };
  input.addEventListener(onEvent, () => {
    const value = isBox ? (input.checked ? "1" : "0") : input.value;
    set({ [name]: toState ? toState(value) : value });
  });
  onChange((names) => names.includes(name) && show());
  show();
}

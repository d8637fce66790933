// The switch that keeps hot adapters in their slots, and which ones it wishes for just now.
import { put } from "./api.js";
import { byId, keyed, make, setAttribute, setText, showFailure } from "./elements.js";
import { plural } from "./notation.js";

export const section = byId("slots");
const buttons = [...section.querySelectorAll("[data-mode]")];
const MAX_NAMES = 40;
const EXPLAINED = {
  auto: "auto: engines keep the hot adapters in their slots, as long as no batch needs the place.",
  off: "off: every slot goes by LRU alone.",
};

export function start() {
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.mode));
}

async function choose(mode) {
  try {
    show(await put("/v1/capacity/residency", { mode }));
    showFailure(section, null);
  } catch (error) {
    showFailure(section, error.message);
  }
}

// residency: as GET /v1/capacity has it.
export function show({ mode, wishes }) {
  for (const button of buttons) {
    setAttribute(button, "aria-pressed", String(button.dataset.mode === mode));
  }
  const entries = Object.entries(wishes).filter(([, names]) => names.length > 0).sort();
  const nothing = mode === "auto" ? " Nothing is hot enough to be kept: uniform or little traffic." : "";
  setText(byId("residency-said"), EXPLAINED[mode] + (entries.length === 0 ? nothing : ""));
  keyed(byId("wishes"), entries, {
    key: ([engine]) => engine,
    create: () => make("div", {}, make("dt"), make("dd")),
    update: (node, [engine, names]) => {
      setText(node.children[0], `${engine}: ${plural(names.length, "adapter", "adapters")}`);
      keyed(node.children[1], names.slice(0, MAX_NAMES), {
        key: (name) => name,
        create: (name) => make("code", { text: name, className: "chip" }),
        update: () => {},
      });
    },
  });
}

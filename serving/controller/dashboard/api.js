// The API with the token that was entered. A token goes into a header, never into an address.

const TOKEN = "loraplane-token";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  get isRefused() {
    return this.status === 401 || this.status === 403;
  }
}

export const token = {
  keep: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
  isKnown: () => sessionStorage.getItem(TOKEN) !== null,
};

async function ask(path, { method = "GET", accept = "application/json", body, signal } = {}) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}`, Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The controller does not answer.", null);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response) {
  let detail = `The controller answered ${response.status}.`;
  try {
    const body = await response.json();
    detail = body.detail || body.title || detail;
    const places = (body.errors || []).map((place) => place.title).filter(Boolean);
    if (places.length > 0) detail = `${detail} ${places.join("; ")}`;
  } catch {
    // Something in between answered: its status is all there is.
  }
  return new ApiError(detail, response.status);
}

export async function read(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== "");
  const query = new URLSearchParams(given).toString();
  return (await ask(query ? `${path}?${query}` : path)).json();
}

export async function put(path, body) {
  return (await ask(path, { method: "PUT", body })).json();
}

// Rows of the audit as they are written; ends when the signal or the controller ends it.
export async function follow(path, { signal, onOpen, onEvent }) {
  const response = await ask(path, { accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  onOpen();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: "));
      if (data.length > 0) onEvent(JSON.parse(data.map((line) => line.slice(6)).join("\n")));
    }
  }
}

export function pathOfAdapter(tenant, adapter) {
  return `/v1/tenants/${encodeURIComponent(tenant)}/adapters/${encodeURIComponent(adapter)}`;
}

// A plain link cannot send the token, so the page is fetched and shown from memory.
export async function openReport({ tenant, adapter, version }) {
  const tab = window.open("", "_blank");
  if (tab === null) throw new ApiError("The browser did not open a new tab.", null);
  try {
    const path = `${pathOfAdapter(tenant, adapter)}/versions/${version}/report`;
    const response = await ask(path, { accept: "text/html" });
    const page = new Blob([await response.text()], { type: "text/html;charset=utf-8" });
    const address = URL.createObjectURL(page);
    tab.location.replace(address);
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (error) {
    tab.close();
    throw error;
  }
}

// Requests to the server that this page came from. The token, where one is asked for, stays in this tab.

const KEPT = "inrush-token";

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

const token = () => sessionStorage.getItem(KEPT);
export const keepToken = (value) => sessionStorage.setItem(KEPT, value);
export const forgetToken = () => sessionStorage.removeItem(KEPT);

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  const response = await fetch(`/api/v1/${path}`, { cache: "no-store", credentials: "omit", redirect: "error", ...options, headers });
  if (response.ok) return response;
  const text = await response.text();
  let why = text.trim();
  try { why = JSON.parse(text).error ?? why; } catch { /* a plain sentence */ }
  throw new Refused(response.status, why || String(response.status));
}

const query = (parameters) => {
  const text = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, value]) => value !== undefined && value !== "")).toString();
  return text ? `?${text}` : "";
};

export const read = async (path, parameters) => (await request(path + query(parameters))).json();
export const change = async (path, parameters) =>
  (await request(path + query(parameters), { method: "POST", headers: { "X-Inrush": "1" } })).json();

/**
 * The events of a stream, one call each, until it ends. `fetch` and not EventSource: only it can carry a token.
 * Standards: HTML, "Server-sent events", 9.2.6 (interpreting an event stream).
 */
export async function stream(path, signal, onEvent) {
  const response = await request(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = { name: "message", data: [] };
      for (const line of rest.slice(0, end).split("\n")) {
        const [field, ...behind] = line.split(":");
        const text = behind.join(":").replace(/^ /, "");
        if (field === "event") event.name = text;
        if (field === "data") event.data.push(text);
      }
      rest = rest.slice(end + 2);
      if (event.data.length > 0) onEvent(event.name, event.data.join("\n"));
    }
  }
}

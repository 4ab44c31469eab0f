/** Asks the engine. Every refusal becomes an Error with the engine's own sentence; a lost sign-in is told to everybody. */

const ROOT = "/api/v1";

/** The engine said no: `status` is HTTP's, 0 when nobody answered. */
export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const signedOut = new EventTarget();

/** The path of an entry with its query; empty values are left out. */
export function address(path, query = {}) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== "" && value !== null && value !== undefined) search.set(key, value);
  }
  const text = search.toString();
  return ROOT + path + (text ? `?${text}` : "");
}

/** The path of a call's entry. */
export function ofCall(callId, entry = "") {
  return `/calls/${encodeURIComponent(callId)}${entry}`;
}

/** The whole answer of a GET. Raises Refusal, or AbortError when `signal` has fired. */
export function get(path, query = {}, signal = undefined) {
  return ask(address(path, query), { signal });
}

/** The whole answer of a POST. Raises Refusal. */
export function post(path, body = {}, signal = undefined) {
  const headers = { "Content-Type": "application/json", "X-Patter": "page" };
  return ask(ROOT + path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refusal(0, "The engine cannot be reached.");
  }
  if (answer.status === 401) signedOut.dispatchEvent(new Event("signed-out"));
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, (body && body.error) || `The engine answered ${answer.status}.`);
  return body;
}

/** Whether an error only says that nobody waits for the answer any more. */
export function dropped(problem) {
  return problem.name === "AbortError";
}

// Keeps an open page current (the page itself works without this).
//
// The server says "change" or "tick" on /live (Server-Sent Events); the page then fetches itself and replaces those
// of its `data-live` regions that the server rendered differently than before. Focus, and which <details> a person
// opened or closed, stay as they were. While the tab is hidden nothing is fetched.

/** What the server sent for each region, by id: compared with what it sends next. @type {Map<string, string>} */
const served = new Map();
const regions = () => /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-live][id]"));
for (const region of regions()) served.set(region.id, region.outerHTML);

const sign = document.getElementById("live");
const say = document.getElementById("say");
/** @type {EventSource | null} */
let stream = null;
let busy = false;
let again = false;
let leaving = false;
let retry = 0;

/** @param {"on" | "lost"} state */
function show(state) {
  if (!sign || sign.dataset.liveState === state) return;
  sign.dataset.liveState = state;
  sign.textContent = state === "on" ? "Live: this page updates by itself." : "Connection lost. Trying again…";
}

/** @param {HTMLElement} old @param {Element} fresh */
function replace(old, fresh) {
  const node = /** @type {HTMLElement} */ (document.importNode(fresh, true));
  for (const box of /** @type {NodeListOf<HTMLDetailsElement>} */ (old.querySelectorAll("details[id]"))) {
    const same = node.querySelector(`#${CSS.escape(box.id)}`);
    if (same instanceof HTMLDetailsElement) same.open = box.open;
  }
  const focused = old.contains(document.activeElement) ? path(old, document.activeElement) : "";
  for (const wanted of node.querySelectorAll("[autofocus]")) wanted.removeAttribute("autofocus");
  old.replaceWith(node);
  const target = focused && node.querySelector(focused);
  if (target instanceof HTMLElement || target instanceof SVGElement) target.focus({ preventScroll: true });
}

/** A selector for the focused element inside its region. @param {Element} root @param {Element | null} element */
function path(root, element) {
  if (!element || element === root) return "";
  if (element.id) return `#${CSS.escape(element.id)}`;
  const href = element.getAttribute("href");
  if (href) return `a[href="${CSS.escape(href)}"]`;
  const box = element.closest("details[id]");
  return box && element.tagName === "SUMMARY" ? `#${CSS.escape(box.id)} > summary` : "";
}

async function refresh() {
  if (leaving || document.hidden) return;
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.href, {
      headers: { "TT-Refresh": "1" }, redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(20000),
    });
    if (leaving) return;
    if (answer.status === 401 || answer.type === "opaqueredirect") { leaving = true; location.reload(); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (leaving) return;
    apply(page);
    show("on");
  } catch {
    show("lost");
    clearTimeout(retry);
    retry = setTimeout(refresh, 5000);
  } finally {
    busy = false;
    if (again) { again = false; setTimeout(refresh, 500); }
  }
}

/** @param {Document} page */
function apply(page) {
  const fresh = /** @type {NodeListOf<HTMLElement>} */ (page.querySelectorAll("[data-live][id]"));
  const shape = (/** @type {Iterable<HTMLElement>} */ list) => [...list].map((r) => r.id).join(" ");
  if (shape(fresh) !== shape(regions())) {
    // Another state has other parts (the QR is gone, say): take the whole content.
    const main = document.getElementById("main");
    const other = page.getElementById("main");
    if (main && other) replace(main, other);
    for (const region of fresh) served.set(region.id, region.outerHTML);
  } else {
    for (const region of fresh) {
      const html = region.outerHTML;
      const old = document.getElementById(region.id);
      if (old && served.get(region.id) !== html) {
        served.set(region.id, html);
        replace(old, region);
      }
    }
  }
  const words = page.querySelector("[data-say]")?.getAttribute("data-say") ?? "";
  if (say && say.dataset.said !== words) {
    if (say.dataset.said !== undefined) say.textContent = words;
    say.dataset.said = words;
  }
}

function listen() {
  if (stream || leaving || regions().length === 0) return;
  stream = new EventSource("/live");
  stream.addEventListener("change", refresh);
  stream.addEventListener("tick", refresh);
  stream.addEventListener("end", () => { stop(); refresh(); });
  stream.addEventListener("open", () => { show("on"); refresh(); });
  stream.addEventListener("error", () => {
    show("lost");
    if (stream?.readyState === EventSource.CLOSED) { // refused: too many pages, or signed out. Ask by hand.
      stream = null;
      setTimeout(() => { refresh(); listen(); }, 5000);
    }
  });
}

function stop() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else { refresh(); listen(); }
});
addEventListener("online", refresh);
addEventListener("pagehide", () => { leaving = true; stop(); });
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// A form that was sent is not sent twice by an impatient hand (the server would not do it twice either).
document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
  setTimeout(() => delete form.dataset.sent, 10000); // the network was down: let them try again
});

if (!document.hidden) listen();

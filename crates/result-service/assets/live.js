// Makes pages follow what happens: they are refetched when the stream announces something, and only the parts
// that changed are exchanged. Filters search while one types, ages grow, keys move the focus. Every page works
// without this file. It never builds markup from data: all markup comes from the server.

const FILTER_DELAY = 200;
const REFRESH_DELAY = 250;
const AGE_EVERY = 30_000;

/* ---- parts of the page ---- */

let fetching;

/** Fetches `url` and exchanges the parts that differ. Returns whether it did; a newer call ends an older one. */
async function refresh(url) {
  fetching?.abort();
  const mine = (fetching = new AbortController());
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" }, signal: mine.signal });
    if (!answer.ok) return false;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine.signal.aborted) return false;
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.getElementById(part.id);
      if (other && other.innerHTML !== part.innerHTML) exchange(part, document.importNode(other, true));
    }
    return true;
  } catch (error) {
    if (error.name !== "AbortError") link(false);
    return false;
  }
}

function exchange(part, other) {
  const known = new Set([...part.querySelectorAll("[data-key]")].map((element) => element.dataset.key));
  const opened = new Map([...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]));
  const path = part.contains(document.activeElement) ? focusPath(part, document.activeElement) : null;
  for (const details of other.querySelectorAll("details[id]")) {
    if (opened.has(details.id)) details.open = opened.get(details.id);
  }
  if (known.size > 0) {
    for (const element of other.querySelectorAll("[data-key]")) {
      if (!known.has(element.dataset.key)) element.closest("tr")?.classList.add("fresh");
    }
  }
  part.replaceWith(other);
  if (path) focusAt(other, path)?.focus({ preventScroll: true });
  setOrigin(other);
}

/** How to find the focused element again: by its link, else by its id. */
function focusPath(part, element) {
  const href = element.getAttribute("href");
  if (!href) return { id: element.id };
  const same = [...part.querySelectorAll("a[href]")].filter((other) => other.getAttribute("href") === href);
  return { href, place: same.indexOf(element) };
}

function focusAt(part, path) {
  if (path.id) return document.getElementById(path.id);
  const same = [...part.querySelectorAll("a[href]")].filter((other) => other.getAttribute("href") === path.href);
  return same[path.place] ?? same[0];
}

/* ---- the stream of events ---- */

const { live, after } = document.body.dataset;
let position = after;
let stream;
let planned;

function link(connected) {
  const sign = document.getElementById("link");
  const words = connected ? "Live" : "Reconnecting …";
  sign.hidden = false;
  sign.classList.toggle("off", !connected);
  // A live region speaks when its text changes: only then.
  if (sign.textContent !== words) sign.textContent = words;
}

function concerns(event) {
  if (live === "all") return true;
  try {
    return JSON.parse(event.data).type.startsWith("dev.cdevents.testsuiterun.");
  } catch {
    return true;
  }
}

function listen() {
  if (stream || document.hidden) return;
  stream = new EventSource(`/api/v1/stream?after=${encodeURIComponent(position)}`);
  stream.addEventListener("open", () => link(true));
  stream.addEventListener("error", () => {
    link(false);
    // The browser comes back by itself, unless the answer was an error.
    if (stream?.readyState === EventSource.CLOSED) {
      stream = undefined;
      setTimeout(listen, 5_000);
    }
  });
  stream.addEventListener("cloudevent", (event) => {
    position = event.lastEventId || position;
    // Bursts make one refresh.
    if (concerns(event)) planned ??= setTimeout(catchUp, REFRESH_DELAY);
  });
}

async function catchUp() {
  await refresh(location.href);
  planned = undefined;
}

if (live !== undefined) {
  listen();
  // A browser opens few connections to one host: tabs that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return listen();
    stream?.close();
    stream = undefined;
  });
  addEventListener("pagehide", () => {
    stream?.close();
    stream = undefined;
  });
  addEventListener("pageshow", listen);
}

/* ---- filters ---- */

for (const form of document.querySelectorAll("form[data-filter]")) {
  let waiting;
  const submit = () => {
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value) url.searchParams.set(name, value);
    history.replaceState(null, "", url);
    refresh(url);
  };
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(submit, FILTER_DELAY);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    submit();
  });
}

/* ---- keys ---- */

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing) {
    const search = document.querySelector("form[data-filter] input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
  const bar = event.target.closest?.("a.bar");
  if (bar && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const bars = [...bar.parentNode.querySelectorAll("a.bar")];
    const next = bars[bars.indexOf(bar) + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) {
      event.preventDefault();
      bar.setAttribute("tabindex", "-1");
      next.removeAttribute("tabindex");
      next.focus();
    }
  }
});

/* ---- ages ---- */

/** The same words as the server's. */
function age(then) {
  const minutes = Math.floor((Date.now() - then) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 1_440) return `${Math.floor(minutes / 60)} h ago`;
  if (minutes < 2_880) return "1 day ago";
  if (minutes < 43_200) return `${Math.floor(minutes / 1_440)} days ago`;
  return undefined;
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const then = Date.parse(time.dateTime);
    // What lies in the future keeps the server's words.
    const words = then <= Date.now() ? age(then) : undefined;
    if (words && time.textContent !== words) time.textContent = words;
  }
}, AGE_EVERY);

/* ---- examples that name this service ---- */

function setOrigin(root) {
  for (const place of root.querySelectorAll("[data-origin]")) place.textContent = location.origin;
}

setOrigin(document);

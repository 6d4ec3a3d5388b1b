// Shows what the coordinator tells once a second. Text from outside is only ever set as text.
"use strict";

const THEMES = ["system", "light", "dark"];
const SILENT_MS_MAX = 5000;
const RETRY_MS = 2000;
const PHASE_TONES = {
  "running": "busy", "finished": "good", "finished-with-failures": "warn", "cancelled": "",
  "working": "busy", "idle": "", "draining": "warn", "left": "", "lost": "bad",
};

let latest = null;
let heardAt = null;
let source = null;
let lostSince = null;
let openedAt = performance.now();
const jobCards = new Map();
const workerRows = new Map();
const phasesSeen = new Map();

// ---- theme: before the first paint
function applyTheme(theme) {
  if (theme === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
}
function storedTheme() {
  try { return THEMES.includes(localStorage.theme) ? localStorage.theme : "system"; } catch { return "system"; }
}
applyTheme(storedTheme());

// ---- numbers for people
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const count = (n) => whole.format(n);
const rate = (n) => (n >= 1000 ? whole.format(n) : fine.format(n));
function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}
function bytes(n) {
  if (!n) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(n) / 3));
  return `${fine.format(n / 1000 ** power)} ${units[power]}`;
}
function money(amount, currency) {
  const digits = amount !== 0 && Math.abs(amount) < 1 ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `${new Intl.NumberFormat("en", digits).format(amount)} ${currency}`;
}
function clock(unixMs, nowMs) {
  const then = new Date(unixMs);
  const sameDay = then.toDateString() === new Date(nowMs).toDateString();
  const format = sameDay ? { hour: "2-digit", minute: "2-digit" } : { weekday: "short", hour: "2-digit", minute: "2-digit" };
  return then.toLocaleString("en-GB", format);
}
const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

// ---- page
const byId = (id) => document.getElementById(id);
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}
function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}
function badge(node, phase) {
  setText(node, phase.replaceAll("-", " "));
  setAttribute(node, "data-tone", PHASE_TONES[phase] ?? "");
}
/** Puts `nodes` under `parent` in order, moving only what is out of place, so focus stays. */
function arrange(parent, nodes) {
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
  while (parent.children.length > nodes.length) parent.lastElementChild.remove();
}
const done = (kind) => kind.committed;
const total = (kind) => kind.waiting + kind.ready + kind.leased + kind.cooling + kind.committed + kind.failed;

function showTiles(told) {
  const running = told.jobs.filter((job) => job.phase === "running");
  const kinds = told.jobs.flatMap((job) => job.kinds);
  setText(byId("tile-rate"), running.length ? rate(sum(running, (job) => job.history?.rows_per_second ?? 0)) : "–");
  const rows = sum(told.jobs, (job) => job.rows);
  setText(byId("tile-rows"), rows ? `${count(sum(told.jobs, (job) => job.rows_done))} of ${count(rows)} rows` : "");
  const units = sum(kinds, total);
  setText(byId("tile-units"), units ? `${count(sum(kinds, done))} / ${count(units)}` : "–");
  const givenUp = sum(kinds, (kind) => kind.failed);
  setText(byId("tile-units-note"), givenUp ? `${count(givenUp)} given up` : "none given up");
  const lefts = running.map((job) => job.eta_seconds).filter((s) => s !== null);
  const left = lefts.length ? Math.max(...lefts) : null;
  setText(byId("tile-left"), running.length === 0 && told.jobs.length ? "all over" : left === null ? "–" : duration(left));
  setText(byId("tile-end"), left === null ? "" : `ends about ${clock(told.coordinator.unix_ms + left * 1000, told.coordinator.unix_ms)}`);
  showWorkerTile(told);
  const losses = sum(told.jobs, (job) => job.cost.leases_expired + job.cost.leases_handed_back);
  setText(byId("tile-losses"), count(losses));
  const expired = sum(told.jobs, (job) => job.cost.leases_expired);
  setText(byId("tile-losses-note"), losses ? `${count(expired)} expired, ${count(losses - expired)} handed back` : "to spot and silence");
  const priced = told.jobs.filter((job) => job.cost.spent !== null);
  const currency = priced[0]?.cost.currency;
  const same = priced.filter((job) => job.cost.currency === currency);
  setText(byId("tile-spent"), priced.length ? money(sum(same, (job) => job.cost.spent), currency) : "–");
  const expected = same.every((job) => job.cost.estimated_total !== null);
  setText(byId("tile-spent-note"), !priced.length ? "no [cost] in the job file" : expected && running.length ? `of about ${money(sum(same, (job) => job.cost.estimated_total), currency)}` : "");
}
function showWorkerTile(told) {
  const phases = told.workers_by_phase;
  const of = (phase) => phases[phase] ?? 0;
  const there = of("working") + of("idle") + of("draining");
  setText(byId("tile-workers"), count(there));
  const parts = ["working", "idle", "draining", "lost"].filter(of).map((phase) => `${count(of(phase))} ${phase}`);
  setText(byId("tile-workers-note"), parts.join(", "));
  const stalled = there === 0 && told.jobs.some((job) => job.phase === "running");
  byId("tile-workers").classList.toggle("alarm", stalled);
  setText(byId("workers-count"), there || told.workers.length ? `${count(there)} here` : "");
}

function showJobs(told) {
  const nodes = told.jobs.map((job) => {
    if (!jobCards.has(job.job)) jobCards.set(job.job, { node: fromTemplate("job-template"), stages: new Map(), failures: new Map(), facts: new Map() });
    const card = jobCards.get(job.job);
    showJob(card, job, told.coordinator.unix_ms);
    return card.node;
  });
  arrange(byId("job-list"), nodes);
  const known = new Set(told.jobs.map((job) => job.job));
  for (const id of jobCards.keys()) if (!known.has(id)) jobCards.delete(id);
  byId("jobs-none").hidden = told.jobs.length > 0;
  const more = told.jobs_total > told.jobs.length ? `, ${count(told.jobs.length)} shown` : "";
  setText(byId("jobs-count"), told.jobs_total ? count(told.jobs_total) + more : "");
}

function showJob(card, job, nowMs) {
  const at = (selector) => card.node.querySelector(selector);
  setText(at("h3"), job.name);
  badge(at(".badge"), job.phase);
  setText(at(".id"), job.job.slice(0, 12));
  setAttribute(at(".id"), "title", `job ${job.job}`);
  setText(at(".sentence"), sentence(job, nowMs));
  card.node.classList.toggle("over", job.phase !== "running");
  const kinds = job.kinds.filter((kind) => total(kind) > 0);
  arrange(at(".stages"), kinds.map((kind) => showStage(card, kind)));
  showRate(at(".rate"), job);
  showFacts(card, at(".facts"), job);
  showFailures(card, at(".failures"), job);
  announce(job);
}
function sentence(job, nowMs) {
  const units = `${count(sum(job.kinds, done))} of ${plural(sum(job.kinds, total), "unit", "units")} done`;
  if (job.phase !== "running") return `${units}.`;
  const notices = job.notices.map((notice) => ` ${notice}.`).join("");
  if (job.workers === 0) return `No worker holds a unit of this job at the moment.${notices}`;
  const workers = `${plural(job.workers, "worker is", "workers are")} on it`;
  if (job.eta_seconds === null) return `${workers}; too early to tell when it ends.${notices}`;
  return `${workers}; about ${duration(job.eta_seconds)} left, until ${clock(nowMs + job.eta_seconds * 1000, nowMs)}.${notices}`;
}
function announce(job) {
  const before = phasesSeen.get(job.job);
  phasesSeen.set(job.job, job.phase);
  if (before && before !== job.phase) setText(byId("announcer"), `Job ${job.name}: ${job.phase.replaceAll("-", " ")}`);
}
function showStage(card, kind) {
  if (!card.stages.has(kind.kind)) card.stages.set(kind.kind, fromTemplate("stage-template"));
  const node = card.stages.get(kind.kind);
  const all = total(kind);
  const bar = node.querySelector(".bar");
  setText(node.querySelector(".stage-name"), kind.kind);
  setText(node.querySelector(".stage-count"), `${count(kind.committed)} / ${count(all)}`);
  for (const [part, units] of [["done", kind.committed], ["running", kind.leased], ["given-up", kind.failed]]) {
    const style = bar.querySelector(`.${part}`).style;
    style.width = `${(100 * units) / all}%`;
    style.minWidth = units > 0 ? "3px" : "0";
  }
  const notes = [[kind.leased, "at workers"], [kind.cooling, "backing off"], [kind.failed, "given up"]];
  const note = notes.filter(([units]) => units > 0).map(([units, what]) => `${count(units)} ${what}`).join(" · ");
  setText(node.querySelector(".stage-note"), note);
  setAttribute(bar, "aria-label", kind.kind);
  setAttribute(bar, "aria-valuemax", all);
  setAttribute(bar, "aria-valuenow", kind.committed);
  setAttribute(bar, "aria-valuetext", `${count(kind.committed)} of ${count(all)} units done${note ? `, ${note.replaceAll(" · ", ", ")}` : ""}`);
  return node;
}

function showRate(figure, job) {
  const history = job.history;
  const points = history ? history.points : [];
  const rows = points.some((point) => point.rows_per_second > 0);
  const values = points.map((point) => (rows ? point.rows_per_second : point.units_per_minute));
  const unit = rows ? "rows/s" : "units/min";
  const over = job.phase !== "running";
  const now = over || !values.length ? null : rows ? history.rows_per_second : values[values.length - 1];
  const top = values.length ? Math.max(...values) : 0;
  setText(figure.querySelector("strong"), now === null ? "" : `${rate(now)} ${unit}`);
  setText(figure.querySelector("figcaption span"), top > 0 ? `at most ${rate(top)}${now === null ? ` ${unit}` : ""}` : "no rate yet");
  const span = history ? duration(history.interval_seconds * values.length) : "";
  setText(figure.querySelector(".axis span"), values.length ? `${span} ago` : "");
  figure.querySelector(".axis").hidden = values.length < 2 || over;
  const svg = figure.querySelector("svg");
  setAttribute(svg, "aria-label", values.length ? `${unit} over the last ${span}: at most ${rate(top)}${now === null ? "" : `, now ${rate(now)}`}` : "no rate yet");
  const line = path(values, top);
  setAttribute(svg.querySelector(".line"), "d", line);
  setAttribute(svg.querySelector(".area"), "d", line ? `${line} V56 H0 Z` : "");
}
function path(values, top) {
  if (values.length < 2 || top <= 0) return "";
  const x = (i) => ((240 * i) / (values.length - 1)).toFixed(1);
  const y = (value) => (54 - (50 * value) / top).toFixed(1);
  return values.map((value, i) => `${i ? "L" : "M"}${x(i)} ${y(value)}`).join("");
}

function showFacts(card, list, job) {
  const cost = job.cost;
  const over = job.phase !== "running";
  const seconds = cost.useful_seconds + cost.duplicate_seconds + cost.failed_seconds + cost.handed_back_seconds + cost.expired_seconds;
  const facts = [
    ["Rows", job.rows ? `${count(job.rows_done)} of ${count(job.rows)}` : null],
    ["Device time", seconds > 0 ? duration(seconds) : null],
    ["Of it useful", job.efficiency === null ? null : `${fine.format(100 * job.efficiency)} %`],
    ["Spot losses", `${count(cost.leases_expired)} expired, ${count(cost.leases_handed_back)} handed back`],
    ["Computed twice", cost.duplicates ? plural(cost.duplicates, "unit", "units") : null],
    [over ? "Cost" : "Cost so far", cost.spent === null ? null : money(cost.spent, cost.currency)],
    ["Cost at the end", over || cost.estimated_total === null ? null : `about ${money(cost.estimated_total, cost.currency)}`],
  ];
  const nodes = facts.filter(([, value]) => value !== null).map(([name, value]) => {
    if (!card.facts.has(name)) {
      const pair = document.createElement("div");
      pair.append(document.createElement("dt"), document.createElement("dd"));
      pair.firstChild.textContent = name;
      card.facts.set(name, pair);
    }
    const pair = card.facts.get(name);
    setText(pair.lastChild, value);
    return pair;
  });
  arrange(list, nodes);
}

function showFailures(card, details, job) {
  const failed = sum(job.kinds, (kind) => kind.failed);
  details.hidden = failed === 0;
  const shown = job.failures.length < failed ? `, the first ${count(job.failures.length)} shown` : "";
  setText(details.querySelector("summary"), `${plural(failed, "unit", "units")} given up${shown}`);
  // Causes first: what only failed because of another comes behind.
  const follows = (failure) => failure.reason.startsWith("prerequisite ");
  const ordered = [...job.failures.filter((f) => !follows(f)), ...job.failures.filter(follows)];
  const nodes = ordered.map((failure) => {
    if (!card.failures.has(failure.unit)) card.failures.set(failure.unit, fromTemplate("failure-template"));
    const node = card.failures.get(failure.unit);
    setText(node.querySelector("summary"), failure.label || `unit ${failure.unit}`);
    setText(node.querySelector("pre"), failure.reason);
    return node;
  });
  arrange(details.querySelector("ul"), nodes);
}

function showWorkers(told) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const text = (worker) => [worker.worker, worker.host, worker.facts.device, worker.model, worker.unit, worker.phase].join(" ").toLowerCase();
  const shown = told.workers.filter((worker) => !wanted || text(worker).includes(wanted));
  const nodes = shown.map((worker) => {
    if (!workerRows.has(worker.worker)) workerRows.set(worker.worker, fromTemplate("worker-template"));
    const node = workerRows.get(worker.worker);
    showWorker(node, worker);
    return node;
  });
  arrange(byId("worker-rows"), nodes);
  const known = new Set(told.workers.map((worker) => worker.worker));
  for (const id of workerRows.keys()) if (!known.has(id)) workerRows.delete(id);
  byId("worker-table").hidden = told.workers.length === 0;
  byId("filter").parentElement.hidden = told.workers.length === 0;
  byId("workers-none").hidden = told.workers.length > 0;
}
function showWorker(row, worker) {
  const gone = worker.phase === "left" || worker.phase === "lost";
  row.classList.toggle("gone", gone);
  const [name, state, device, model, unit, speed, units, memory, seen] = row.children;
  const put = (cell, main, sub) => {
    setText(cell.querySelector(".main"), main);
    if (sub !== undefined) setText(cell.querySelector(".sub"), sub);
  };
  setAttribute(name, "title", worker.worker);
  put(name, worker.host || worker.worker, worker.host ? worker.worker.replace(`${worker.host}-`, "") : "");
  badge(state.querySelector(".badge"), worker.phase);
  const marks = [worker.is_straggler ? "straggler" : "", worker.leases_lost ? `${plural(worker.leases_lost, "lease", "leases")} lost` : ""];
  setText(state.querySelector(".sub"), marks.filter(Boolean).join(", "));
  put(device, worker.facts.device || worker.facts.device_kind || "–", worker.facts.threads ? plural(worker.facts.threads, "thread", "threads") : "");
  put(model, worker.model ?? "–");
  put(unit, worker.unit ?? "–", worker.unit_seconds === null ? "" : `for ${duration(worker.unit_seconds)}`);
  put(speed, worker.rows_per_second > 0 ? rate(worker.rows_per_second) : "–");
  put(units, count(worker.health.units_done), worker.health.units_failed ? `${count(worker.health.units_failed)} failed` : "");
  const device_memory = worker.health.device_memory_bytes ? `${bytes(worker.health.device_memory_bytes)} on device` : "";
  const spool = worker.health.spool_bytes ? `${bytes(worker.health.spool_bytes)} in spool` : "";
  put(memory, bytes(worker.health.memory_bytes), [device_memory, spool].filter(Boolean).join(", "));
  put(seen, worker.seen_ms_ago < 2000 ? "now" : `${duration(worker.seen_ms_ago / 1000)} ago`);
}

// ---- connection
function showConnection() {
  const now = performance.now();
  const silent = now - (heardAt ?? openedAt);
  const node = byId("connection");
  const lost = silent > SILENT_MS_MAX || lostSince !== null;
  let state = "live";
  let text = "live";
  if (latest?.stopped) {
    state = "lost";
    text = `coordinator stopped: ${latest.stopped}`;
  } else if (lost) {
    state = "lost";
    const ago = duration(Math.max(0, now - (heardAt ?? openedAt)) / 1000);
    text = latest ? `connection lost ${ago} ago; shown is what was known then` : `no answer for ${ago}`;
  } else if (!latest) {
    state = "waiting";
    text = "connecting";
  }
  setAttribute(node, "data-state", state);
  setText(byId("connection-text"), text);
  document.body.classList.toggle("stale", state === "lost");
}
function receive(text) {
  let told;
  try { told = JSON.parse(text); } catch { return; }
  latest = told;
  heardAt = performance.now();
  lostSince = null;
  show();
}
function show() {
  if (!latest) return;
  const { name, epoch, program, uptime_seconds } = latest.coordinator;
  setText(byId("coordinator"), `coordinator ${name} · epoch ${epoch} · up ${duration(uptime_seconds)}`);
  setText(byId("footer-text"), `glmeval ${program}. Rates, losses and costs are those this coordinator saw since its epoch began; the store and its report know the rest.`);
  showTiles(latest);
  showJobs(latest);
  showWorkers(latest);
  showConnection();
}
function connect() {
  source?.close();
  openedAt = performance.now();
  source = new EventSource("/events");
  source.onmessage = (event) => receive(event.data);
  source.onerror = () => {
    lostSince ??= performance.now();
    showConnection();
    if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, RETRY_MS);
  };
}
/** A closed source never comes back by itself: after a restart it is made anew, after a logout the form is due. */
async function reconnect() {
  try {
    const answer = await fetch("/overview.json");
    if (answer.status === 401) { location.assign("/login"); return; }
  } catch { /* not back yet */ }
  connect();
}

addEventListener("DOMContentLoaded", () => {
  const button = byId("theme");
  const label = () => setText(button, `Theme: ${storedTheme()}`);
  label();
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
    try { localStorage.theme = next; } catch { /* kept for this page only */ }
    applyTheme(next);
    label();
  });
  byId("filter").addEventListener("input", () => latest && showWorkers(latest));
  setInterval(showConnection, 1000);
  connect();
});

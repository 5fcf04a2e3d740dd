// The live page: one event a second from /live, drawn. Reconnects for ever; what is stale looks stale.

import { Chart, gauge, money, price } from "./chart.js";

const RANGES = [["15 min", 2, 450], ["1 h", 5, 720], ["4 h", 20, 720]];
const COLUMNS = [["market", "market", ""], ["kind", "kind", ""], ["state", "state", ""], ["trades/s", "rate_hz", "n"], ["last trade", "lag_s", "n"], ["coverage 1 h", "coverage", "n"]];
const PARTS = [["cvd_reset", "CVD reset", 3.5], ["absorption", "absorption", 2.5], ["failed_breakdown", "failed breakdown", 2], ["directional_bias", "directional bias", 2], ["evidence", "evidence", 2]];
const STALE_MS = 4000;

const $ = (id) => document.getElementById(id);
const saved = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null; // storage may be blocked: the page works without it
  }
};
const put = (id, text) => {
  const node = $(id);
  if (node.textContent !== text) node.textContent = text;
};
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

const chart = new Chart($("chart"));
const state = { symbol: saved("sqfd.symbol"), range: Number(saved("sqfd.range") ?? 1) % RANGES.length, now: null, before: null, heard: 0, signals: -1, sort: ["market", 1], retry: 1000, loading: 0 };

// --- connection

function connect() {
  const source = new EventSource("/live");
  source.onopen = () => {
    state.retry = 1000;
    loadChart();
    loadSignals();
  };
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.onerror = () => {
    stale("connection lost: trying again …");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(connect, state.retry);
    state.retry = Math.min(state.retry * 2, 10000);
  };
}

function stale(text) {
  document.body.classList.add("stale");
  $("state").dataset.state = "gone";
  put("state-text", text);
}

setInterval(() => {
  if (state.heard && performance.now() - state.heard > STALE_MS) stale("nothing heard for " + Math.round((performance.now() - state.heard) / 1000) + " s");
}, 1000);

async function get(path) {
  const response = await fetch(path);
  const data = await response.json();
  if (!response.ok) throw new Error(data.error ?? response.statusText);
  return data;
}

async function loadChart() {
  if (!state.symbol) return;
  const [, step, bars] = RANGES[state.range];
  const turn = ++state.loading;
  try {
    const data = await get(`/chart/${encodeURIComponent(state.symbol)}?step=${step}&bars=${bars}`);
    if (turn === state.loading) chart.load(data, bars);
  } catch (error) {
    if (turn === state.loading) put("why", `chart: ${error.message}`);
  }
}

async function loadSignals() {
  try {
    const signals = await get("/signals/recent?limit=200");
    announce(signals);
    state.recent = signals;
    showSignals();
  } catch (error) {
    put("why", `signals: ${error.message}`);
  }
}

function announce(signals) {
  const newest = signals.at(-1);
  if (state.recent && newest && newest.seq !== state.recent.at(-1)?.seq) put("announce", `${newest.action} ${newest.symbol}, score ${newest.score.toFixed(1)}`);
}

// --- once a second

function show(now) {
  const names = Object.keys(now.symbols);
  if (!names.includes(state.symbol)) {
    state.symbol = names[0] ?? null;
    loadChart();
  }
  state.before = state.now && { trades: state.now.trades, at: state.heard };
  state.now = now;
  const at = performance.now();
  document.body.classList.remove("stale");
  showHead(now, names, at);
  state.heard = at;
  if (now.signals !== state.signals) {
    state.signals = now.signals;
    loadSignals();
  }
  showSymbol(now);
  showHealth(now);
  showMarkets(now);
}

function showHead(now, names, at) {
  put("instance", now.instance === "sqfd" ? "" : now.instance);
  document.title = `${state.symbol ?? ""} ${price(now.symbols[state.symbol]?.price)} · sqfd`;
  $("state").dataset.state = now.health.status;
  put("state-text", now.health.status);
  $("why").hidden = !now.health.why;
  put("why", now.health.why);
  put("clock", now.second ? utc(now.second + 1) : "–");
  put("lag", now.lag_s === null ? "–" : `${now.lag_s.toFixed(2)} s`);
  const passed = state.before ? (at - state.before.at) / 1000 : 0;
  if (passed > 0.2) {
    const rate = Math.max(0, now.trades - state.before.trades) / passed;
    state.rate = state.rate === undefined ? rate : state.rate * 0.7 + rate * 0.3;
    put("rate", state.rate.toFixed(0));
  }
  put("live", `${now.markets.filter((market) => market.state === "live").length}/${now.markets.length}`);
  showSymbols(now, names);
}

function showSymbols(now, names) {
  const box = $("symbols");
  if (box.dataset.names !== names.join()) {
    box.dataset.names = names.join();
    box.replaceChildren(...names.map((name) => {
      const button = make("button", { type: "button", "data-symbol": name }, name, make("small"));
      button.addEventListener("click", () => choose(name));
      return button;
    }));
  }
  for (const button of box.children) {
    const told = now.symbols[button.dataset.symbol];
    button.setAttribute("aria-pressed", String(button.dataset.symbol === state.symbol));
    const text = told.position ? (told.position.side > 0 ? "▲" : "▼") + told.score.toFixed(1) : told.score.toFixed(1);
    if (button.lastChild.textContent !== text) button.lastChild.textContent = text;
  }
}

function choose(name) {
  if (!state.now?.symbols[name]) return;
  state.symbol = name;
  saved("sqfd.symbol", name);
  loadChart();
  showHead(state.now, Object.keys(state.now.symbols), performance.now());
  showSymbol(state.now);
  showSignals();
}

function showSymbol(now) {
  const told = now.symbols[state.symbol];
  put("symbol", state.symbol ?? "no symbol");
  if (!told) return;
  put("price", price(told.price));
  if (chart.data?.symbol === state.symbol && !chart.tick(now.second, told)) loadChart();
  const last = (chart.data?.time.length ?? 0) - 1;
  put("cvd-spot", last < 0 ? "–" : money(chart.data.spot[last]));
  put("cvd-perp", last < 0 ? "–" : money(chart.data.perp[last]));
  const needed = told.phases.scoring?.needed ?? 4;
  gauge($("gauge"), told.score, needed);
  showParts(told.score_breakdown);
  showPhases(told.phases);
  put("words", told.words);
  $("gates").replaceChildren(...told.gates.map((gate) => make("li", { class: gate.passed ? "passed" : null }, `${gate.name.replaceAll("_", " ")}: ${gate.words}`)));
}


function showParts(parts) {
  $("parts").replaceChildren(...PARTS.filter(([key]) => key !== "evidence" || parts[key]).map(([key, name, most]) => {
    const value = parts[key] ?? 0;
    const label = `${name} ${value.toFixed(2)}`;
    return make("div", {}, make("dt", {}, name), make("dd", {}, value.toFixed(2)), make("meter", { min: 0, max: most, value, "aria-label": label }));
  }));
}

const SIDES = { LONG_SQUEEZE: "long", SHORT_SQUEEZE: "short", long: "long", short: "short", enough: "ok", hold: "ok", close: "warn" };

function showPhases(phases) {
  const told = {
    context: (p) => [p.verdict.replaceAll("_", " ").toLowerCase(), `${signed(p.value)} of ±${p.threshold}${p.duration ? ` · ${String(p.duration).toLowerCase()}` : ""}${p.funding_8h_bps === undefined ? "" : ` · funding ${signed(p.funding_8h_bps)} bp in 8 h`}`],
    divergence: (p) => [p.verdict, p.age_s === null ? nearest(p.windows) : `strength ${p.strength.toFixed(2)} · ${p.age_s ? `held ${p.age_s} s ago` : "holds now"}`],
    reset: (p) => [p.verdict, `${Math.round(Math.max(p.alignment, 0) * 100)} % aligned · convergence ${p.convergence.toFixed(2)}${p.age_s ? ` · ${p.age_s} s ago` : ""}`],
    scoring: (p) => [p.verdict, `${p.score.toFixed(2)} of ${p.needed}`],
    exits: (p) => [p.verdict, p.reasons.length ? p.reasons.join(", ").replaceAll("_", " ") : "no exit holds"],
  };
  const rows = Object.entries(told).map(([name, tell]) => {
    const phase = phases[name];
    const [verdict, numbers] = phase ? tell(phase) : ["warming up", ""];
    const light = phase ? SIDES[phase.verdict] ?? "off" : "off";
    return make("li", { class: "light", "data-state": light }, make("b", {}, name), make("span", {}, make("em", {}, verdict), ` ${numbers}`));
  });
  $("phases").replaceChildren(...rows);
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const nearest = (windows) => {
  const best = windows.reduce((a, b) => (a.gap_needed - Math.abs(a.gap) <= b.gap_needed - Math.abs(b.gap) ? a : b));
  return `gap ${signed(best.gap)} of ${best.gap_needed.toFixed(2)} in ${best.window_s} s`;
};

function showSignals() {
  const all = state.recent ?? [];
  chart.mark(all.filter((signal) => signal.base_symbol === state.symbol));
  if (!all.length) return;
  const rows = all.slice(-50).reverse().map((signal) => make("tr", {},
    make("td", {}, signal.timestamp.slice(5, 19).replace("T", " ")),
    make("td", { class: signal.action === "LONG" ? "up" : signal.action === "SHORT" ? "down" : null }, `${signal.action === "LONG" ? "▲" : signal.action === "SHORT" ? "▼" : "✕"} ${signal.action} ${signal.base_symbol}`),
    make("td", { class: "n" }, price(signal.price)),
    make("td", { class: "n" }, signal.score.toFixed(1)),
    make("td", {}, signal.reasoning)));
  $("signals").replaceChildren(...rows);
}

function showHealth(now) {
  $("health").replaceChildren(...now.health.components.map((part) => {
    const ago = Math.max(0, Date.now() - part.since_ms) / 1000;
    const since = ago < 60 ? `${Math.round(ago)} s` : ago < 7200 ? `${Math.round(ago / 60)} min` : `${Math.round(ago / 3600)} h`;
    return make("li", { class: "light", "data-state": part.state }, make("span", {}, make("em", {}, `${part.name.replace("feed:", "")} ${part.state}`), ` for ${since}`, part.why ? ` — ${part.why}` : ""));
  }));
}

function showMarkets(now) {
  const wanted = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [key, way] = state.sort;
  const compare = (a, b) => (typeof a[key] === "number" || typeof b[key] === "number" ? (a[key] ?? Infinity) - (b[key] ?? Infinity) : String(a[key]).localeCompare(String(b[key])));
  const rows = now.markets
    .filter((market) => wanted.every((word) => `${market.market} ${market.kind} ${market.state} ${market.base}`.toLowerCase().includes(word)))
    .sort((a, b) => way * compare(a, b))
    .map((market) => make("tr", {},
      make("td", {}, make("span", { class: "exchange" }, `${market.exchange}:`), market.market.slice(market.exchange.length + 1)), make("td", {}, market.kind),
      make("td", { class: market.state === "live" ? "up" : "down" }, market.state, market.reason ? make("small", {}, ` ${market.reason}`) : ""),
      make("td", { class: "n" }, market.rate_hz.toFixed(2)), make("td", { class: "n" }, market.lag_s === null ? "–" : `${market.lag_s.toFixed(1)} s`),
      make("td", { class: "n" }, `${(market.coverage * 100).toFixed(1)} %`)));
  $("markets").tBodies[0].replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { colspan: COLUMNS.length, class: "none" }, "no market matches"))]));
}

// --- controls

function headers() {
  $("markets").tHead.rows[0].replaceChildren(...COLUMNS.map(([title, key, kind]) => {
    const way = state.sort[0] === key ? state.sort[1] : 0;
    const button = make("button", { type: "button" }, title + (way > 0 ? " ▲" : way < 0 ? " ▼" : ""));
    button.addEventListener("click", () => {
      state.sort = [key, state.sort[0] === key ? -state.sort[1] : 1];
      headers();
      if (state.now) showMarkets(state.now);
      $("markets").tHead.rows[0].cells[COLUMNS.findIndex((column) => column[1] === key)].firstChild.focus();
    });
    return make("th", { scope: "col", class: kind, "aria-sort": way > 0 ? "ascending" : way < 0 ? "descending" : "none" }, button);
  }));
}

function ranges() {
  $("ranges").replaceChildren(...RANGES.map(([name], index) => {
    const button = make("button", { type: "button", "aria-pressed": String(index === state.range) }, name);
    button.addEventListener("click", () => range(index));
    return button;
  }));
}

function range(index) {
  state.range = index;
  saved("sqfd.range", String(index));
  for (const [at, button] of [...$("ranges").children].entries()) button.setAttribute("aria-pressed", String(at === index));
  loadChart();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  chart.draw();
  if (state.now) showSymbol(state.now);
}

function switchTheme() {
  const name = document.documentElement.dataset.theme === "light" ? "dark" : "light";
  saved("sqfd.theme", name);
  theme(name);
}

const system = matchMedia("(prefers-color-scheme: light)");
system.addEventListener("change", () => {
  if (!saved("sqfd.theme")) theme(system.matches ? "light" : "dark");
});
document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey || press.target.matches("input")) return;
  if (press.key >= "1" && press.key <= "9") choose(Object.keys(state.now?.symbols ?? {})[Number(press.key) - 1]);
  else if (press.key === "t") switchTheme();
  else if (press.key === "r") range((state.range + 1) % RANGES.length);
  else if (press.key === "/") {
    press.preventDefault();
    $("filter").focus();
  }
});
$("theme").addEventListener("click", switchTheme);
$("filter").addEventListener("input", () => state.now && showMarkets(state.now));
theme(saved("sqfd.theme") ?? (system.matches ? "light" : "dark"));
headers();
ranges();
connect();

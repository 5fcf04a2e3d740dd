// The price and CVD chart, and the score gauge. Data in, plotly traces out; knows nothing of the page around it.

const DAY_MS = 86_400_000;
const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["bg", "card", "line", "text", "soft", "up", "down", "spot", "perp", "warn"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
}

export function money(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const [unit, name] = size >= 1e9 ? [1e9, "B"] : size >= 1e6 ? [1e6, "M"] : size >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${value < 0 ? "−" : "+"}${(size / unit).toFixed(size >= 1e3 ? 2 : 0)}${name}`;
}

export function price(value) {
  if (value === undefined || value === null) return "–";
  const digits = value >= 1000 ? 2 : value >= 1 ? 4 : 8;
  return value.toLocaleString("en-US", { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits });
}

// The element's own label says what is seen; the shapes inside would only be noise to a screen reader.
function quiet(element) {
  for (const svg of element.querySelectorAll("svg")) svg.setAttribute("aria-hidden", "true");
}

export class Chart {
  constructor(element) {
    this.element = element;
    this.data = null;
    this.signals = [];
    this.second = 0;
  }

  load(data, bars) {
    this.data = data;
    this.bars = bars;
    this.second = 0;
    this.draw();
  }

  // One closed second: it belongs to the last candle, or begins a new one. Returns false where seconds are missing.
  tick(second, now) {
    const data = this.data;
    if (!data || !data.time.length || now.price === undefined) return true;
    const step = data.step_s;
    const time = Math.floor(second / step) * step;
    const last = data.time.length - 1;
    if (second <= this.second || time < data.time[last]) return true;
    const whole = this.second === 0 || second === this.second + 1;
    if (this.second === 0) {
      this.second = second; // the loaded candles may hold this second already
      return true;
    }
    this.second = second;
    if (time > data.time[last]) {
      for (const [name, value] of [["time", time], ["open", now.price], ["high", now.high], ["low", now.low], ["close", now.price]]) data[name].push(value);
      data.spot.push(data.spot[last] + now.spot_delta);
      data.perp.push(data.perp[last] + now.perp_delta);
      if (data.time.length > this.bars) for (const name of ["time", "open", "high", "low", "close", "spot", "perp"]) data[name].shift();
    } else {
      data.high[last] = Math.max(data.high[last], now.high);
      data.low[last] = Math.min(data.low[last], now.low);
      data.close[last] = now.price;
      data.spot[last] += now.spot_delta;
      data.perp[last] += now.perp_delta;
    }
    this.draw();
    return whole;
  }

  mark(signals) {
    this.signals = signals;
    this.draw();
  }

  // The newest entry that no exit followed: its price is drawn until now.
  entry() {
    const last = this.signals.at(-1);
    return last && last.action !== "CLOSE" && this.data.time.length ? last : null;
  }

  draw() {
    if (!this.data || !window.Plotly) return;
    const c = colours();
    const data = this.data;
    const x = data.time.map((second) => second * 1000);
    const inView = this.signals.filter((signal) => x.length && signal.second * 1000 >= x[0]);
    const candles = { type: "candlestick", x, open: data.open, high: data.high, low: data.low, close: data.close, name: "price", yaxis: "y", showlegend: false,
      increasing: { line: { color: c.up, width: 1 }, fillcolor: c.up }, decreasing: { line: { color: c.down, width: 1 }, fillcolor: c.down }, hoverlabel: { namelength: 0 } };
    const line = (name, values, color) => ({ type: "scatter", mode: "lines", x, y: values, name, yaxis: "y2", line: { color, width: 1.6 }, hovertemplate: "%{y:,.0f}" });
    const traces = [candles, line("spot CVD", data.spot, c.spot), line("perp CVD", data.perp, c.perp)];
    for (const [action, symbol, color] of [["LONG", "triangle-up", c.up], ["SHORT", "triangle-down", c.down], ["CLOSE", "x", c.warn]]) {
      const chosen = inView.filter((signal) => signal.action === action);
      traces.push({ type: "scatter", mode: "markers", name: action, yaxis: "y", x: chosen.map((s) => s.second * 1000), y: chosen.map((s) => s.price),
        text: chosen.map((s) => `${s.action} · score ${s.score.toFixed(1)}`), hovertemplate: "%{text}<extra></extra>", showlegend: false,
        marker: { symbol, size: 12, color, line: { color: c.text, width: 1 } } });
    }
    const entry = this.entry();
    const shapes = entry ? [{ type: "line", xref: "x", yref: "y", x0: Math.max(entry.second * 1000, x[0]), x1: x[x.length - 1], y0: entry.price, y1: entry.price, line: { color: entry.action === "LONG" ? c.up : c.down, width: 1.2, dash: "dot" } }] : [];
    const axis = { gridcolor: c.line, zerolinecolor: c.soft, tickfont: { color: c.soft, size: 11 }, side: "right", automargin: true };
    const layout = {
      paper_bgcolor: c.card, plot_bgcolor: c.card, font: { color: c.text, family: "system-ui, sans-serif" }, margin: { l: 6, r: 54, t: 6, b: 24 },
      xaxis: { ...axis, type: "date", rangeslider: { visible: false }, anchor: "y2", side: "bottom" },
      yaxis: { ...axis, domain: [0.36, 1], tickformat: data.close[0] > 1000 ? ",.0f" : undefined },
      yaxis2: { ...axis, domain: [0, 0.32], tickformat: "~s", zeroline: true },
      legend: { orientation: "h", x: 0, y: 0.34, yanchor: "middle", font: { size: 11, color: c.soft }, bgcolor: "rgba(0,0,0,0)" },
      hovermode: "x unified", hoverlabel: { bgcolor: c.card, bordercolor: c.line, font: { color: c.text } }, dragmode: false,
      shapes, uirevision: data.symbol + data.step_s, datarevision: Date.now() % DAY_MS,
    };
    window.Plotly.react(this.element, traces, layout, CONFIG);
    quiet(this.element);
    this.describe();
  }

  describe() {
    const data = this.data;
    const last = data.time.length - 1;
    if (last < 0) return this.element.setAttribute("aria-label", "Chart: no price yet");
    const minutes = Math.round(((last + 1) * data.step_s) / 60);
    const change = (data.close[last] / data.open[0] - 1) * 100;
    this.element.setAttribute(
      "aria-label",
      `${data.symbol} over ${minutes} minutes: ${price(data.close[last])}, ${change >= 0 ? "up" : "down"} ${Math.abs(change).toFixed(2)} percent; spot CVD ${money(data.spot[last])}, perp CVD ${money(data.perp[last])}`,
    );
  }
}

export function gauge(element, score, needed) {
  if (!window.Plotly) return;
  const c = colours();
  const color = score >= needed ? c.up : c.spot;
  const trace = { type: "indicator", mode: "gauge+number", value: score, number: { valueformat: ".1f", font: { size: 26, color: c.text } },
    gauge: { axis: { range: [0, 10], tickvals: [0, 5, 10], tickfont: { size: 10, color: c.soft } }, bar: { color, thickness: 0.75 }, bgcolor: c.line, borderwidth: 0,
      threshold: { value: needed, line: { color: c.text, width: 2 }, thickness: 1 } } };
  const layout = { paper_bgcolor: c.card, margin: { l: 20, r: 26, t: 12, b: 4 }, font: { family: "system-ui, sans-serif" } };
  window.Plotly.react(element, [trace], layout, CONFIG);
  quiet(element);
  element.setAttribute("aria-label", `Score ${score.toFixed(1)} of 10; ${needed} are needed for an entry`);
}

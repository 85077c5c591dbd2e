"use strict";
// The page stands without this: it adds the choice of function, zoom, and a readout under pointer and keys.
(() => {
  const source = document.getElementById("series");
  if (!source) return;
  const series = JSON.parse(source.textContent);
  const charts = [...document.querySelectorAll(".chart")];
  const readout = document.querySelector(".readout");
  const buckets = series.channels[0].ok.length;
  let shown = 0;
  let bucket = null;

  document.querySelector(".controls").hidden = false;
  readout.hidden = false;

  const count = (value) => (value / series.width).toLocaleString("en", { maximumFractionDigits: 1 });
  const latency = (value) => (value === null ? "none" : `${value.toLocaleString("en", { maximumFractionDigits: 1 })} ms`);
  const within = (spans, from, to) => spans.filter(([, start, end]) => start < to && end > from).map(([name]) => name);

  function figures(index) {
    const channel = series.channels[shown];
    const from = index * series.width, to = from + series.width;
    const total = channel.ok[index] + channel.fail[index] + channel.unknown[index];
    const faults = [...new Set(within(series.faults, from, to))].join(" ");
    return [
      ["second", series.width === 1 ? `${from}` : `${from} to ${to}`],
      ["phase", within(series.phases, from, to).join(", ") || "none"],
      ["fault", faults || "none"],
      ["ok/s", count(channel.ok[index])],
      ["failed/s", count(channel.fail[index])],
      ["unknown/s", count(channel.unknown[index])],
      ["success", total ? `${(100 * channel.ok[index] / total).toFixed(1)} %` : "none due"],
      ["p50", latency(channel.p50[index])],
      ["p99", latency(channel.p99[index])],
    ];
  }

  function show(index) {
    bucket = index;
    for (const chart of charts) {
      const cursor = chart.querySelector(".cursor");
      cursor.hidden = index === null;
      if (index !== null) cursor.style.left = `${100 * (index + 0.5) / buckets}%`;
    }
    if (index === null) {
      const hint = document.createElement("dt");
      hint.textContent = "Point at the chart, or focus it and use the arrow keys, to read one second's figures.";
      readout.replaceChildren(hint);
      return;
    }
    const items = figures(index);
    readout.replaceChildren(...items.map(([label, text]) => {
      const pair = document.createElement("div");
      const term = document.createElement("dt"), figure = document.createElement("dd");
      term.textContent = label;
      figure.textContent = text;
      pair.append(term, figure);
      return pair;
    }));
    const plot = charts[shown].querySelector(".plot");
    plot.setAttribute("aria-valuenow", String(index * series.width));
    plot.setAttribute("aria-valuetext", items.map((item) => item.join(" ")).join(", "));
  }

  function keyed(event) {
    const now = bucket ?? 0;
    const moves = {
      ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: bucket === null ? 0 : now + 1, ArrowUp: now + 1,
      PageUp: now + 10, PageDown: now - 10, Home: 0, End: buckets - 1,
    };
    if (event.key === "Escape") return show(null);
    if (!(event.key in moves)) return undefined;
    event.preventDefault();
    show(Math.min(Math.max(moves[event.key], 0), buckets - 1));
    const scroll = event.currentTarget.parentElement;
    const at = (bucket + 0.5) / buckets * event.currentTarget.clientWidth;
    if (at < scroll.scrollLeft || at > scroll.scrollLeft + scroll.clientWidth) {
      scroll.scrollLeft = at - scroll.clientWidth / 2;
    }
    return undefined;
  }

  for (const chart of charts) {
    const plot = chart.querySelector(".plot");
    plot.tabIndex = 0;
    plot.setAttribute("role", "slider");
    plot.setAttribute("aria-label", `Read the figures of ${chart.querySelector("figcaption").textContent} second by second`);
    plot.setAttribute("aria-valuemin", "0");
    plot.setAttribute("aria-valuemax", String((buckets - 1) * series.width));
    plot.setAttribute("aria-valuenow", "0");
    plot.addEventListener("keydown", keyed);
    const point = (event) => {
      const box = plot.getBoundingClientRect();
      const index = Math.floor((event.clientX - box.left) / box.width * buckets);
      show(Math.min(Math.max(index, 0), buckets - 1));
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
  }
  for (const choice of document.querySelectorAll("input[name=function]")) {
    choice.addEventListener("change", () => {
      shown = Number(choice.value);
      charts.forEach((chart, index) => { chart.hidden = index !== shown; });
      show(bucket);
    });
  }
  for (const choice of document.querySelectorAll("input[name=zoom]")) {
    choice.addEventListener("change", () => {
      document.documentElement.style.setProperty("--zoom", choice.value);
    });
  }
  show(null);

  // A closed counter-example would be missing on paper.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((item) => { item.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((item) => { item.open = false; }));
})();
